"""Whatever stands in a stranger's file, what comes back is of the promised type or one line that says why not."""

import json
import os
import socket
import stat

import pytest

from ablate.core import foreign_files
from ablate.core.foreign_files import DEPTH, IDS, parse_json, read_bytes, read_json, require_plain, tokens_of


def refused(work, *arguments) -> str:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        work(*arguments)
    return str(error.value)


def test_what_is_no_file_is_named_and_never_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)
        server.bind("socket")
    names = {"pipe": "a pipe", "folder": "a folder", "link": "a pipe", "socket": "a socket", "/dev/zero": "a device"}
    for name, kind in names.items():
        for work in (lambda path: require_plain(path), lambda path: read_bytes(path, 10), read_json):
            assert refused(work, tmp_path / name).startswith(kind)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "absent")


def test_size_is_bounded_before_a_byte_is_kept(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(2**40)
    assert stat.S_ISREG(require_plain(path).st_mode)
    assert "1,099,511,627,776 bytes, wanted 10 at most" in refused(read_bytes, path, 10)
    path.write_bytes(b"x" * 10)
    assert read_bytes(path, 10) == b"x" * 10


@pytest.mark.parametrize("levels", [1, DEPTH, DEPTH + 1, 900, 100_000])
@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_bounded(levels, brackets):
    opened, closed = brackets
    raw = opened * levels + (b"1" if opened != b"[" else b"") + closed * levels
    if levels <= DEPTH:
        assert parse_json(raw) == json.loads(raw)
    else:
        assert refused(parse_json, raw) == f"it is no JSON of at most {DEPTH} levels"


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"1" * 5000, b'{"a": "\\ud800"}', b'{"\\uD900": 1}'])
def test_other_content_is_refused(raw):
    refused(parse_json, raw)


def test_empty_lists_by_the_million_are_refused_before_they_are_made(monkeypatch):
    monkeypatch.setattr(foreign_files, "PARTS", 10)
    assert "more than 10 lists" in refused(parse_json, b"[" + b"[]," * 10 + b"1]")
    assert parse_json(b"[" + b"[]," * 9 + b"1]") == [[]] * 9 + [1]
    assert parse_json(b'"\\ud83d\\ude42"') == "🙂"


def added(**changes):
    return [{"id": 2, "content": "<x>", "special": True} | changes]


def test_tokens_of_a_tokenizer():
    parts = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": added()}
    assert tokens_of(parts) == ({"a": 0, "b": 1, "<x>": 2}, {2})
    assert tokens_of({"model": {"vocab": [["a", -1.0], ["b", 0]]}}) == ({"a": 0, "b": 1}, set())


@pytest.mark.parametrize(
    "parts",
    [
        3,
        [],
        {},
        {"model": []},
        {"model": {"vocab": 1}},
        {"model": {"vocab": {}}},
        *({"model": {"vocab": {"a": id}}} for id in (-1, 10**9, 10**15, IDS, 1.0, "1", None, True, [], {})),
        *({"model": {"vocab": [entry]}} for entry in (3, [], [1, 2], [["a"]], {})),
        *({"model": {"vocab": {"a": 0}}, "added_tokens": wrong} for wrong in (3, "x", [3], {"a": 1}, [None])),
        *(
            {"model": {"vocab": {"a": 0}}, "added_tokens": added(**wrong)}
            for wrong in ({"id": 10**9}, {"id": "2"}, {"content": 3}, {"special": "yes"})
        ),
    ],
)
def test_what_is_no_token_is_refused(parts):
    assert len(refused(tokens_of, parts)) < 200

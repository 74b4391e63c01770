"""Folders of strangers: what is no file is not opened, a link leads nowhere else, little does not become much."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ablate.core.corpus import Domain
from ablate.text import column_files, dataset_build, readers, sources
from ablate.text.corpora import Text
from ablate.text.readers import cut, rows
from ablate.text.sources import Shelf, folder_shelf
from tests.text.prose import fill, prose


def told(shelf: Shelf) -> dict[str, str]:
    """Reasons by file, of files that are not opened and of those that cannot be used."""
    found = {}
    for bundle in shelf.bundles(Domain.new):
        for i, item in bundle.found():
            if item.problem:
                found[bundle.pieces[i].name] = item.problem
    return found | dict(shelf.barred)


def texts(shelf: Shelf) -> list[str]:
    return [text for bundle in shelf.bundles(Domain.new) for text in bundle.texts()]


def text_of(folder: Path, **fields: object) -> Text:
    place = folder.parent
    return Text(
        folder=str(folder), length=8, answer=2, general=str(place / "general"), cache=str(place / "c"), **fields
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["x.txt", "x.jsonl", "x.parquet", "state.json"])
def test_pipes_are_named_and_not_waited_for(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = fill(tmp_path / "new", 0)
    fill(tmp_path / "general", 100)
    os.mkfifo(new / name)
    text_of(new).check()
    said = capsys.readouterr().err
    assert said == ("" if name == "state.json" else f"corpus: not used: {new / name}: a pipe, wanted a file\n")


def test_links_out_of_the_folder_are_followed_only_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = fill(tmp_path / "new", 0)
    fill(tmp_path / "general", 100)
    (tmp_path / "secret").write_text(prose(55))
    (new / "out.txt").symlink_to(tmp_path / "secret")
    (new / "within.md").symlink_to(new / "0.txt")
    (new / "zero.txt").symlink_to("/dev/zero")
    (new / "loop.txt").symlink_to(new / "loop.txt")
    kept = folder_shelf(str(new))
    assert prose(55) not in texts(kept)
    assert texts(kept).count(prose(0)) == 2
    reason = "a link out of the folder; type corpus.follow=true to read it"
    assert told(kept)["out.txt"] == reason
    assert told(kept)["zero.txt"] == "a device, wanted a file"
    assert "symbolic links" in told(kept)["loop.txt"]
    assert prose(55) in texts(folder_shelf(str(new), follow=True))
    text_of(new).check()
    assert f"{new / 'out.txt'}: {reason}" in capsys.readouterr().err
    assert text_of(new).fingerprint() != text_of(new, follow=True).fingerprint()


def test_a_saved_data_set_names_files_of_its_own_folder_alone(tmp_path: Path) -> None:
    names = '"x.arrow", "../x.arrow", "/etc/passwd.arrow", "passwd", "..", "a\\u0000.arrow", 3, null, ["x.arrow"]'
    files = ", ".join(f'{{"filename": {name}}}' for name in names.split(", "))
    (tmp_path / "state.json").write_text(f'{{"_data_files": [{files}]}}')
    assert folder_shelf(str(tmp_path)).names == ("x.arrow",)
    for content in (
        "[" * 100_000,
        "[1]",
        '{"_data_files": 3}',
        '{"_data_files": [3]}',
        '{"_data_files": {"a": 1}}',
        "",
    ):
        (tmp_path / "state.json").write_text(content)
        assert folder_shelf(str(tmp_path)).names == ()


def parquet(path: Path, values: list, **how: object) -> Path:
    pq.write_table(pa.table({"text": values}), path, **how)
    return path


LONG = "".join(map(str, range(25_000)))
BOMBS = {
    "one text many times": ([LONG] * 300, {"compression": "zstd"}),
    "one large page": ([" a" * 2**20], {"compression": "zstd", "use_dictionary": False}),
    "rows of next to nothing": (["a"] * 2**14, {"compression": "zstd"}),
    "shared beginnings": (
        [LONG + str(i) for i in range(100)],
        {"compression": "zstd", "use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}},
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_makes_much_is_not_read_to_its_end(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BUNDLE", 2**19)
    monkeypatch.setattr(column_files, "DECODED", 2**20)
    values, how = BOMBS[name]
    path = parquet(tmp_path / "x.parquet", values, **how)
    (tmp_path / "y.txt").write_text(prose(7))
    most = max(2**20, 100 * path.stat().st_size)
    assert sum(map(len, values)) + sources.COST * len(values) > most
    shelf = folder_shelf(str(tmp_path))
    found = texts(shelf)
    assert prose(7) in found
    found.remove(prose(7))
    assert sum(len(text) + sources.COST for text in found) <= most
    assert re.search(r"makes (more than )?[\d,]+ (characters|bytes)", told(shelf)["x.parquet"])


def test_many_such_files_share_the_room_of_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BUNDLE", 2**14)
    monkeypatch.setattr(sources, "GROWTH", 0)
    for i in range(30):
        (tmp_path / f"{i}.txt").write_text("word " * 1300 + str(i))
    bundle = next(folder_shelf(str(tmp_path)).bundles(Domain.new))
    assert len(list(bundle.texts())) == len(bundle.pieces)
    monkeypatch.setattr(sources, "ROOM", 0)
    assert list(bundle.texts()) == []


def test_a_large_row_is_passed_over_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "ROW", 40)
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(f'{{"text": "{"x" * n}"}}' for n in (1, 100, 27, 28, 29, 5000, 3)))
    for limit in (10, 37, 10**6):
        found = [item for piece in cut(path, "x.jsonl", limit) for item in rows(path, piece)]
        assert [len(item.text) for item in found if item.text] == [1, 27, 3]
        assert {item.problem for item in found if item.problem} == {"more than 40 bytes"}
        assert len(found) == 7


@pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet", "arrow"])
def test_a_terabyte_of_nothing_is_told_at_once(kind: str, tmp_path: Path) -> None:
    with (tmp_path / f"x.{kind}").open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "x.arrow"}]}')
    assert f"x.{kind}" in told(folder_shelf(str(tmp_path)))


def test_columns_of_other_types_and_compressed_streams_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for column in (pa.array([1]), pa.array([["a"]]), pa.array([b"a"]), pa.array([{"text": "a"}]), pa.nulls(1)):
        pq.write_table(pa.table({"text": column}), path)
        with pytest.raises(ValueError, match="no strings in the column `text`"):
            list(column_files.parquet(path, 0, None))
    path = tmp_path / "x.arrow"
    for column in (pa.array(["a"] * 9), pa.array(["a"] * 9).dictionary_encode()):
        for compression in (None, "zstd", "lz4"):
            options = pa.ipc.IpcWriteOptions(compression=compression)
            table = pa.table({"text": column})
            with path.open("wb") as file, pa.ipc.new_stream(file, table.schema, options=options) as stream:
                stream.write_table(table)
            if compression:
                with pytest.raises(ValueError, match="compressed, wanted what datasets saves"):
                    list(column_files.arrow(path, 0, None))
            else:
                assert list(column_files.arrow(path, 0, None)) == ["a"] * 9


def test_what_is_small_on_disk_alone_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = fill(tmp_path / "new", 0)
    fill(tmp_path / "general", 100)
    wanted = text_of(new).fingerprint()
    begun = dataset_build.Build.__init__
    monkeypatch.setattr(dataset_build.Build, "__init__", lambda self, *a: begun(self, *a, room=3000))
    other = text_of(new)
    other.cache = str(tmp_path / "d")
    assert other.fingerprint() == wanted

"""Manifests: any wrong type is one line; what they vouch for is checked, and never torn by a kill."""

import json
import shutil

import pytest

from ablate.core.manifest import MANIFEST, is_vouched, load, read_vouched, replace, require_shape, write_manifest
from ablate.core.storage import Damaged, write_bytes
from tests.dying import dying

RUN = {"arm": str, "seconds": (int, float), "weights": (str, type(None))}
SHAPE = {"name": str, "seeds": [int], "runs": {...: RUN}}
RIGHT = {"name": "x", "seeds": [1, 2], "runs": {"a": {"arm": "b", "seconds": 1.5, "weights": None}}, "more": [{}]}


def wrong(value, shape):
    """The value with each part in turn of another type or missing."""
    kinds = () if isinstance(shape, dict | list) else shape
    for other in (None, True, 1, "x", [None], {"x": None}):
        if isinstance(other, bool) or not isinstance(other, kinds):
            yield other
    if isinstance(shape, dict):
        for key in value if ... in shape else shape:
            if ... not in shape:
                yield {name: part for name, part in value.items() if name != key}
            for part in wrong(value[key], shape.get(key, shape.get(...))):
                yield value | {key: part}
    elif isinstance(shape, list):
        for part in wrong(value[0], shape[0]):
            yield [part, *value[1:]]


@pytest.mark.parametrize("content", [json.dumps(one) for one in wrong(RIGHT, SHAPE)])
def test_a_part_of_another_type_is_named_in_one_line(tmp_path, content):
    path = tmp_path / MANIFEST
    require_shape(RIGHT, SHAPE)
    path.write_text(content)
    with pytest.raises(Damaged, match=rf"^{path}: wanted a manifest, got a damaged file \(content[^\n]*$"):
        load(path, SHAPE)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'"x"', b"\0" * 10, b"[1]", b"1e999"])
def test_what_is_no_manifest_is_damaged(tmp_path, content):
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(Damaged, match="damaged file"):
        load(tmp_path / MANIFEST, SHAPE)


def write(folder, content):
    files = {name: lambda path, name=name: path.write_bytes(content + name.encode()) for name in ("a", "b")}
    replace(folder, files, {"said": content.decode()})


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"files": [1]}'])
def test_a_damaged_manifest_is_replaced(tmp_path, content):
    (tmp_path / MANIFEST).write_bytes(content)
    replace(tmp_path, {"rows": lambda path: path.write_bytes(b"rows")}, {"name": "x"})
    assert read_vouched(tmp_path / "rows") == b"rows"
    assert load(tmp_path / MANIFEST, {"files": {"rows": str}})["name"] == "x"


def test_a_flipped_bit_of_a_manifest_is_found_or_changes_nothing(tmp_path):
    write_manifest(tmp_path, RIGHT)
    path = tmp_path / MANIFEST
    content, found = path.read_bytes(), 0
    assert load(path, SHAPE) == RIGHT
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            known = load(path, SHAPE)
        except Damaged:
            found += 1
        else:
            assert {key: known[key] for key in RIGHT} == RIGHT
    assert found > 6 * len(content)
    path.write_text(json.dumps(RIGHT))  # of an earlier version
    assert load(path, SHAPE) == RIGHT


def test_every_flipped_bit_is_found(tmp_path):
    write(tmp_path, b"one")
    file = tmp_path / "a"
    content = read_vouched(file)
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        with pytest.raises(Damaged, match=r"a: wanted the content that manifest.json vouches for, got damaged content"):
            read_vouched(file)
    file.write_bytes(content)
    assert is_vouched(file)
    write_bytes(tmp_path / "c", b"nobody vouches for it")
    assert is_vouched(tmp_path / "c")
    assert not is_vouched(tmp_path / "d")


def test_a_kill_at_any_operation_of_a_replacement_leaves_files_that_are_vouched_for(tmp_path):
    with dying(tmp_path / "whole") as death:
        write(tmp_path / "whole", b"one")
        first = death.count
        write(tmp_path / "whole", b"two")
        total = death.count
    assert total - first > 10
    for at in range(1, total + 1):
        folder = tmp_path / str(at)
        with dying(folder, at):
            write(folder, b"one")
            write(folder, b"two")
        for name in ("a", "b"):
            if at > first:
                assert read_vouched(folder / name) in (b"one" + name.encode(), b"two" + name.encode())
            elif (folder / name).exists():
                assert is_vouched(folder / name)
        write(folder, b"three")
        assert read_vouched(folder / "b") == b"threeb"
        assert load(folder / MANIFEST, {}).keys() == {"said", "files"}
        shutil.rmtree(folder)

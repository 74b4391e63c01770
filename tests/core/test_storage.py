"""Files are whole or as they were, and nothing temporary is left."""

import pytest

from ablate.core.storage import whole_file, whole_folder, write_bytes


def test_a_file_is_replaced_when_the_block_ends_well(tmp_path):
    path = tmp_path / "new" / "file"
    write_bytes(path, b"old")
    with whole_file(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_stays_where_the_block_raises_or_removes_it(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with pytest.raises(ZeroDivisionError), whole_file(path) as temporary:
        temporary.write_bytes(b"%d" % (temporary.write_bytes(b"half") // 0))
    with whole_file(path) as temporary:
        temporary.unlink()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_whole_or_as_it_was(tmp_path):
    folder = tmp_path / "folder"
    with whole_folder(folder) as fresh:
        write_bytes(fresh / "a", b"1")
    with pytest.raises(ZeroDivisionError), whole_folder(folder) as fresh:
        write_bytes(fresh / "b", b"%d" % (1 // 0))
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert list(tmp_path.iterdir()) == [folder]

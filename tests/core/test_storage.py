"""Files are whole or as they were, and nothing temporary is left."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ablate.core.storage import whole_file, whole_folder, write_bytes
from tests import ROOT


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


def left_behind(folder, whole):
    """A process writes a file or a folder and is killed at it; its name for it."""
    code = (
        "import os, signal, sys; from pathlib import Path; from ablate.core.storage import whole_file, whole_folder\n"
        f"with {whole.__name__}(Path(sys.argv[1]) / 'x') as new: print(new, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    path = Path(done.stdout.strip())
    assert path.exists()
    return path


def test_what_a_killed_process_left_is_removed_by_the_next_that_writes_there(tmp_path):
    left = [left_behind(tmp_path, whole) for whole in (whole_file, whole_folder)]
    assert left[1].exists()
    assert not left[0].exists(), "the second process found what the first one left"
    write_bytes(tmp_path / "other", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_what_a_live_process_writes_or_another_machine_is_left_alone(tmp_path):
    far = tmp_path / ".x.elsewhere.0123abcd.new"
    far.write_text("")
    with whole_file(tmp_path / "x") as one, whole_folder(tmp_path / "y") as two, whole_file(tmp_path / "x") as three:
        one.write_text("one")
        write_bytes(tmp_path / "other", b"1")
        assert one.exists()
        assert two.exists()
        assert three.exists()
        three.write_text("three")
    assert sorted(path.name for path in tmp_path.iterdir()) == [far.name, "other", "x", "y"]
    assert (tmp_path / "x").read_text() == "one"


def test_processes_that_write_one_folder_at_once_do_not_remove_each_others_files(tmp_path):
    """Each makes many files, and looks for what others left at every one."""

    def work(number):
        for step in range(100):
            write_bytes(tmp_path / f"{number}-{step % 5}", bytes([step]))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}-{i}" for n in range(4) for i in range(5)]
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {bytes([95 + i]) for i in range(5)}


def test_a_folder_whose_replacement_was_cut_off_comes_back(tmp_path):
    with whole_folder(tmp_path / "x") as fresh:
        write_bytes(fresh / "a", b"1")
    (tmp_path / "x").rename(tmp_path / ".x.old")  # the first of the two renames
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "x"):
        raise ZeroDivisionError
    assert (tmp_path / "x" / "a").read_bytes() == b"1"

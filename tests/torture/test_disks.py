"""Disks that are full, read-only or in the way: one line, exit 2, nothing lost, and the same command goes on."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.torture.commands import COMMANDS, Command, output_of
from tests.torture.counts import chosen, number, part
from tests.torture.judge import require_said
from tests.torture.operations import Operations
from tests.torture.warm import do, start

every_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
OWN_MOUNTS = 0x20000  # CLONE_NEWNS
ROOM = "size=256m"
PRECIOUS = "somebody's only copy"
CACHES = {"base", ".base", "cache", "checkpoints"}  # what can be made again is replaced


@pytest.fixture(scope="module")
def mounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where this process may not mount a disk; where it may, its disks are its own and go with it."""
    ctypes.CDLL(None).unshare(OWN_MOUNTS)
    subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, check=False)
    folder = tmp_path_factory.mktemp("mount")
    done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no right to mount a tmpfs here")
    subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def disk(folder: Path) -> Iterator[Callable[[str], None]]:
    """A disk of its own in the folder; a function that mounts it anew with other options."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", ROOM, "tmpfs", str(folder)], check=True)
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True) and None
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def kilobytes(folder: Path) -> int:
    info = os.statvfs(folder)
    return (info.f_blocks - info.f_bfree) * info.f_frsize // 1024


@pytest.mark.usefixtures("mounts")
@every_command
def test_a_disk_of_some_kilobytes(command: Command, tmp_path: Path) -> None:
    with part(f"disks: {command.name}, full") as tried, disk(tmp_path / "disk") as mounted:
        place = command.laid(tmp_path / "disk" / "place")
        laid = kilobytes(place)
        assert command.typed(place).code == 0
        needed = kilobytes(place) - laid
        for room in chosen(range(4, needed, 4 if command.share == 1 else 40), command.share):
            with tried.case(f"{room} of {needed} kB"):
                mounted(ROOM)
                place = command.laid(tmp_path / "disk" / "place")
                output_of(place).unlink(missing_ok=True)
                mounted(f"size={kilobytes(place) + room}k")
                ended = do(command.work(place), tmp_path / f"said-{room}")
                mounted(ROOM)
                require_said(ended, place)
                command.require_unharmed(place)


@pytest.mark.usefixtures("mounts")
@every_command
def test_a_read_only_disk(command: Command, tmp_path: Path) -> None:
    """Read-only from the start, and from a kill on."""
    total = len(command.calm[1])
    with part(f"disks: {command.name}, read-only") as tried, disk(tmp_path / "disk") as mounted:
        for end in chosen(range(1, total + 1, 1 if command.share == 1 else 10), command.share):
            with tried.case(f"from operation {end} on"):
                mounted(f"rw,{ROOM}")
                place = command.laid(tmp_path / "disk" / "place")
                killed = start(command.work(place), tmp_path / "said", Operations(place, end, True).begin)
                killed.wait()
                killed.settle()
                mounted("ro")
                ended = do(command.work(place), tmp_path / f"said-{end}")
                mounted(f"rw,{ROOM}")
                require_said(ended, place)
                command.require_unharmed(place)


def limited(size: int) -> None:
    """No file of this process becomes larger, apart from that of what it says, which another process writes."""
    said, says = os.pipe()
    if not os.fork():
        os.close(says)
        while words := os.read(said, 2**16):
            os.write(1, words)
        os._exit(0)
    for stream in (1, 2):
        os.dup2(says, stream)
    os.close(said), os.close(says)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@every_command
def test_a_limit_of_a_files_size(command: Command, tmp_path: Path) -> None:
    """As by `ulimit -f`: the system refuses what goes beyond."""
    draw = random.Random(command.name)
    with part(f"disks: {command.name}, limited file size") as tried:
        for _ in range(number(command.share)):
            size = int(2 ** draw.uniform(10, 17))
            with tried.case(f"{size} bytes"):
                place = command.laid(tmp_path / "place")
                output_of(place).unlink(missing_ok=True)
                ended = command.typed(place, partial(limited, size))
                require_said(ended, place)
                command.require_unharmed(place)


@every_command
def test_a_folder_for_a_file_and_a_file_for_a_folder(command: Command, tmp_path: Path) -> None:
    """Something of another kind lies where the command would read or write, in a new place and in one where it was
    killed. What is not the command's stays."""
    fresh = names(command.laid(tmp_path / "fresh"))
    assert command.typed(tmp_path / "fresh").code == 0
    kinds = {name: (tmp_path / "fresh" / name).is_dir() for name in sorted(names(tmp_path / "fresh") - fresh)}
    half = len(command.calm[1]) * 2 // 3
    with part(f"disks: {command.name}, other kinds in the way") as tried:
        for i, name in enumerate(chosen([n for n in kinds if known(n)], command.share)):
            with tried.case(f"{'a file' if kinds[name] else 'a folder'} in place of {name}"):
                place = command.laid(tmp_path / "place")
                if i % 2:
                    killed = start(command.work(place), output_of(place), Operations(place, half, True).begin)
                    killed.wait()
                    killed.settle()
                in_the_way(command, place, place / name, kinds[name], tmp_path / "aside")


def in_the_way(command: Command, place: Path, path: Path, folder: bool, aside: Path) -> None:
    made = [above for above in path.relative_to(place).parents if not (place / above).exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    moved = path.exists()
    shutil.rmtree(aside) if aside.is_dir() else aside.unlink(missing_ok=True)
    if moved:
        path.rename(aside)
    precious = path if folder else path / "precious"
    precious.parent.mkdir(exist_ok=True)
    precious.write_text(PRECIOUS)
    output_of(place).unlink(missing_ok=True)
    well = require_said(command.typed(place), place)
    if not set(path.relative_to(place).parts) & CACHES:
        assert precious.is_file(), f"what lay there is gone, exit {0 if well else 2}"
        assert precious.read_text() == PRECIOUS, "what lay there was changed"
    for found in [precious, *place.rglob("precious")]:  # it may lie elsewhere by now, with the cache that it lay in
        if found.is_file() and found.read_text() == PRECIOUS:
            found.unlink()
            for empty in [*([] if folder else [found.parent]), *(place / above for above in made)]:
                with suppress(OSError):  # the command has put something there
                    empty.rmdir()
    if moved and not path.exists():
        aside.rename(path)
    command.require_unharmed(place)


def names(place: Path) -> set[str]:
    return {path.relative_to(place).as_posix() for path in place.rglob("*")}


def known(name: str) -> bool:
    """Is it a name that would be the same in another folder?"""
    return "journal.log.lock" not in name and "trials/" not in name

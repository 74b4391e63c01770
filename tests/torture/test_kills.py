"""Kills: whenever a command dies, the same command typed again leaves what an undisturbed one leaves, bit for bit.

It dies before an operation on a file, with its whole group or alone; in the middle of a write; at any moment; twice.
"""

from __future__ import annotations

import random
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.torture.commands import COMMANDS, WORDS, Command, output_of, require_equal, state_of_run
from tests.torture.counts import chosen, number, part
from tests.torture.operations import Operations
from tests.torture.warm import do, run_script, start

LONG_BASE = "budget.base_tokens=20000"  # a base model long enough in training for others to wait
every_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


def killed_at(command: Command, place: Path, end: int, everyone: bool) -> bool:
    """Types the command, which dies at an operation: False where it came to its end before. What it had started goes
    on, unless everyone dies."""
    seen = Operations(place, end, everyone)
    child = start(command.work(place), output_of(place), seen.begin)
    ended = child.wait()
    child.settle()
    assert seen.died or ended.code == 0, ended.error
    return seen.died


@every_command
def test_at_every_operation(command: Command, tmp_path: Path) -> None:
    numbers = range(1, len(command.calm[1]) + 1)
    with part(f"kills: {command.name}, every operation") as tried:
        for end in chosen(numbers, command.share):
            with tried.case(f"before operation {end}, {command.calm[1][end - 1]}"):
                place = command.laid(tmp_path / "place")
                killed_at(command, place, end, everyone=end % 2 == 0)
                command.require_unharmed(place)


@every_command
def test_at_two_operations(command: Command, tmp_path: Path) -> None:
    """The second kill meets the command as it goes on after the first."""
    total, pairs = len(command.calm[1]), {"run": 50, "text": 20}.get(command.name, 10)
    draw = random.Random(command.name)
    drawn = [(draw.randint(1, total), draw.random()) for _ in range(pairs)]
    with part(f"kills: {command.name}, two operations") as tried:
        for first, share in chosen(drawn, command.share):
            second = 1 + int(share * (total - first))
            with tried.case(f"before operation {first}, then {second}"):
                place = command.laid(tmp_path / "place")
                killed_at(command, place, first, everyone=True)
                killed_at(command, place, second, everyone=True)
                command.require_unharmed(place)


def test_twice_around_the_replacement_of_a_checkpoint(tmp_path: Path) -> None:
    """Every pair: the first kill where a checkpoint is put into place or later, the second at each operation on
    checkpoints of what goes on."""
    command, lines = COMMANDS["run"], COMMANDS["run"].calm[1]
    whole = [i for i, line in enumerate(lines, 1) if re.fullmatch(r"rename run/checkpoints/\.\d+-\d+", line)]
    window = sorted(
        {n for at in whole for n in range(at - 1, at + 8) if n <= len(lines)} | set(range(whole[-1], len(lines) + 1))
    )
    with part("kills: run, every pair around a checkpoint's replacement") as tried:
        for first in chosen(window, 1):
            before = command.laid(tmp_path / "before")
            killed_at(command, before, first, everyone=True)
            for second in chosen(resumed(command, before, tmp_path), 1 / 3):
                with tried.case(f"before operation {first}, {lines[first - 1]}, then {second}"):
                    place = copied(before, tmp_path / "place")
                    killed_at(command, place, second, everyone=True)
                    command.require_unharmed(place)


def copied(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(source, target, symlinks=True)


def resumed(command: Command, before: Path, tmp_path: Path) -> list[int]:
    """Numbers of the operations on checkpoints that the command makes as it goes on from a folder."""
    place, log = copied(before, tmp_path / "place"), tmp_path / "log"
    log.unlink(missing_ok=True)
    ended = command.typed(place, Operations(place, log=log).begin)
    assert ended.code == 0, ended.error
    lines = log.read_text().splitlines()
    touched = [i for i, line in enumerate(lines, 1) if "checkpoints" in line]
    return sorted({n for i in touched for n in (i, i + 1) if n <= len(lines)})


def dies_in_a_write(size: int) -> Callable[[], None]:
    """The process dies where any of its files would grow beyond so many bytes: that file then has them exactly."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limited


@every_command
def test_in_the_middle_of_a_write(command: Command, tmp_path: Path) -> None:
    draw = random.Random(command.name)
    sizes = [int(2 ** draw.uniform(0, 17)) for _ in range(number(command.share))]
    with part(f"kills: {command.name}, in a write") as tried:
        for size in sizes:
            with tried.case(f"a file of {size} bytes"):
                place = command.laid(tmp_path / "place")
                child = start(command.work(place), Path("/dev/null"), dies_in_a_write(size))
                child.wait()
                child.settle()
                command.require_unharmed(place)


@every_command
def test_at_random_moments(command: Command, tmp_path: Path) -> None:
    draw = random.Random(command.name)
    seconds = command.calm[2]
    with part(f"kills: {command.name}, at random moments") as tried:
        for _ in range(number(command.share)):
            moment, everyone = draw.uniform(0, seconds), draw.random() < 0.5
            with tried.case(f"after {moment:.3f} of {seconds:.3f} s, {'everyone' if everyone else 'alone'}"):
                place = command.laid(tmp_path / "place")
                child = start(command.work(place), output_of(place))
                time.sleep(moment)
                if everyone:
                    child.kill()
                else:
                    child.send(signal.SIGKILL)
                    child.settle()
                command.require_unharmed(place)


def test_of_four_that_need_one_base_the_one_that_trains_it(tmp_path: Path) -> None:
    """Three wait; one of them then trains it, and all end as if nothing had been."""
    with part("kills: who trains a base while three wait") as tried:
        for i in range(number(1 / 3)):
            with tried.case(f"round {i}"):
                four_runs(tmp_path / str(i))


def four_runs(home: Path) -> None:
    home.mkdir()

    def typed(name: str, cache: str) -> Callable[[], None]:
        return lambda: run_script("run.py", [*WORDS, LONG_BASE, f"out={home}/{name}", f"cache={home}/{cache}"])

    calm = do(typed("calm", "base-calm"), home / "calm.said")
    assert calm.code == 0, calm.error
    names = ["a", "b", "c", "d"]
    children = {name: start(typed(name, "base"), home / f"{name}.said") for name in names}
    end = time.monotonic() + 60
    while sum("waiting for another" in child.said for child in children.values()) < 3:
        assert time.monotonic() < end, "three did not wait"
        time.sleep(0.01)
    (trains,) = (name for name, child in children.items() if "waiting for another" not in child.said)
    children[trains].kill()
    for name, child in children.items():
        ended = child.wait()
        assert name == trains or ended.code == 0, ended.error
    again = do(typed(trains, "base"), home / "again.said")
    assert again.code == 0, again.error
    for name in names:
        require_equal(state_of_run(home / name), state_of_run(home / "calm"))

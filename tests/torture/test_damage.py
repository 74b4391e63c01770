"""Damage: a file that is cut, flipped, empty, gone or another's is named in one line, or does no harm.

No harm: weights, records and all else that the command leaves are as if nothing had been.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from ablate.core.manifest import MANIFEST
from ablate.training.run_manifest import RunError
from tests.torture.commands import (
    COMMANDS,
    PACK_WORDS,
    SEEDS,
    Command,
    State,
    output_of,
    require_equal,
    state_of_runs,
)
from tests.torture.counts import chosen, number, part
from tests.torture.judge import require_said
from tests.torture.operations import Operations
from tests.torture.warm import do, run_script, start

TENTHS, THOUSANDTHS = 10, 1000
INPUTS = ("new", "general")  # a corpus is what it is


@dataclass(frozen=True)
class Damaged:
    """A file of a folder, and what becomes of it. other: the same file of another seed, where there is one."""

    file: Path
    kind: str
    at: int = 0

    def harm(self, place: Path, other: Path) -> bool:
        """False where the file is as it was."""
        path = place / self.file
        before = path.read_bytes()
        if self.kind == "missing":
            path.unlink()
            return True
        if self.kind == "another's":
            path.write_bytes((other / self.file).read_bytes())
        elif self.kind == "empty":
            path.write_bytes(b"")
        elif self.kind == "cut":
            path.write_bytes(before[: len(before) * self.at // TENTHS])
        else:
            content = bytearray(before)
            content[len(content) * self.at // THOUSANDTHS] ^= 1 << self.at % 8
            path.write_bytes(content)
        return path.read_bytes() != before

    def __str__(self) -> str:
        share = {"cut": f" at {self.at} of {TENTHS}", "flipped": f" at {self.at} of {THOUSANDTHS}"}.get(self.kind, "")
        return f"{self.file}: {self.kind}{share}"


def damages(place: Path, other: Path, share: float) -> Iterator[Damaged]:
    """What can become of each file that is no lock and no log. Of the thousand flips of a bit, one a round is drawn."""
    for path in sorted(path for path in place.rglob("*") if path.is_file() and not path.is_symlink()):
        file = path.relative_to(place)
        if path.name.endswith(".lock") or ".logs" in file.parts or file.parts[0] in INPUTS or not path.stat().st_size:
            continue
        yield Damaged(file, "missing")
        yield Damaged(file, "empty")
        if (other / file).is_file() and (other / file).read_bytes() != path.read_bytes():
            yield Damaged(file, "another's")
        yield from (Damaged(file, "cut", at) for at in range(1, TENTHS))
        flips = random.Random(path.name).sample(range(THOUSANDTHS), min(THOUSANDTHS, number(share)))
        yield from (Damaged(file, "flipped", at) for at in flips)


def finished(command: Command, place: Path) -> Path:
    command.laid(place)
    ended = command.typed(place)
    assert ended.code == 0, ended.error
    return place


def interrupted(command: Command, place: Path) -> Path:
    """Killed where two thirds of its operations are done."""
    command.laid(place)
    half = Operations(place, len(command.calm[1]) * 2 // 3, True)
    child = start(command.work(place), output_of(place), half.begin)
    child.wait()
    child.settle()
    return place


def another(command: Command) -> Command:
    """The same command with another seed."""

    def seeded(place: Path) -> None:
        from tests.torture import commands

        for words in (commands.WORDS, commands.SWEEP_WORDS):
            words[:] = [word.replace("seeds=[100]", "seeds=[101]") for word in words]
        commands.WORDS.append("seed=1")
        command.go(place)

    return replace(command, go=seeded)


STATES = {"finished": finished, "interrupted": interrupted}
CASES = [(name, state) for name in COMMANDS for state in STATES if (name, state) != ("base", "interrupted")]


@pytest.mark.parametrize(("name", "state"), CASES, ids=[f"{name}-{state}" for name, state in CASES])
def test_a_damaged_file_is_named_or_harmless(name: str, state: str, tmp_path: Path) -> None:
    command, make = COMMANDS[name], STATES[state]
    whole = make(command, tmp_path / "whole")
    other = finished(another(command), tmp_path / "other") if name == "run" else tmp_path / "none"
    order = list(damages(whole, other, command.share / 3 if command.share < 1 else 1))
    random.Random(name).shuffle(order)
    with part(f"damage: {name}, {state}") as tried:
        for damage in chosen(order, 2 if command.share == 1 else 2 / 3):
            with tried.case(str(damage)):
                judge(command, whole, tmp_path / "place", other, damage)


def judge(command: Command, whole: Path, place: Path, other: Path, damage: Damaged) -> None:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place, symlinks=True)
    if not damage.harm(place, other):
        return
    if damage.file.parts[0] == "runs":  # what a study or a sweep has in results it does not read again
        shutil.rmtree(place / "results", ignore_errors=True)
    output_of(place).unlink(missing_ok=True)
    if require_said(command.typed(place), place, named=damage.file.parts[0]):
        require_harmless(command, place)
        return
    (place / damage.file).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(whole / damage.file, place / damage.file)
    command.require_unharmed(place, partial(gone_on_alone, command, whole, place))


def gone_on_alone(command: Command, whole: Path, place: Path) -> State:
    """Of runs that ended without their pack, as all checkpoints of another were damaged: what each leaves where it is
    typed by itself. Its rounding is not that of the pack."""
    found: State = {}
    for manifest in sorted(whole.glob(f"runs/*/{MANIFEST}")):
        label, began = manifest.parent.name, json.loads(manifest.read_text())["pack"]
        if began == json.loads((place / "runs" / label / MANIFEST).read_text())["pack"]:
            continue
        apart = place.with_name("apart")
        shutil.rmtree(apart, ignore_errors=True)
        shutil.copytree(whole, apart, symlinks=True)
        for other in set(began) - {label}:
            shutil.rmtree(apart / "runs" / other)
        words = [label.split("-")[-2].replace("seed", "seed=") if word == SEEDS else word for word in PACK_WORDS]
        ended = replace(command, go=lambda _, words=words: run_script("run.py", words)).typed(apart)
        assert ended.code == 0, ended.error
        found |= state_of_runs(apart)
    return found


def require_harmless(command: Command, place: Path) -> None:
    """Raises AssertionError where what the command says is not as if nothing had been. A finished run does not read
    its checkpoint: what does must refuse it."""
    wanted, read = command.calm[0], command.found or command.state
    try:
        found = read(place)
    except RunError:
        exported = do(lambda: run_script("export.py", [f"{place}/run", f"out={place}/out"]), place / "exported")
        assert not require_said(exported, place, named="checkpoints"), "a damaged checkpoint was exported"
        return
    require_equal(found, {key: wanted[key] for key in found})

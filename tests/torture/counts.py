"""How many cases each part of the suite tried and lost: one JSON line a part, and the table of them.

A line {"done": test} says that a test passed, so that a run of the suite can go on in another sitting.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ablate.core.provenance import code_version
from tests import ROOT

ROUNDS = int(os.environ.get("TORTURE_ROUNDS", "3"))
ALL = ROUNDS >= 100  # then every case of what can be enumerated is tried
FILE = Path(os.environ.get("TORTURE_COUNTS") or ROOT / "build" / "torture.jsonl")
SHOWN = 5  # lost cases that a failure names
Case = TypeVar("Case")


def number(a_round: float) -> int:
    """How many drawn cases there are with so many a round: one at the least."""
    return max(1, int(ROUNDS * a_round))


def chosen(cases: Sequence[Case], a_round: float) -> list[Case]:
    """All cases where everything is tried, else so many a round, spread over all: the same ones at every call."""
    count = min(len(cases), number(a_round))
    if ALL or count == len(cases):
        return list(cases)
    return [cases[i] for i in sorted(random.Random(len(cases)).sample(range(len(cases)), count))]


@dataclass
class Part:
    """A part of the suite at work. lost: what is wrong with each lost case, in a line."""

    name: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    @contextmanager
    def case(self, what: str) -> Iterator[None]:
        """A case that is lost where the block asserts in vain, or meets a damaged file; the part goes on."""
        self.tried += 1
        try:
            yield
        except (AssertionError, ValueError, OSError) as error:
            self.lost.append(f"{what}: {' '.join(str(error).split())[:600]}")

    def say(self) -> None:
        """Appends the part's line to the file, whatever other processes append."""
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        line = {"part": self.name, "test": test, "tried": self.tried, "lost": len(self.lost)}
        line |= {"seconds": round(time.monotonic() - self.begun, 1), "rounds": ROUNDS, "examples": self.lost[:SHOWN]}
        code = code_version()
        write({**line, "commit": str(code["commit"])[:7] + "+" * bool(code["dirty"])})


def write(line: dict[str, Any]) -> None:
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with FILE.open("a") as file:
        file.write(json.dumps(line) + "\n")


def done(lines: list[str]) -> set[str]:
    """Tests that have passed."""
    return {line["done"] for line in map(json.loads, lines) if "done" in line}


def resumed(lines: list[str]) -> list[str]:
    """The lines without the parts of tests that have not passed, which are tried again as a whole."""
    passed = done(lines)
    return [line for line in lines if json.loads(line).get("test", next(iter(passed), "")) in passed]


@contextmanager
def part(name: str) -> Iterator[Part]:
    """A part, whose counts are written when the block ends. Raises AssertionError where a case was lost, and where
    none was tried."""
    one = Part(name)
    try:
        yield one
    finally:
        one.say()
    shown = "".join(f"\n  {line}" for line in one.lost[:SHOWN])
    assert not one.lost, f"{name}: {len(one.lost)} of {one.tried} lost{shown}"
    assert one.tried, f"{name}: nothing was tried"


def read(lines: list[str]) -> list[dict[str, Any]]:
    """The lines of a file, in the order of the parts' names."""
    return sorted((one for one in map(json.loads, lines) if "part" in one), key=lambda one: one["part"])


def page(lines: list[str]) -> str:
    """The same as the table of docs/reliability.md."""
    rows = ["| part | test | tried | lost |", "|---|---|---:|---:|"]
    parts = read(lines)
    rows += [f"| {p['part']} | `{p['test'].partition('[')[0]}` | {p['tried']} | {p['lost']} |" for p in parts]
    rows += [f"| all | | {sum(p['tried'] for p in parts)} | {sum(p['lost'] for p in parts)} |"]
    rounds, commits = (", ".join(dict.fromkeys(str(p[name]) for p in parts)) for name in ("rounds", "commit"))
    hours = sum(p["seconds"] for p in parts) / 3600
    return "\n".join([f"Rounds: {rounds}. Hours of one process: {hours:.1f}. Commits: {commits}.", "", *rows])


def table(lines: list[str]) -> str:
    """The same as it is printed."""
    parts = read(lines)
    width = max([4, *(len(one["part"]) for one in parts)])
    rows = [f"{'part':<{width}} {'tried':>7} {'lost':>6} {'seconds':>8}"]
    rows += [f"{one['part']:<{width}} {one['tried']:>7} {one['lost']:>6} {one['seconds']:>8}" for one in parts]
    total = [sum(one[name] for one in parts) for name in ("tried", "lost", "seconds")]
    return "\n".join([*rows, f"{'all':<{width}} {total[0]:>7} {total[1]:>6} {total[2]:>8.1f}"])

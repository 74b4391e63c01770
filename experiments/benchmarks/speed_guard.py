"""Ratios of speed beside those of an earlier file: they are to hold on the same processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from experiments.benchmarks.study_speed import ratios

LEAST = 0.9  # of an earlier ratio


def compare(now: Path, before: Path | None) -> tuple[Table, bool]:
    """A line for each ratio that both files have, and whether none fell below LEAST of what it was, or the processors
    differ. before: the committed file of this kind of machine by default. Raises ValueError for a file that cannot be
    read, or that is none of `bench.py study`."""
    new = _read(now)
    machine = new["machine"]
    old = _read(before or Path("benchmarks") / f"study-{machine['cores']}-cores-{machine['instructions']}.json".lower())
    same = machine["processor"] == old["machine"]["processor"]
    held, lines = True, Table("", "before", "now", "now / before", box=box.SIMPLE, title=_title(machine, old, same))
    known = ratios(old)
    for name, value in ratios(new).items():
        if name in known:
            share = value / known[name]
            held &= share >= LEAST
            lines.add_row(name, f"{known[name]:.2f}", f"{value:.2f}", f"{share:.2f}" + " fell" * (share < LEAST))
    return lines, held or not same


def _title(machine: dict[str, Any], old: dict[str, Any], same: bool) -> str:
    if same:
        return f"{machine['processor']}: wanted {LEAST:g} of each ratio before"
    return f"{machine['processor']} beside {old['machine']['processor']}: reported alone"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        ratios(found)
        _ = [found["machine"][name] for name in ("processor", "cores", "instructions")]
    except OSError as error:
        raise ValueError(f"{path}: wanted a file of bench.py study, got: {error.strerror}; name another") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{path}: wanted a file of bench.py study, got another; type bench.py study --out {path.name}"
        ) from None
    return found

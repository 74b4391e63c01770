"""Question: which ingredient of the mask-rate warmup tames the first gradients, the cap or the dropped weight?

Command: `python experiments/warmup.py [FOLDER] [--out FILE.csv]`. Cost: seconds, no GPU. Reads the rows of the study
warmup (`python experiments/study.py study=warmup`) and prints what each ingredient does. The arms are a 2x2: cap on or
off, weight dropped or kept; W1 to W4 in predictions.yaml were written before any data.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

import argparse
from pathlib import Path
from typing import Any

from rich.table import Table

from ablate.core import records
from ablate.core.storage import write_bytes
from ablate.core.terminal import terminal
from ablate.core.validation import UsageError
from experiments.cli.guard import guarded, refuse
from experiments.cli.places import require_place
from experiments.reports.warmup_effects import ARMS, EFFECTS, of_study

Frame = Any  # a pandas frame, whose columns no type checker knows
CAPTION = (
    "Arms: mean over seeds (of logarithms where effects are ratios). Effects of cap and drop: mean over the other's "
    "two levels; interaction: what both do beyond that. x: a factor, +: a difference; 95% t-intervals over seeds. "
    "Norms before clipping: as trained (divided by all tokens), and per scored token. Steps count from the switch."
)


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 when the tables were printed, 2 for bad input."""
    asked = _parser().parse_args(arguments)
    try:
        if asked.out is not None:
            require_place(asked.out.parent, "--out")
        rows = records.read(asked.folder, records.STUDY)
        found = of_study(rows)
        if asked.out is not None:
            write_bytes(asked.out, found.to_csv(index=False).encode())
    except (UsageError, ValueError, OSError) as error:
        return refuse(error)
    console = terminal()
    console.width = max(console.width, 160)  # a number cut short is lost
    corpora = rows.groupby("condition")["corpus"].first()
    for (condition, end), part in found.groupby(["condition", "end"], sort=False):
        steps, seeds = part["steps"].iloc[0], part["seeds"].max()
        console.print(table(part, f"{corpora[condition]}: warmup of {end} of {steps} steps, {seeds} seed(s)"))
    if asked.out is not None:
        console.print(f"  {asked.out}", soft_wrap=True, highlight=False)
    return 0


def table(found: Frame, title: str) -> Table:
    """A line per quantity: the four arms, then what each ingredient does."""
    out = Table(
        title=title, title_justify="left", show_edge=False, pad_edge=False, caption=CAPTION, caption_justify="left"
    )
    for i, name in enumerate(["", *ARMS, *EFFECTS]):
        out.add_column(name, justify="right" if i else "left", no_wrap=True)
    for quantity, part in found.groupby("quantity", sort=False):
        line = part.set_index("name")
        out.add_row(str(quantity), *(_level(line, arm) for arm in ARMS), *(_effect(line, name) for name in EFFECTS))
    return out


def _level(line: Frame, arm: str) -> str:
    return f"{line.loc[arm, 'value']:.3g}" if arm in line.index else "–"


def _effect(line: Frame, name: str) -> str:
    """A factor or a difference with its interval, where there are seeds enough for one."""
    if name not in line.index:
        return "–"
    at, sign = line.loc[name], "x" if line.loc[name, "ratio"] else "+"
    span = f" ({at['low']:.2g}..{at['high']:.2g})" if at["low"] == at["low"] else ""
    return f"{sign} {at['value']:.2g}{span}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="What the cap and the dropped weight of a mask-rate warmup do, from the rows of the study warmup.",
        epilog="example: python experiments/warmup.py results/warmup --out effects.csv",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("results/warmup"),
        metavar="FOLDER",
        help="rows of the study (results/warmup)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="also write the effects there")
    return parser


if __name__ == "__main__":
    guarded(main)

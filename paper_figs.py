"""Every figure by name: `python paper_figs.py [name ...] [--from RUN ...] [--survey FOLDER]` writes PDF and PNG into
figures/out/."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ablate import records
from figures import (
    candidates_by_law,
    excess_bits,
    learning_cost,
    paper_training_dynamics,
    paper_warmup,
    style,
    training_dynamics,
)

OUT = Path(__file__).parent / "figures" / "out"


def draw_training_dynamics(rows: pd.DataFrame) -> Figure:
    """Training dynamics of score, or of bits per byte where the runs read real text."""
    return training_dynamics.draw(rows, metric=training_dynamics.headline(rows))


FROM_PAPER: dict[str, Callable[[], Figure]] = {
    "paper_training_dynamics": paper_training_dynamics.draw,
    "paper_warmup": paper_warmup.draw,
}
FROM_RUNS: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "training_dynamics": draw_training_dynamics,
    "excess_bits": excess_bits.draw,
}
FROM_SURVEY: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "candidates_by_law": candidates_by_law.draw,
    "learning_cost": learning_cost.draw,
}
NAMES = [*FROM_PAPER, *FROM_RUNS, *FROM_SURVEY]
NEEDS = {
    **dict.fromkeys(FROM_RUNS, "--from runs/NAME [runs/NAME ...]"),
    **dict.fromkeys(FROM_SURVEY, "--survey runs/knowledge-NAME"),
}
EXAMPLES = """\
examples:
  python paper_figs.py                                   the figures that need no run
  python paper_figs.py --from runs/*                     those, and the figures of these runs
  python paper_figs.py training_dynamics --from runs/A   one figure of one run
  python paper_figs.py --survey runs/knowledge-A         the figures of a survey
"""


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 when every figure asked for was written, 2 for bad input."""
    asked = _parser().parse_args(arguments)
    unknown = [name for name in asked.names if name not in NAMES]
    if unknown:
        return _refuse(f"figure {', '.join(unknown)}: unknown; wanted one of {', '.join(NAMES)}")
    names = asked.names or NAMES
    try:
        rows = _read(asked.runs, asked.survey)
        if asked.runs and not asked.names and not (rows["excess_bits"]["metric"] == "excess_bits").any():
            names = [name for name in names if name != "excess_bits"]
            print("excess_bits: not drawn, these runs have no exact oracle")
        waiting = [name for name in names if name in NEEDS and name not in rows]
        if asked.names and waiting:
            missing = "; ".join(f"{name}: needs rows; type {NEEDS[name]}" for name in waiting)
            return _refuse(f"figure {missing}")
        drawn = {name: _draw(name, rows) for name in names if name not in waiting}
        for name, figure in drawn.items():
            print(*style.save(figure, OUT / name), sep="\n")
    except (ValueError, OSError) as error:
        return _refuse(str(error))
    for name in waiting:
        print(f"{name}: not drawn, it needs {NEEDS[name]}")
    return 0


def _read(runs: list[str], survey: str) -> dict[str, pd.DataFrame]:
    """Rows by the figures that can be drawn from what was named. ValueError for what cannot be read."""
    rows = dict.fromkeys(FROM_RUNS, records.gather(runs)) if runs else {}
    return rows | dict.fromkeys(FROM_SURVEY, records.read(survey, records.SURVEY)) if survey else rows


def _draw(name: str, rows: dict[str, pd.DataFrame]) -> Figure:
    return FROM_PAPER[name]() if name in FROM_PAPER else {**FROM_RUNS, **FROM_SURVEY}[name](rows[name])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Draws figures as PDF and PNG into figures/out/. All of them, unless some are named.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(NAMES)}")
    parser.add_argument(
        "--from",
        dest="runs",
        nargs="+",
        metavar="RUN",
        default=[],
        help=f"run folders, arms and seeds of one corpus, for {' and '.join(FROM_RUNS)}",
    )
    parser.add_argument(
        "--survey",
        metavar="FOLDER",
        default="",
        help=f"folder that experiments/knowledge.py has written, for {' and '.join(FROM_SURVEY)}",
    )
    return parser


def _refuse(message: str) -> int:
    print(f"paper_figs: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())

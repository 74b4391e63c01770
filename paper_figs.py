"""Every figure by name: `python paper_figs.py [name ...] [--from RUN ...]` writes PDF and PNG into figures/out/."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ablate import records
from figures import excess_bits, paper_training_dynamics, style, training_dynamics

OUT = Path(__file__).parent / "figures" / "out"


def draw_training_dynamics(rows: pd.DataFrame) -> Figure:
    """Training dynamics of score, or of bits per byte where the runs read real text."""
    return training_dynamics.draw(rows, metric=training_dynamics.headline(rows))


FROM_PAPER: dict[str, Callable[[], Figure]] = {"paper_training_dynamics": paper_training_dynamics.draw}
FROM_RUNS: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "training_dynamics": draw_training_dynamics,
    "excess_bits": excess_bits.draw,
}
NAMES = [*FROM_PAPER, *FROM_RUNS]
EXAMPLES = """\
examples:
  python paper_figs.py                                   the figures that need no run
  python paper_figs.py --from runs/*                     those, and the figures of these runs
  python paper_figs.py training_dynamics --from runs/A   one figure of one run
"""


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 when every figure asked for was written, 2 for bad input."""
    asked = _parser().parse_args(arguments)
    unknown = [name for name in asked.names if name not in NAMES]
    if unknown:
        return _refuse(f"figure {', '.join(unknown)}: unknown; wanted one of {', '.join(NAMES)}")
    names = asked.names or [*FROM_PAPER, *FROM_RUNS]
    waiting = [] if asked.runs else [name for name in names if name in FROM_RUNS]
    if asked.names and waiting:
        return _refuse(f"figure {', '.join(waiting)}: drawn from runs; type --from runs/NAME [runs/NAME ...]")
    try:
        rows = records.gather(asked.runs) if asked.runs else None
        if rows is not None and not asked.names and not (rows["metric"] == "excess_bits").any():
            names.remove("excess_bits")
            print("excess_bits: not drawn, these runs have no exact oracle")
        drawn = {
            name: FROM_RUNS[name](rows) if name in FROM_RUNS else FROM_PAPER[name]()
            for name in names
            if name not in waiting
        }
        for name, figure in drawn.items():
            print(*style.save(figure, OUT / name), sep="\n")
    except (ValueError, OSError) as error:
        return _refuse(str(error))
    for name in waiting:
        print(f"{name}: not drawn, it needs --from runs/NAME [runs/NAME ...]")
    return 0


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
    return parser


def _refuse(message: str) -> int:
    print(f"paper_figs: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())

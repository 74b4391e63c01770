"""Every figure by name: `python paper_figs.py [name ...]` draws the committed rows of results/, as PDF and PNG into
figures/out/. `--from RUN ...` and `--survey FOLDER` draw new ones."""

import os
import sys

if (  # started as `python -m paper_figs`: a file of the current folder would be imported in the place of what is meant
    __name__ == "__main__"
    and __spec__ is not None
    and not sys.flags.safe_path
    and os.path.realpath(sys.path[0] or ".") != os.path.dirname(os.path.realpath(__file__))
):
    del sys.path[0]

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ablate.core.child_processes import spawning
from experiments.cli.guard import guarded, refuse
from experiments.reports.figure_catalogue import FIGURES, read_runs, read_survey
from figures.drawing import style
from figures.drawing.figure_rows import Desk

HOME = Path(__file__).parent
if not (HOME / "results").is_dir():  # installed: rows are not part of the package, the current folder may have some
    HOME = Path()
OUT = HOME / "figures" / "out"
RESULTS = HOME / "results"
MOST = 4  # processes that draw
Task = tuple[Callable[..., Figure], list[pd.DataFrame], Path]
EXAMPLES = """\
examples:
  python paper_figs.py                                   every figure whose rows are in results/
  python paper_figs.py verdicts no_signal                two of them
  python paper_figs.py --from runs/A runs/B              the figures of new runs of one corpus
  python paper_figs.py --from results/confounds          those of another study
  python paper_figs.py --survey runs/knowledge-A         those of a survey
"""
NO_RESULTS = (
    "paper_figs: {folder}: wanted the folder of committed rows, got none: it is not part of the installed package; "
    "type --results FOLDER, that of a checkout, or make rows here: ablate study study=regimes"
)


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 when every figure asked for, or every one whose rows are there, was written; 2 for bad input."""
    asked = _parser().parse_args(arguments)
    unknown = [name for name in asked.names if name not in FIGURES]
    if unknown:
        return refuse(f"figure {', '.join(unknown)}: unknown; wanted one of {', '.join(FIGURES)}")
    try:
        given = _given(asked.runs, asked.survey)
        fed = [name for name, drawing in FIGURES.items() if drawing.rows and drawing.rows.option in given]
        names = asked.names or fed or list(FIGURES)
        if not given and not Path(asked.results).is_dir() and any(FIGURES[name].rows for name in names):
            print(NO_RESULTS.format(folder=asked.results), file=sys.stderr)
        desk = Desk(Path(asked.results), given)
        missing = {name: faults for name in names if (faults := desk.missing(FIGURES[name]))}
        if asked.names and missing:
            return refuse("; ".join(f"figure {name}: {faults}" for name, faults in missing.items()))
        tasks = [
            (draw, rows, OUT / f"{name}{end}")
            for name in names
            if name not in missing
            for draw, rows, end in desk.tasks(FIGURES[name])
        ]
        for paths in at_work(tasks):
            print(*paths, sep="\n", flush=True)
    except (ValueError, OSError) as error:
        return refuse(error)
    for name, faults in missing.items():
        print(f"{name}: not drawn, {faults}")
    return 0


def at_work(tasks: list[Task]) -> Iterator[list[Path]]:
    """Files of every task in turn, drawn by as many processes as there are cores for, which import no torch either."""
    workers = min(os.cpu_count() or 1, MOST, len(tasks))
    if workers < 2:
        yield from map(write, tasks)
        return
    with ProcessPoolExecutor(workers, mp_context=spawning()) as pool:
        yield from pool.map(write, tasks)


def write(task: Task) -> list[Path]:
    """Files of one figure."""
    draw, rows, stem = task
    return style.save(draw(*rows), stem)


def _given(runs: list[str], survey: str) -> dict[str, pd.DataFrame]:
    """Rows that were named, by option. ValueError for what cannot be read."""
    found = {"runs": read_runs(runs)} if runs else {}
    return found | ({"survey": read_survey(Path(survey))} if survey else {})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Draws figures as PDF and PNG into figures/out/. All of them, unless some are named.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    of_runs, of_survey = (
        [name for name, drawing in FIGURES.items() if drawing.rows and drawing.rows.option == option]
        for option in ("runs", "survey")
    )
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(FIGURES)}")
    parser.add_argument(
        "--from",
        dest="runs",
        nargs="+",
        metavar="RUN",
        default=[],
        help=f"folders of runs or studies, for {', '.join(of_runs)}",
    )
    parser.add_argument(
        "--survey", metavar="FOLDER", default="", help=f"folder of experiments/knowledge.py, for {', '.join(of_survey)}"
    )
    parser.add_argument("--results", metavar="FOLDER", default=str(RESULTS), help="folder of committed rows (results)")
    return parser


if __name__ == "__main__":
    guarded(main)

"""The main job: `python experiments/run.py regime=ar_to_bidllm`. See --help."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__" and not sys.path[0].endswith("site-packages"):
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # `experiments` is a package of this folder

from ablate.training.run_config import Run
from experiments.cli.compose import RUN, main


def job(run: Run) -> None:
    """Trains or resumes one run, draws its figure, prints what was learned and where it lies."""
    from rich.console import Console

    from ablate.training.train import train
    from experiments.reports.run_report import report

    console = Console()
    folder = train(run, console)
    if run.ranks[0] == 0 and run.draw:
        report(folder, console)


if __name__ == "__main__":
    main(RUN, job)

"""The main job: `python experiments/run.py regime=ar_to_bidllm`. See --help."""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

from ablate.training.run_config import Run
from experiments.cli.entry import main
from experiments.cli.run_command import RUN


def job(runs: list[Run]) -> None:
    """Trains or resumes a run, or several together; draws their figures, prints what was learned and where it lies."""
    from ablate.core.terminal import terminal
    from ablate.training.run_manifest import RunError, is_complete
    from ablate.training.train import train_together
    from experiments.reports.run_report import report

    console, stopped = terminal(), None
    try:
        train_together(runs, console)
    except RunError as error:  # one of several cannot go on: the others are complete
        stopped = error
    for run in runs:
        if run.ranks[0] == 0 and run.draw and is_complete(run):
            report(run.folder, console)
    if stopped:
        raise stopped


if __name__ == "__main__":
    main(RUN, job)

"""A sweep by Optuna: `python experiments/sweep.py regime=ar_to_block sweep=block_and_warmup workers=2`. See --help."""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

from ablate.core.validation import UsageError
from experiments.cli.command import Command
from experiments.cli.entry import HANDED_ON, carry_out
from experiments.cli.guard import guarded
from experiments.cli.help_text import groups, keys
from experiments.cli.places import require_place
from experiments.cli.run_command import RUN
from experiments.presets.registry import GROUPS
from experiments.sweep_runner.search import OBJECTIVES, Search, gathered


def sweep_help() -> str:
    """The search spaces that ship, each with question, command and cost; what runs take is run.py's."""
    lines = ["A sweep by Optuna: trials of a space's values, each a run.py on several seeds.", ""]
    lines += ["  python experiments/sweep.py [sweep=NAME] [trials=N] [workers=N] [regime=NAME] [key=value ...]", ""]
    for name, space in GROUPS["sweep"].items():
        lines += [
            f"{name}: {space.question}",
            f"    python experiments/sweep.py {space.command}",
            f"    parameters {', '.join(p.name for p in space.parameters)}; {space.cost}",
            "",
        ]
    lines += [
        *groups("regime", "corpus", "model", "budget"),
        keys(Search),
        f"objectives (less is better): {', '.join(OBJECTIVES)}",
        "Every other key is run.py's and reaches each run as typed: corpus=trace  budget=study  batch=32",
        "Every field of a space is a key too: sweep.parameters.0.values=[1,2,4]  name=mine",
        "seeds=[100,101]   of each trial, whose value is the mean over them",
        "storage=URL       a database in place of the journal file runs/NAME/journal.log",
        "--cfg job         print the configuration and stop; the same command resumes a sweep",
    ]
    return "\n".join(lines)


def check(asked: list[Search]) -> list[Search]:
    """One sweep. Raises UsageError else, and where its folders cannot be written."""
    if len(asked) != 1:
        raise UsageError("sweep.py: wanted one sweep, got several; start it once for each, with a name= of its own")
    require_place(asked[0].home, "runs")
    require_place(asked[0].folder, "results")
    return asked


def job(search: Search) -> None:
    """Proves that runs can have the values, works off the trials, keeps and shows what came out; exits with 1 where
    workers died before the end or no trial is complete."""
    from ablate.core.terminal import terminal
    from experiments.sweep_runner.feasible_space import fit
    from experiments.sweep_runner.sweep_report import announce, conclude
    from experiments.sweep_runner.trial_storage import open_study
    from experiments.sweep_runner.worker_processes import go

    console = terminal()
    fitted = fit(search)
    study = open_study(fitted.search)
    announce(fitted, console)
    died = go(fitted, study, console)
    if not conclude(fitted.search, study, died, console):
        sys.exit(1)


SWEEP = Command("sweep.py", lambda: Search, ("sweep",), sweep_help, check)


def start() -> None:
    """Composes the command line, whose words for the runs are no keys of the sweep."""
    RUN.register()
    flags = {argument.split("=")[0] for argument in sys.argv[1:] if argument.startswith("-")}
    if not flags & set(HANDED_ON) - {"--cfg", "-c"}:
        sys.argv[1:] = gathered(sys.argv[1:])
    carry_out(SWEEP, job)


if __name__ == "__main__":
    guarded(start)

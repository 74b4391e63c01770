"""A controlled study: `python experiments/study.py study=regimes workers=2`. See --help."""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ablate.core.validation import UsageError, path_of
from experiments.cli.command import Command
from experiments.cli.entry import main
from experiments.cli.help_text import keys
from experiments.cli.places import require_place
from experiments.cli.run_command import LOADED
from experiments.presets.registry import GROUPS
from experiments.study_runner.assignment import Assignment

if TYPE_CHECKING:
    from rich.console import Console

    from ablate.studies.job import Job
    from ablate.studies.job_queue import JobQueue
    from experiments.study_runner.planned import Plan


def study_help() -> str:
    """The studies that ship, each with question, command and cost."""
    lines = ["A controlled study: arms that differ in one declared factor, paired by seed.", ""]
    lines += ["  python experiments/study.py [study=NAME] [workers=N] [key=value ...]", ""]
    for name, study in GROUPS["study"].items():
        runs = len(study.arms) * len(study.conditions) * len(study.seeds)
        lines += [
            f"{name}: {study.question}",
            f"    python experiments/study.py study={name} workers=2",
            f"    arms {', '.join(arm.name for arm in study.arms)}",
            f"    conditions {', '.join(c.name for c in study.conditions)}; {len(study.seeds)} seeds; "
            f"{runs} runs, {study.cost}",
            "",
        ]
    lines += [
        keys(Assignment),
        "Every field of a study is a key too: study.seeds=[1,2]  study.name=mine",
        "\"words=['budget=smoke']\"   further words for every run (another study: type study.name=mine as well)",
        "only=[trace]           some conditions; results are added to those of the others",
    ]
    return "\n".join(lines)


def check(asked: list[Assignment]) -> list[Assignment]:
    """One study. Raises UsageError else, and where its folders cannot be written."""
    if len(asked) != 1:
        raise UsageError("study.py: wanted one study, got a sweep; start it once for each")
    require_place(path_of("runs", asked[0].runs), "runs")
    require_place(path_of("results", asked[0].results), "results")
    return asked


def job(assignment: Assignment) -> None:
    """Proves the control, works off the runs, keeps and shows what came out; exits with 1 where runs failed."""
    from ablate.core.terminal import terminal
    from ablate.studies.job_queue import State
    from experiments.study_runner import kept_results, plan_runs
    from experiments.study_runner.study_progress import announce, conclude

    console = terminal()
    with refused():
        plan = plan_runs.plan(assignment)
        kept_results.begin(plan)
    announce(plan, console)
    queues = []
    if plan.trunks:
        queues.append(work_off(plan, plan.trunks, assignment.workers, console))
        with refused():
            plan = plan_runs.plan(assignment)  # arms are named after the weights at which they leave their trunk
    try:
        queues.append(work_off(plan, plan.jobs, assignment.workers, console))
    finally:
        with refused():
            kept_results.keep(plan, kept_results.finished(plan))
    conclude(plan, queues, console)
    if any(State.failed in queue.states.values() for queue in queues):
        sys.exit(1)


def work_off(plan: Plan, jobs: list[Job], workers: int, console: Console) -> JobQueue:
    """Carries out jobs, and shows meanwhile how far they are."""
    from rich.live import Live

    from ablate.studies.job_queue import JobQueue, LocalRunner
    from experiments.study_runner.study_progress import progress, reporter

    queue = JobQueue(jobs, workers, plan.pack, LocalRunner(LOADED))
    if console.is_terminal:
        with Live(progress(plan, queue), console=console, refresh_per_second=2, transient=True) as live:
            queue.go(lambda: live.update(progress(plan, queue)))
    else:
        queue.go(reporter(queue, console))
    return queue


@contextmanager
def refused() -> Iterator[None]:
    """Says in one line what cannot be done."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from None


STUDY = Command("study.py", lambda: Assignment, ("study",), study_help, check)

if __name__ == "__main__":
    main(STUDY, job)

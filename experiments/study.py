"""A controlled study: `python experiments/study.py study=regimes workers=2`. See --help."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__" and not sys.path[0].endswith("site-packages"):
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # `experiments` is a package of this folder

from ablate.studies.design import Setting, Study
from experiments.cli.compose import Command, UsageError, main, require_place
from experiments.cli.help_text import study_help


@dataclass
class Assignment:
    """A study, and how it is worked off.

    workers: processes at work at once, each on one run. only: names of the conditions to run, all where empty. words:
    of every run, after all others; they make it another study than the one that ships: give it a study.name.
    runs: folder of the runs, shared by all studies and by every process that works on one. results: folder of what
    studies found. Raises ValueError for values out of range.
    """

    study: Study
    workers: int = 1
    only: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    runs: str = "runs"
    results: str = "results"

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= 1024:
            raise ValueError(f"workers: wanted 1..1024, got {self.workers}; type workers=2")
        known = [condition.name for condition in self.study.conditions]
        for name in self.only:
            if name not in known:
                raise ValueError(
                    f"only: study {self.study.name} has the conditions {', '.join(known)}; got {name}; "
                    f"type only=[{known[0]}]"
                )

    @property
    def conditions(self) -> list[Setting]:
        return [c for c in self.study.conditions if not self.only or c.name in self.only]


def check(asked: list[Assignment]) -> list[Assignment]:
    """One study. Raises UsageError else, and where its folders cannot be written."""
    if len(asked) != 1:
        raise UsageError("study.py: wanted one study, got a sweep; start it once for each")
    require_place(Path(asked[0].runs).expanduser(), "runs")
    require_place(Path(asked[0].results).expanduser(), "results")
    return asked


def job(assignment: Assignment) -> None:
    """Proves the control, works off the runs, keeps and shows what came out; exits with 1 where runs failed."""
    from rich.console import Console
    from rich.live import Live

    from ablate.studies.job_queue import JobQueue, State
    from experiments.study_runner import kept_results, plan_runs
    from experiments.study_runner.study_progress import announce, conclude, progress, reporter

    console = Console()
    with refused():
        plan = plan_runs.plan(assignment)
        kept_results.begin(plan)
    announce(plan, console)
    queue = JobQueue(plan.jobs, assignment.workers)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the runs stop, what is done is kept
    try:
        if console.is_terminal:
            with Live(progress(plan, queue), console=console, refresh_per_second=2, transient=True) as live:
                queue.go(lambda: live.update(progress(plan, queue)))
        else:
            queue.go(reporter(queue, console))
    finally:
        with refused():
            kept_results.keep(plan, kept_results.finished(plan))
    conclude(plan, queue, console)
    if State.failed in queue.states.values():
        sys.exit(1)


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

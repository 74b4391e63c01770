"""A controlled study: `python experiments/study.py study=regimes workers=2`. See --help."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__" and not sys.path[0].endswith("site-packages"):
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # `experiments` is a package of this folder

from ablate.study import Setting, Study
from experiments.cli import Command, UsageError, main, require_place
from experiments.help import study_help

if TYPE_CHECKING:
    from experiments.planned import Plan


@dataclass
class Assignment:
    """A study, and how it is worked off.

    workers: processes at work at once, each on one run. only: names of the conditions to run, all where empty. words:
    further words for every run, which make it another study than the one that ships: give it a study.name.
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
                raise ValueError(f"only: study {self.study.name} has the conditions {', '.join(known)}; got {name}; "
                                 f"type only=[{known[0]}]")  # fmt: skip

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

    from ablate.workers import Crew
    from experiments import planned
    from experiments.progress import announce, conclude, progress

    console = Console()
    plan = planned.plan(assignment)
    announce(plan, console)
    planned.begin(plan)
    crew = Crew(plan.jobs, assignment.workers)
    try:
        if console.is_terminal:
            with Live(progress(plan, crew), console=console, refresh_per_second=2, transient=True) as live:
                crew.go(lambda: live.update(progress(plan, crew)))
        else:
            crew.go(_reporter(plan, crew, console))
    finally:
        planned.keep(plan, planned.finished(plan))
    conclude(plan, crew, console)
    if failed(crew):
        sys.exit(1)


def failed(crew) -> bool:
    return "failed" in crew.states.values()


def _reporter(plan: Plan, crew, console):
    """Where no terminal shows a live table: a line for every run that ends."""
    told = {name for name, state in crew.states.items() if state == "done"}

    def tell() -> None:
        for name, state in crew.states.items():
            if state in ("done", "failed") and name not in told:
                told.add(name)
                seconds = f"{crew.seconds[name]:.0f} s" if name in crew.seconds else "elsewhere"
                console.print(f"{len(told)}/{len(crew.states)} {name}: {state}, {seconds}", soft_wrap=True)

    return tell


STUDY = Command("study.py", lambda: Assignment, ("study",), study_help, check)

if __name__ == "__main__":
    main(STUDY, job)

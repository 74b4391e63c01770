"""A sweep's workers as processes, and what the terminal shows meanwhile."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.live import Live

from ablate.core.child_processes import spawning
from ablate.core.storage import locked
from ablate.studies.job_queue import PATIENCE
from experiments.sweep_runner import sweep_results
from experiments.sweep_runner.feasible_space import Fitted
from experiments.sweep_runner.sweep_report import progress, story
from experiments.sweep_runner.trial_storage import FAULTS, clear, fault, standing, try_again
from experiments.sweep_runner.trial_worker import Worker, work

POLL = 1.0  # seconds between looks at the storage


def go(fitted: Fitted, study: optuna.Study, console: Console) -> list[str]:
    """Returns when the workers have ended, what became of those that died; keeps what was found, also at Ctrl-C, at
    which it asks the workers to stop, waits for them and raises KeyboardInterrupt."""
    try:
        try_again(study, fitted.search.home)
        watch = _Watch(fitted, study, console)
        with _workers(fitted) as processes, _live(console) as live:
            while any(process.is_alive() for process in processes):
                watch.look(live)
                time.sleep(POLL)
            watch.look(live)
        return [_end(process) for process in processes if process.exitcode]
    except FAULTS as error:
        raise fault(fitted.search, error) from None
    finally:
        _tidy(fitted, study)


def _tidy(fitted: Fitted, study: optuna.Study) -> None:
    """Leaves no trial running whose worker is gone, and writes what was found."""
    try:
        with locked(fitted.search.home / "asking.lock"):
            clear(study, fitted.search.home)
        sweep_results.keep(fitted.search, study)
    except FAULTS as error:
        raise fault(fitted.search, error) from None


@contextmanager
def _workers(fitted: Fitted) -> Iterator[list[SpawnProcess]]:
    """As many processes as asked for, which end with the block."""
    context = spawning()
    processes = [context.Process(target=work, args=(Worker(fitted),)) for _ in range(fitted.search.workers)]
    # a terminal's Ctrl-C reaches them too: ignored until they have a handler of their own
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for process in processes:
            process.start()
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(2 * PATIENCE)
            process.kill()


def _end(process: SpawnProcess) -> str:
    code = process.exitcode or 0
    return f"worker {process.pid}: " + (f"killed by signal {-code}" if code < 0 else f"ended with status {code}")


def _live(console: Console):
    """A table that changes in place, where there is a terminal."""
    return Live(console=console, refresh_per_second=2, transient=True) if console.is_terminal else nullcontext()


@dataclass
class _Watch:
    """Tells of trials as they begin and end."""

    fitted: Fitted
    study: optuna.Study
    console: Console
    begun: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.ended = {trial.number for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()}
        self.begun = set(self.ended)

    def look(self, live: Live | None) -> None:
        everyone = self.study.get_trials(deepcopy=False)
        trials = standing(everyone)
        for trial in everyone:
            if trial.number not in self.begun and "commands" in trial.user_attrs:
                self._begin(trial)
        for trial in trials:
            if trial.number not in self.ended and trial.state.is_finished():
                self.ended.add(trial.number)
                done = sum(other.state.is_finished() for other in trials)
                self._say(f"{done}/{self.fitted.search.total} {story(self.fitted.search, trial)}")
        if live is not None:
            live.update(progress(self.fitted.search, trials))

    def _begin(self, trial: FrozenTrial) -> None:
        if trial.state is not TrialState.WAITING:
            self.begun.add(trial.number)
            for line in trial.user_attrs["commands"]:
                self._say(f"trial {trial.number}: {line}")

    def _say(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, highlight=False, markup=False)

"""A worker: asks Optuna for trials one after the other and carries out their runs, each a process.

Asking and counting happen behind one lock, so that all workers together do the number of trials asked for. The claim of
a run is inherited by its process: where the worker dies, the run goes on, and whoever tries the trial again waits
for it and takes its rows.
"""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import optuna
from optuna.trial import TrialState

from ablate.core import records
from ablate.core.storage import WriteError, lock
from ablate.studies.job import Job
from ablate.studies.job_queue import ATTEMPTS, POLL, LocalRunner, by_signal
from ablate.studies.outcomes import How, Outcome
from ablate.training.run_manifest import FAILED
from experiments.cli.guard import BAD_INPUT
from experiments.cli.run_command import LOADED, RUN
from experiments.sweep_runner.feasible_space import Fitted
from experiments.sweep_runner.trial_storage import KILLED, clear, lock_of, open_study, pruner_of, sampler_of, standing

Frame = Any  # a pandas frame, whose columns no type checker knows


class FailedTrialError(Exception):
    """A trial without a value, and why; killed: a signal ended its run each time."""

    def __init__(self, reason: str = "", killed: bool = False):
        super().__init__(reason)
        self.killed = killed


@dataclass
class Reporter:
    """What a trial's probes have told of the pruner's curve: the objective's, averaged over training so far."""

    trial: optuna.Trial
    outcome: Outcome
    pauses: int  # of a run
    last: int  # report of a trial, at which it is as good as complete
    before: list[float] = field(default_factory=list)  # of the seeds that are done
    told: int = 0  # of the seed at work

    def look(self, folder: Path) -> None:
        """The same of a run's folder."""
        if (folder / records.FILE).exists():  # after the first probe
            self.tell(records.read(folder))

    def tell(self, rows: Frame) -> None:
        """Reports every probe that is new. Raises TrialPruned where the trial is to stop."""
        steps = [step for step in sorted(self.outcome.curve(rows)["step"].unique()) if step > 0]
        for step in steps[self.told :]:
            self.told += 1
            value = number(self.outcome, rows[rows["step"] <= step])
            resource = len(self.before) * self.pauses + self.told
            self.trial.report(float(np.mean([*self.before, value])), resource)
            if resource < self.last and self.trial.should_prune():
                raise optuna.TrialPruned

    def next_seed(self, rows: Frame) -> None:
        self.before, self.told = [*self.before, number(self.outcome, rows)], 0


def number(outcome: Outcome, rows: Frame) -> float:
    """An outcome. Raises FailedTrialError where it was not measured or is no number."""
    value = outcome.of(rows)
    if value is None or np.isnan(value):
        raise FailedTrialError(f"{outcome.words}: {'not measured' if value is None else 'nan'}")
    return value


@dataclass
class Worker:
    """One of a sweep's workers. Nothing is opened before `go`, so that it can be sent to a process of its own."""

    fitted: Fitted
    stopped: bool = False

    def stop(self, *_: Any) -> None:
        """Asks it to stop; a signal's handler."""
        self.stopped = True

    def go(self) -> None:
        """Returns when all trials of the sweep are finished. Raises SystemExit when it is stopped or its parent is
        gone: the trial that it is at is then tried again."""
        RUN.register()
        search = self.fitted.search
        study = open_study(search)
        while True:
            with lock(search.home / "asking.lock", patient=True) as asking:  # type: ignore[union-attr]
                clear(study, search.home)
                states = [trial.state for trial in standing(study.get_trials(deepcopy=False))]
                finished = sum(state.is_finished() for state in states)
                if finished >= search.total:
                    return
                if TrialState.WAITING in states or finished + states.count(TrialState.RUNNING) < search.total:
                    self._one(study, asking)
                    continue
            self.pause()

    def pause(self) -> None:
        time.sleep(POLL)
        self.require_going()

    def require_going(self) -> None:
        """Raises SystemExit where it was stopped or its parent is gone."""
        parent = multiprocessing.parent_process()
        if self.stopped or (parent is not None and not parent.is_alive()):
            raise SystemExit(130)

    def _one(self, study: optuna.Study, asking: IO[str]) -> None:
        """One trial; gives up the lock on asking once it has its own."""
        search, count = self.fitted.search, len(study.get_trials(deepcopy=False))
        neutral, study.sampler = study.sampler, sampler_of(search, count)
        study.pruner = pruner_of(search, self.fitted.pauses)
        try:
            study.optimize(lambda trial: self._objective(trial, asking), n_trials=1, catch=(FailedTrialError,))
        finally:
            study.sampler = neutral  # a grid's cannot fail the dead

    def _objective(self, trial: optuna.Trial, asking: IO[str]) -> list[float]:
        try:
            return self._tried(trial, asking)
        except OSError as refused:  # by the system, and no fault of the trial's
            raise given_up(str(refused)) from None

    def _tried(self, trial: optuna.Trial, asking: IO[str]) -> list[float]:
        search = self.fitted.search
        point = search.sweep.suggest(trial)
        with lock(lock_of(search.home, trial.number)):  # type: ignore[union-attr]
            asking.close()
            trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
            try:
                return self._values(trial, self.fitted.jobs(point))
            except (FailedTrialError, ValueError) as reason:  # the latter: no run can have these values together
                trial.set_user_attr("complaint", " ".join(str(reason).split()))
                trial.set_user_attr(KILLED, getattr(reason, "killed", False))
                raise FailedTrialError from None

    def _values(self, trial: optuna.Trial, jobs: list[Job]) -> list[float]:
        """Means over seeds, one an objective."""
        trial.set_user_attr("commands", [command(job) for job in jobs])
        outcomes, pauses = self.fitted.search.outcomes, self.fitted.pauses
        of_pruner = replace(next(iter(outcomes.values())), how=How.mean)
        reporter = Reporter(trial, of_pruner, pauses, pauses * len(jobs))
        pruned = self.fitted.search.pruner != "none"
        values = []
        for job in jobs:
            self._run(job, (lambda job=job: reporter.look(job.folder)) if pruned else lambda: None)
            rows = records.read(job.folder)
            values.append([number(outcome, rows) for outcome in outcomes.values()])
            trial.set_user_attr("values", values)
            if pruned:
                reporter.next_seed(rows)
        return [float(mean) for mean in np.mean(values, axis=0)]

    def _run(self, job: Job, look: Callable[[], None]) -> None:
        """Carries out a run or waits for whoever is at it. Raises FailedTrialError where it exits incomplete, and
        SystemExit where it could not be carried out: a full disk fails no trial, the same command goes on."""

        def meanwhile() -> None:
            self.require_going()
            look()

        while (claim := lock(job.claim)) is None:
            self.pause()
        code = 0
        with claim:
            for _ in range(ATTEMPTS):
                if job.complete or not by_signal(code := LocalRunner(LOADED).run(job, [claim.fileno()], meanwhile)):
                    break
        if not job.complete:
            if code == BAD_INPUT and job.status != FAILED:
                raise given_up(job.complaint())
            raise FailedTrialError(job.complaint(), by_signal(code))
        look()


def given_up(reason: str) -> SystemExit:
    """Says why a worker ends; its trial is tried again by the same command."""
    print(f"worker {os.getpid()}: {reason}", file=sys.stderr)
    return SystemExit(1)


def command(job: Job) -> str:
    """The run's command line, to be copied from here."""
    script = job.script.resolve()
    shown = script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script
    return shlex.join(["python", str(shown), *job.words])


def work(worker: Worker) -> None:
    """What a worker's process does. Ctrl-C is for the parent, which stops its workers."""
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, worker.stop)
    try:
        worker.go()
    except Exception as error:
        refused = _refused_write(error)
        said = str(refused or error).strip().splitlines() or [""]
        print(f"worker {os.getpid()}: {said[0] if refused else f'{type(error).__name__}: {said[0]}'}", file=sys.stderr)
        sys.exit(1)


def _refused_write(error: BaseException | None) -> WriteError | None:
    """What an error of Optuna's own hides, where it could not write its journal."""
    while error is not None and not isinstance(error, WriteError):
        error = error.__context__
    return error

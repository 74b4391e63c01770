"""Workers: a plan of runs, each a process, claimed through locks on a shared folder.

A claim is an exclusive lock on a file that the run's process inherits, so it holds as long as the run itself is at work
and the system frees it when the last of the two dies, however it dies. Any number of processes, on any number of
machines that share the folder (and lock files on it), may work on one plan.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from typing import IO, Protocol

from ablate.core.interruption import TERMINATED
from ablate.core.storage import lock
from ablate.studies.job import Job, together
from ablate.studies.warm_process import WarmProcess
from ablate.training.run_manifest import FAILED

ATTEMPTS = 3  # of a run that a signal ended; one that exits by itself has said why and is not tried again
POLL = 0.5  # seconds between looks at runs, those that others have claimed included
PATIENCE = 15  # seconds for a run to stop when asked, before it is killed


class State(StrEnum):
    """How far a job has come; `elsewhere`: claimed by another process."""

    waiting = "waiting"
    running = "running"
    elsewhere = "elsewhere"
    done = "done"
    failed = "failed"


class Runner(Protocol):
    """Where claimed runs are carried out: here, or one day on a cluster."""

    def run(self, job: Job, claims: Sequence[int]) -> int:
        """Carries them out and returns the exit status, negative for the signal that killed it. `claims` are the file
        descriptors of the locked claims, which must stay open as long as the runs are at work."""
        ...

    def stop(self) -> None:
        """Asks every run at work to stop."""
        ...


@dataclass
class LocalRunner:
    """Processes of this machine. loaded: modules that every run needs, which are loaded once."""

    loaded: tuple[str, ...] = ()
    processes: list[WarmProcess] = field(default_factory=list)
    stopped: bool = False

    def __post_init__(self) -> None:
        self.starting = threading.Lock()

    def run(self, job: Job, claims: Sequence[int], look: Callable[[], None] = lambda: None) -> int:
        """Carries out the run and returns its exit status; calls `look` meanwhile. What `look` raises stops the run."""
        process = self._start(job, claims)
        if process is None:
            return TERMINATED
        try:
            while (status := process.wait(POLL)) is None:
                look()
            return status
        finally:
            _end(process)

    def _start(self, job: Job, claims: Sequence[int]) -> WarmProcess | None:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log, self.starting:  # a run is known to `stop`, or not begun after it
            if self.stopped:
                return None
            process = WarmProcess(job, log.fileno(), claims, self.loaded)
            self.processes.append(process)
            return process

    def stop(self) -> None:
        with self.starting:
            self.stopped = True
            for process in self.processes:
                process.send_signal(signal.SIGTERM)


def by_signal(status: int) -> bool:
    """Was a run ended by a signal, the one that it heeds included?"""
    return status < 0 or status == TERMINATED


def _end(process: WarmProcess) -> None:
    """Stops a run that is still at work: it is asked, and killed where it does not listen."""
    process.send_signal(signal.SIGTERM)
    if process.wait(PATIENCE) is None:
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)


@dataclass
class JobQueue:
    """Workers on one plan, which is worked off in order. `states` tells how far each job has come, `seconds` how long
    those took that were done here, jobs that were carried out together each its share. pack: jobs of a group that a
    worker takes at once, at most."""

    jobs: Sequence[Job]
    workers: int = 1
    pack: int = 1
    runner: Runner = field(default_factory=LocalRunner)
    states: dict[str, State] = field(init=False)
    seconds: dict[str, float] = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    logs: dict[str, Job] = field(default_factory=dict)  # in whose log a job's command has said what it had to say
    alone: set[str] = field(default_factory=set)  # jobs that ended without a result together with others

    def __post_init__(self) -> None:
        self.states = {job.name: State.done if job.complete else State.waiting for job in self.jobs}
        self.stopped, self.choosing = threading.Event(), threading.Lock()

    def go(self, watch: Callable[[], None] = lambda: None) -> None:
        """Returns when every job is done or failed; calls `watch` at every look.

        Whatever interrupts it (Ctrl-C, a signal): asks the runs at work to keep their step and stop, waits for them.
        """
        with ThreadPoolExecutor(self.workers) as pool:
            at_work = [pool.submit(self._work) for _ in range(self.workers)]
            try:
                while wait(at_work, POLL).not_done:
                    watch()
            except BaseException:
                self.stopped.set()
                self.runner.stop()
                raise
        watch()
        for worker in at_work:
            worker.result()

    def left(self) -> float:
        """Seconds until the last job ends, by the mean of those done here; nan before the first."""
        open_jobs = sum(state not in (State.done, State.failed) for state in self.states.values())
        return open_jobs * sum(self.seconds.values()) / len(self.seconds) / self.workers if self.seconds else math.nan

    def _work(self) -> None:
        while not self.stopped.is_set():
            claimed = self._claim()
            if claimed:
                with ExitStack() as claims:
                    for _, handle in claimed:
                        claims.enter_context(handle)
                    self._carry_out([job for job, _ in claimed], [handle.fileno() for _, handle in claimed])
            elif not {State.waiting, State.elsewhere} & set(self.states.values()):
                return
            else:
                self.stopped.wait(POLL)

    def _claim(self) -> list[tuple[Job, IO[str]]]:
        """The first job that nobody is at, others of its group up to a pack, and their locked claims."""
        claimed: list[tuple[Job, IO[str]]] = []
        with self.choosing:
            for job in self.jobs:
                if claimed and (not job.group or job.group != claimed[0][0].group or job.name in self.alone):
                    continue
                handle = self._claimed(job)
                claimed += [(job, handle)] if handle else []
                if len(claimed) == self.pack or (claimed and claimed[0][0].name in self.alone):
                    break
        return claimed

    def _claimed(self, job: Job) -> IO[str] | None:
        """The locked claim of a job that is to be carried out and that nobody is at."""
        if self.states[job.name] not in (State.waiting, State.elsewhere):
            return None
        handle = lock(job.claim)
        # looked at behind the lock: else another may have completed it since
        self.states[job.name] = State.elsewhere if handle is None else State.running
        if handle is not None and job.complete:
            self.states[job.name] = State.done
            handle.close()
            return None
        return handle

    def _carry_out(self, jobs: Sequence[Job], claims: Sequence[int]) -> None:
        """What was carried out together and has not said that it failed is tried by itself in the end."""
        begun = time.monotonic()
        one = together(jobs)
        status = self.runner.run(one, claims)
        self.logs |= {job.name: one for job in jobs}
        for job in jobs:
            self.attempts[job.name] += 1
            if job.complete:
                self.seconds[job.name] = (time.monotonic() - begun) / len(jobs)
                self.states[job.name] = State.done
                continue
            again = self.stopped.is_set() or (by_signal(status) and self.attempts[job.name] < ATTEMPTS)
            if not again and len(jobs) > 1 and job.status != FAILED:  # for what another of them met, it may be
                self.alone.add(job.name)
                self.attempts[job.name], again = 0, True
            self.states[job.name] = State.waiting if again else State.failed

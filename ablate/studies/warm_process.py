"""A job's command line in a warm process: forked from a server that has loaded what jobs need and does nothing else.

A job begins at once, where loading torch and Lightning takes seconds. The server is multiprocessing's, one for each
process that starts jobs. It never runs an operator of torch, so that a fork is as good as a fresh interpreter. It ends
with the last of those that it serves. Where it is killed the jobs that it has forked go on, and the next job starts
another.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import connection, reduction
from typing import Any

from ablate.core.child_processes import spawning
from ablate.studies.job import Job

SERVER_DIED = 255  # what multiprocessing says in place of an exit code then
TRIES, PAUSE = 50, 0.1  # seconds between them
HELD = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}  # for a group of processes; those who are at work heed them


class WarmProcess:
    """What `subprocess.Popen` is to a job's command, with its output in a file that is open as `log`.

    claims: files of this process that stay open in that one. loaded: modules for the server to load. The process has a
    session of its own: a terminal's Ctrl-C does not reach it.
    """

    _at_server = threading.Lock()  # multiprocessing reads an exit code once, whichever thread asks

    def __init__(self, job: Job, log: int, claims: Sequence[int], loaded: Sequence[str] = ()):
        spawning()  # the server's path is safe too
        # elsewhere libraries of the system are not safe to fork: a fresh interpreter then
        context: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        files = _Inherited(log), [_Inherited(number) for number in claims]
        arguments = (str(job.script), job.words, dict(os.environ), *files)
        with self._at_server:
            context.set_forkserver_preload(list(loaded))
            self._process = context.Process(target=_carry_out, args=arguments, name=job.name)
            before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)  # the server never heeds them
            try:
                self._start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.pid, self._sentinel = self._process.pid, self._process.sentinel

    def _start(self) -> None:
        """Asks the server. One that was killed a moment ago refuses; as soon as it is gone another is started."""
        for _ in range(TRIES):
            with suppress(ConnectionRefusedError):
                return self._process.start()
            time.sleep(PAUSE)
        return self._process.start()

    def wait(self, seconds: float) -> int | None:
        """The exit status, negative for the signal that killed it; None if it is still at work after so long."""
        connection.wait([self._sentinel], seconds)
        with self._at_server:
            status = self._process.exitcode
        return -signal.SIGKILL if status == SERVER_DIED else status

    def send_signal(self, number: int) -> None:
        """Nothing happens to one that has ended."""
        if self.wait(0) is None:
            os.kill(self.pid, number)


class _Inherited:
    """An open file's number, which is another in the process that it is sent to."""

    def __init__(self, number: int):
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (reduction.DupFd(self.number),)


def _received(sent: Any) -> int:
    return sent.detach()


def _carry_out(script: str, words: Sequence[str], environment: dict[str, str], log: int, _: Sequence[int]) -> None:
    """The command as `python SCRIPT word ...` carries it out; the claims are open until this process ends."""
    os.setsid()
    os.environ.clear()  # of the server, as it was when that began
    os.environ.update(environment)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
    sys.argv = [script, *words]
    runpy.run_path(script, run_name="__main__")

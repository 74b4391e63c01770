"""Commands in processes that are forked from this one, which has loaded all that they need: a start costs nothing.

A fork has what a process of its own would have: its process group, its output in a file, no open file of ours, the
usual handlers of signals. What commands start, they fork too. This process takes up their orphans.
"""

from __future__ import annotations

import copy
import ctypes
import functools
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUBREAPER = 36  # of prctl: orphaned descendants become this process's children
LOOK = 0.004  # seconds between looks at a child
PATIENCE = 90  # seconds that a case may take; the slowest takes a few


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, negative for the signal that killed it, and what it printed."""

    code: int
    said: str

    @property
    def error(self) -> str:
        return f"exit {self.code}: {self.said[-500:]}"


@dataclass
class Child:
    """A command at work in a forked process."""

    pid: int
    output: Path
    code: int | None = None

    def poll(self) -> int | None:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, seconds: float = PATIENCE) -> Ended:
        """Until the command itself has ended. Raises AssertionError where it hangs, and ends it."""
        end = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > end:
                self.kill()
                raise AssertionError(f"hangs after {seconds} s: {self.said[-300:]}")
            time.sleep(LOOK)
        return Ended(self.code or 0, self.said)

    @property
    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """The command and all that it started, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.settle()

    def settle(self, seconds: float = PATIENCE) -> None:
        """Until what it started has ended too. Raises AssertionError where something hangs, and ends it."""
        end = time.monotonic() + seconds
        while True:
            try:
                pid, status = os.waitpid(-self.pid, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == self.pid:
                self.code = os.waitstatus_to_exitcode(status)
            if not pid and time.monotonic() > end:
                os.killpg(self.pid, signal.SIGKILL)
                raise AssertionError(f"what it started hangs after {seconds} s: {self.said[-300:]}")
            if not pid:
                time.sleep(LOOK)


def start(work: Callable[[], Any], output: Path, ready: Callable[[], None] = lambda: None) -> Child:
    """Forks a process that does the work and exits as a script would; `ready` is called in it first."""
    warm()
    output.touch()
    pid = os.fork()
    if pid:
        with suppress(OSError):  # whoever comes first
            os.setpgid(pid, pid)
        return Child(pid, output)
    with suppress(OSError):
        os.setpgid(0, 0)
    _become(work, os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), (), ready)


def do(work: Callable[[], Any], output: Path, ready: Callable[[], None] = lambda: None) -> Ended:
    """The same, waited for with all that it starts."""
    child = start(work, output, ready)
    ended = child.wait()
    child.settle()
    return Ended(ended.code, child.said)


def _become(work: Callable[[], Any], output: int, kept: tuple[int, ...], ready: Callable[[], None]) -> Any:
    """Never returns: does the work in this forked process and ends it."""
    code = 70
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        nothing = os.open(os.devnull, os.O_RDWR)
        for name in os.listdir("/proc/self/fd"):
            if int(name) not in (1, 2, nothing, *kept):
                with suppress(OSError):  # replaced and not closed: objects may still close their number
                    os.fstat(int(name))
                    os.dup2(nothing, int(name))
        sys.stdout = sys.__stdout__ = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1, closefd=False)
        for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        from tests.torture import commands

        for owner, name, value in warm():
            setattr(owner, name, value)
        commands.add_presets()
        ready()
        work()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0 if left.code is None else 1
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        with suppress(BaseException):
            threading._shutdown()  # as an interpreter that ends: waits for its threads
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class Forked(subprocess.Popen):
    """What `WarmProcess` is to a study's job: forked from this very process, in the study's process group."""

    def __init__(self, job: Any, log: int, claims: tuple[int, ...], _: tuple[str, ...] = ()):
        self.args, self.returncode, self._waitpid_lock = job.command, None, threading.Lock()
        self.stdin = self.stdout = self.stderr = None
        self._child_created, self._communication_started = True, False
        self.pid = os.fork()
        if not self.pid:
            _become(lambda: run_script(job.script.name, list(job.words)), log, tuple(claims), lambda: None)

    def wait(self, seconds: float | None = None) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return super().wait(seconds)
        return None


def run_script(name: str, words: list[str]) -> None:
    """Types a command, in this process."""
    from experiments import evaluate, export, generate, run, study, sweep
    from experiments.cli.entry import main
    from experiments.cli.guard import guarded

    sys.argv = [name, *words]
    scripts: dict[str, Callable[[], Any]] = {
        "run.py": lambda: main(run.RUN, run.job),
        "study.py": lambda: main(study.STUDY, study.job),
        "sweep.py": lambda: guarded(sweep.start),
        "export.py": lambda: sys.exit(export.main(words)),
        "evaluate.py": lambda: guarded(evaluate.main),
        "generate.py": lambda: guarded(generate.main),
    }
    scripts[name]()


@functools.cache
def warm() -> list[tuple[Any, str, Any]]:
    """Loads what commands need; returns what stands in for what in a forked process: answers that every process would
    find out anew, and ways to start others. Nothing of it changes a result."""
    import multiprocessing

    import torch

    torch.set_num_threads(1)
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)

    from ablate.studies import job_queue
    from ablate.training import base_model, run_manifest
    from experiments import export, run, study, sweep  # noqa: F401
    from experiments.cli.command import Command
    from experiments.sweep_runner import trial_worker, worker_processes
    from tests.torture import commands

    commands.practise()
    context = multiprocessing.get_context("fork")
    found: list[tuple[Any, str, Any]] = [(Command, "register", functools.cache(Command.register))]
    commands.compose(found[0][2])
    found += [(run_manifest, "code_version", _always(run_manifest.code_version()))]
    for module in (run_manifest, base_model):
        found += [(module, name, _always(getattr(module, name)())) for name in ("packages", "description")]
        found += [(module, "source_hash", _by_class(module.source_hash))]
    found += [(module, "POLL", 0.02) for module in (job_queue, trial_worker, worker_processes, base_model)]
    return [*found, (job_queue, "WarmProcess", Forked), (worker_processes, "spawning", lambda: context)]


def _always(answer: Any) -> Callable[[], Any]:
    return lambda: copy.deepcopy(answer)


def _by_class(hashed: Callable[[Any], str]) -> Callable[[Any], str]:
    known: dict[type, str] = {}

    def once(corpus: Any) -> str:
        if type(corpus) not in known:
            known[type(corpus)] = hashed(corpus)
        return known[type(corpus)]

    return once

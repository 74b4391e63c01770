"""A command typed in a process of its own, forked from a server that has loaded what commands need: loading takes most
of the time of a small run. How commands start from nothing is tested in `tests/packaging`."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

from ablate.core.child_processes import spawning
from experiments.cli.run_command import LOADED
from tests import ROOT

LOOK = 0.01  # seconds between looks


class Typed:
    """`python experiments/NAME.py WORD ...` at work in a folder, in a session of its own, what it says in a file."""

    def __init__(self, name: str, *words: str, folder: Path, log: Path, **environment: str):
        spawning()  # the server's path is safe
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*LOADED, "torch.distributed.fsdp", "lightning.pytorch.strategies"])
        script = str(ROOT / "experiments" / f"{name}.py")
        around = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        self.log, self.process = log, context.Process(target=_type, args=([script, *words], folder, log, around))
        log.touch()
        self.process.start()

    process: BaseProcess

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def ended(self) -> bool:
        return self.process.exitcode is not None

    def wait(self, seconds: float = 300) -> int:
        """The exit status, negative for the signal that killed it. Raises AssertionError where it hangs, having ended
        it."""
        self.process.join(seconds)
        if not self.ended:
            self.kill()
            raise AssertionError(f"at work after {seconds} s: {self.said[-300:]}")
        return int(self.process.exitcode or 0)

    def finish(self) -> str:
        """What it said in the end. Raises AssertionError where it failed."""
        assert self.wait() == 0, self.said[-3000:]
        return self.said

    def wait_for(self, there: Callable[[], object], seconds: float = 120) -> None:
        """Until something is there, or the command has ended."""
        deadline = time.monotonic() + seconds
        while not there() and not self.ended and time.monotonic() < deadline:
            time.sleep(LOOK)

    def kill(self) -> None:
        """SIGKILL to it and to all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.join()


def _type(words: list[str], folder: Path, log: Path, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.clear()  # of the server, as it was when that began
    os.environ.update(environment)
    os.chdir(folder)
    with log.open("ab") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")

"""train(run): from a configuration to a folder of results, resumable at every pause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ablate.compute.device import Strategy
from ablate.compute.distributed import from_first, join_processes
from ablate.core.interruption import Terminated
from ablate.core.manifest import PROMISE, write_manifest
from ablate.core.storage import locked
from ablate.training.run_config import Run
from ablate.training.run_files import hashes, repair, write_config
from ablate.training.run_manifest import COMPLETE, FAILED, RunError, new_manifest, read_manifest
from ablate.training.session import Session


def train(run: Run, console: Console) -> Path:
    """Runs or resumes; returns the folder, whose records are then complete.

    Raises ValueError for what the machine does not have, RunError where the folder belongs to another run, is in use
    or is damaged. Nothing is written in these cases.
    """
    run = run.resolved()
    torch.set_num_threads(run.threads)
    if run.strategy is not Strategy.auto:
        join_processes(run.device)
    if run.ranks[0]:
        with _others_may_end():
            if from_first(None):
                Session(run, console, new_manifest(run)).go()
        return run.folder
    read_manifest(run)  # refuses before the lock would make the folder
    try:
        with locked(run.folder / ".lock", patient=False):
            manifest = read_manifest(run) or new_manifest(run)
            if from_first(manifest["status"] != COMPLETE):
                _go(run, console, manifest)
            else:
                repair(run, manifest, console)
                console.print(f"complete already: {run.folder}", soft_wrap=True)
    except BlockingIOError:
        raise RunError(f"out={run.folder}: another process is at work there; wait for it or type out=PATH") from None
    return run.folder


@contextmanager
def _others_may_end() -> Iterator[None]:
    """Raises RunError where another process of the run has ended, which has said why."""
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, torch.distributed.DistError) or "onnection" in str(error)
        if not lost:
            raise
        raise RunError("another process of this run has ended") from None


def _go(run: Run, console: Console, manifest: dict[str, Any]) -> None:
    chosen = f"{run.device}, {run.precision}, {run.threads} thread(s), compile={run.compile}"
    base = f"from {run.init}" if run.init else f"of {run.base_steps} steps"
    console.print(f"{run.folder}: {sum(run.stage_steps)} steps after a base model {base}; {chosen}", soft_wrap=True)
    manifest = {name: value for name, value in manifest.items() if name not in PROMISE} | {"status": "running"}
    session = Session(run, console, manifest)
    write_manifest(run.folder, manifest)  # first: it says whose folder this is
    write_config(run)
    try:
        session.go()
    except BaseException as stop:
        paused = isinstance(stop, KeyboardInterrupt | Terminated | OSError)  # the same command goes on
        manifest["status"] = "interrupted" if paused else FAILED
        with suppress(OSError):  # the next process to work here must not meet one that is still being written
            session.writer.wait()
        with suppress(OSError):
            write_manifest(run.folder, manifest)
        raise
    write_manifest(run.folder, {**manifest, "status": COMPLETE, "files": hashes(run.folder)})

"""train(run): from a configuration to a folder of results, resumable at every pause; train_together(runs) likewise.

Runs that train together share a process and every pass of the network. Each has its own folder, and may be gone on with
by itself or together with others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ablate.compute.device import Strategy
from ablate.compute.distributed import from_first, join_processes
from ablate.compute.execution import keep_freed_memory
from ablate.core.interruption import Terminated
from ablate.core.manifest import PROMISE, write_manifest
from ablate.core.storage import locked
from ablate.training.announcement import announcement
from ablate.training.checkpoint import FOLDER, checkpoints, latest, number, whole
from ablate.training.checkpoint_writer import forget_after, recover
from ablate.training.member import Member
from ablate.training.resolution import resolve
from ablate.training.run_config import Run
from ablate.training.run_files import hashes, repair, write_config
from ablate.training.run_manifest import COMPLETE, FAILED, RunError, new_manifest, read_manifest
from ablate.training.session import Session

Manifest = dict[str, Any]


def train(run: Run, console: Console) -> Path:
    """Runs or resumes; returns the folder, whose records are then complete.

    Raises ValueError for what the machine does not have, RunError where the folder belongs to another run, is in use
    or is damaged. Nothing is written in these cases.
    """
    return train_together([run], console)[0]


def train_together(runs: Sequence[Run], console: Console) -> list[Path]:
    """Runs or resumes runs that differ in numbers alone (see `ablate.training.pack`); returns their folders.

    Those that are complete are left as they are. The others go on together from the last checkpoint that all have, or
    in groups that have one in common. One that diverges is given up, and the others go on. Raises what `train` does; of
    runs that cannot go on, after the others are complete.
    """
    runs = [resolve(run) for run in runs]
    first = runs[0]
    torch.set_num_threads(first.threads)
    keep_freed_memory()
    if first.strategy is not Strategy.auto:
        join_processes(first.device)
    if first.ranks[0]:
        with _others_may_end():
            if from_first(None):
                session = Session([Member(first, new_manifest(first))], console)
                session.go(_checkpoints(runs, console))
        return [first.folder]
    for run in runs:
        read_manifest(run)  # refuses before the lock would make the folder
    given_up: list[str] = []
    with ExitStack() as locks:
        manifests: dict[str, Manifest] = {}
        for run in runs:
            _lock(run, locks)
            manifests[run.label] = read_manifest(run) or new_manifest(run)
        left = []
        for run in runs:
            if from_first(manifests[run.label]["status"] != COMPLETE):
                left.append(run)
            else:
                repair(run, manifests[run.label], console)
                console.print(f"complete already: {run.folder}", soft_wrap=True)
        for group in _groups(left, manifests):
            try:
                given_up += _go(group, console, [manifests[run.label] for run in group])
            except RunError as error:  # of all of them
                given_up.append(str(error))
    if given_up:
        raise RunError("; ".join(given_up))
    return [run.folder for run in runs]


def _lock(run: Run, locks: ExitStack) -> None:
    try:
        locks.enter_context(locked(run.folder / ".lock", patient=False))
    except BlockingIOError:
        raise RunError(f"out={run.folder}: another process is at work there; wait for it or type out=PATH") from None


def _groups(runs: Sequence[Run], manifests: Mapping[str, Manifest]) -> list[list[Run]]:
    """Those that go on together: all with a whole checkpoint in common, and all that have none.

    Where runs that began together were killed at their first checkpoint, some have it and some do not: all begin anew.
    """
    if len(runs) < 2:
        return [list(runs)] if runs else []
    for run in runs:
        recover(run.folder / FOLDER)
    names, labels = [_names(run) for run in runs], [run.label for run in runs]
    if len(set.union(*names)) == 1 and all(manifests[label].get("pack") == labels for label in labels):
        return [list(runs)]
    groups: list[tuple[set[str], list[Run]]] = []
    for run, found in zip(runs, names, strict=True):
        if not found and checkpoints(run.folder / FOLDER):  # all are damaged, which stops no other
            found = {run.label}
        for common, members in groups:
            if common & found or not common | found:
                common &= found
                members.append(run)
                break
        else:
            groups.append((set(found), [run]))
    return [members for _, members in groups]


def _names(run: Run) -> set[str]:
    """Of a run's whole checkpoints."""
    return {path.name for path in whole(run.folder)}


def _checkpoints(runs: Sequence[Run], console: Console) -> list[Path] | None:
    """Where each begins: of one run its last whole checkpoint, of several the last that all have; None for the base.

    Looked for by the first process for all, which all must ask: each would read all checkpoints. Raises RunError where
    all of a run's are damaged.
    """
    paths: list[Path | None] = []
    problem = ""
    if runs[0].ranks[0] == 0:
        try:
            paths = [latest(run.folder, lambda line: console.print(line, soft_wrap=True, markup=False)) for run in runs]
        except RunError as damage:
            problem = str(damage)
    paths, problem = from_first((paths, problem))
    if problem:
        raise RunError(problem)
    if len({path and path.name for path in paths}) > 1:
        common = set.intersection(*map(_names, runs))
        paths = [max((run.folder / FOLDER / name for name in common), key=number, default=None) for run in runs]
        for run, path in zip(runs, paths, strict=True):
            forget_after(run.folder / FOLDER, path)
    return [path for path in paths if path] or None


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


def _go(runs: Sequence[Run], console: Console, manifests: Sequence[Manifest]) -> list[str]:
    """Takes runs to their end; returns what is to be said of those that were given up."""
    for line in announcement(runs):
        console.print(line, soft_wrap=True, markup=False)
    members = []
    for one, known in zip(runs, manifests, strict=True):
        manifest = {name: value for name, value in known.items() if name not in PROMISE}
        members.append(Member(one, {**manifest, "status": "running", "pack": [run.label for run in runs]}))
    session = Session(members, console)
    for member in members:
        write_manifest(member.run.folder, member.manifest)  # first: it says whose folder this is
        write_config(member.run)
    try:
        session.go(_checkpoints(runs, console))
    except BaseException as stop:
        # What diverged has a problem of its own; after damage the same command goes on where it is mended
        paused = isinstance(stop, KeyboardInterrupt | Terminated | OSError | RunError)
        for member in members:
            with suppress(Exception):  # the next process to work here must not meet one that is still being written
                member.writer.wait()
            member.manifest["status"] = "interrupted" if paused and not member.problem else FAILED
            with suppress(OSError):
                write_manifest(member.run.folder, member.manifest)
        raise
    for member in members:
        if member.problem:
            write_manifest(member.run.folder, {**member.manifest, "status": FAILED})
        else:
            files = hashes(member.run.folder)
            write_manifest(member.run.folder, {**member.manifest, "status": COMPLETE, "files": files})
    return [member.problem for member in members if member.problem]

"""Writes checkpoints in the background, so that at every moment a whole one lies under a name that a resume accepts.

A folder is written under a hidden name, gets a list of checksums and then its own name, `checkpoints/<step>-<stage>`.
The last `KEEP` stay, and those that others fork: no old one goes before the new one has its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ablate.compute.distributed import from_first
from ablate.core.storage import digest, file_hash, remove, write_bytes, writing
from ablate.training.checkpoint import CHECKSUMS, NAME, PLAIN, Tensors, checkpoints, is_whole, number, save
from ablate.training.checkpoint_errors import revealed

KEEP = 2  # checkpoints of a run: the last one, and one to go on from where that is damaged


@dataclass
class Writer:
    """Writes a run's checkpoints, in the background and one at a time; every process of the run has one.

    Call it with the same folder in every process, after they have joined. keep: checkpoints that stay, beside those of
    the steps `keep_at`.
    """

    folder: Path
    rank: int
    world: int
    keep: int = KEEP
    keep_at: Container[int] = ()
    pending: Future[None] | None = None

    def __post_init__(self) -> None:
        self.group: Any = None
        if self.rank == 0:
            recover(self.folder)
        if self.world > 1:  # a group of its own: what runs in the background must not meet training's exchanges
            self.group = torch.distributed.new_group(backend="gloo")
            torch.distributed.barrier(self.group)

    def write(self, name: str, tensors: Tensors, plain: dict[str, Any]) -> None:
        """Copies the tensors and returns; the checkpoint is there when `wait` has returned. A whole one of this name
        stays as it is. Raises what the one before met (OSError)."""
        from torch.distributed.checkpoint.state_dict_saver import async_save

        self.wait()
        if from_first(self.rank == 0 and is_whole(self.folder / name)):
            if self.rank == 0:
                self._prune(self.folder / name)
            return
        fresh = self.folder / f".{name}"
        if self.rank == 0:
            with _gone_unless_written(fresh):
                save(fresh / PLAIN, plain)
        with revealed():
            saved = async_save(tensors, checkpoint_id=fresh, process_group=self.group, no_dist=self.world == 1)
        assert isinstance(saved, Future)  # what else there is belongs to asynchronous copies
        finished: Future[None] = Future()
        # In torch's own thread: a pool that is kept, and interrupted as it starts one, never lets the process end
        saved.add_done_callback(lambda _: _settle(finished, lambda: self._finish(saved, fresh, self.folder / name)))
        self.pending = finished

    def _finish(self, saved: Any, fresh: Path, whole: Path) -> None:
        if self.rank:
            with writing(whole), revealed():
                saved.result()
            return
        with _gone_unless_written(fresh), writing(whole):
            with revealed():
                saved.result()  # of the first process: every part has been written
            files = {path.name: file_hash(path) for path in sorted(fresh.iterdir()) if path.name != CHECKSUMS}
            write_bytes(fresh / CHECKSUMS, json.dumps({"files": files, "self": digest(files)}, indent=1).encode())
            _put(fresh, whole)
        self._prune(whole)

    def _prune(self, whole: Path) -> None:
        """Removes all but the last `keep` up to a whole one; later ones are damaged, or the run would have gone on from
        them."""
        there = checkpoints(self.folder)
        stay = [path for path in there if number(path) <= number(whole)][-self.keep :]
        for path in there:
            if path not in stay and number(path)[0] not in self.keep_at:
                remove(_aside(path))

    def wait(self) -> None:
        """Until the checkpoint that was begun is whole. Raises what it met (OSError)."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            pending.result()


def _settle(future: Future[None], work: Callable[[], None]) -> None:
    """Does the work; the future has what came of it."""
    try:
        work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(None)


@contextmanager
def _gone_unless_written(fresh: Path) -> Iterator[None]:
    """Removes what could not be written whole: it may be what fills the disk."""
    try:
        yield
    except OSError:
        remove(fresh)
        raise


def _put(fresh: Path, whole: Path) -> None:
    """Gives a whole checkpoint its name; what has that name is damaged."""
    damaged = _aside(whole) if whole.exists() else None
    fresh.rename(whole)
    if damaged:
        remove(damaged)


def _aside(path: Path) -> Path:
    """Renames what is to be removed, so that half of it is never taken for a checkpoint."""
    aside = path.with_name(f".{path.name}.old")
    remove(aside)
    return path.rename(aside)


def forget_after(folder: Path, last: Path | None) -> None:
    """Removes the checkpoints after this one, or all: of runs that go on together, what one did by itself."""
    for path in checkpoints(folder):
        if last is None or number(path) > number(last):
            remove(_aside(path))


def recover(folder: Path) -> None:
    """Removes what a process left that died while it wrote a checkpoint; a copy that is whole, and missing or damaged
    under its own name, is given that name."""
    for hidden in sorted(folder.glob(".*")):
        whole = folder / hidden.name[1:]
        if NAME.fullmatch(whole.name) and is_whole(hidden) and not is_whole(whole):
            _put(hidden, whole)
    for remains in folder.glob(".*"):
        remove(remains)

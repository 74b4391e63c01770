"""Checkpoints: a folder with every process's part of the tensors and the plain values, whole, checked or absent.

Tensors are written by torch.distributed.checkpoint, so that any number of processes may read what any other number
wrote; plain values lie in one file. A folder is written under a hidden name in the background, gets a list of checksums
and then its own name, `checkpoints/<step>-<stage>`. The last `KEEP` stay: no old one goes before the new one is there.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ablate.compute.distributed import from_first
from ablate.compute.optimizer import moments
from ablate.core.storage import Damaged, digest, file_hash, remove, write_bytes, writing
from ablate.model.transformer import Transformer
from ablate.training.run_config import Run
from ablate.training.run_manifest import RunError

warnings.filterwarnings("ignore", message=r"torch\.distributed is disabled")  # a single process is no mistake
KEEP = 2  # checkpoints of a run: the last one, and one to go on from where that is damaged
FOLDER, PLAIN, CHECKSUMS = "checkpoints", "plain.ckpt", "checksums.json"
NAME = re.compile(r"(\d+)-(\d+)")  # step and stage
DIGEST = hashlib.sha256().digest_size
Tensors = dict[str, Any]  # tensors by name, nested


def save(path: Path, state: dict[str, Any]) -> None:
    """Saves plain values and small tensors behind their SHA-256."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    write_bytes(path, hashlib.sha256(content).digest() + content)


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote, on the CPU. Raises Damaged if a byte differs; runs no code that a file might hold."""
    content = path.read_bytes()
    digest, content = content[:DIGEST], content[DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise Damaged(f"{path}: wanted a checkpoint with its recorded checksum, got damaged content")
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever unpickling meets in bytes that `save` did not write
        raise Damaged(f"{path}: wanted a checkpoint, got other content ({type(error).__name__})") from None


@dataclass
class Writer:
    """Writes a run's checkpoints, in the background and one at a time; every process of the run has one.

    Call it with the same folder in every process, after they have joined. keep: checkpoints that stay.
    """

    folder: Path
    rank: int
    world: int
    keep: int = KEEP
    pending: Future[None] | None = None
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "checkpoint"))

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
        saved = async_save(tensors, checkpoint_id=fresh, process_group=self.group, no_dist=self.world == 1)
        self.pending = self.thread.submit(self._finish, saved, fresh, self.folder / name)

    def _finish(self, saved: Any, fresh: Path, whole: Path) -> None:
        if self.rank:
            with writing(whole):
                _settle(saved)
            return
        with _gone_unless_written(fresh), writing(whole):
            _settle(saved)  # of the first process: every part has been written
            files = {path.name: file_hash(path) for path in sorted(fresh.iterdir()) if path.name != CHECKSUMS}
            write_bytes(fresh / CHECKSUMS, json.dumps({"files": files, "self": digest(files)}, indent=1).encode())
            _put(fresh, whole)
        self._prune(whole)

    def _prune(self, whole: Path) -> None:
        """Removes all but the last `keep` up to a whole one; later ones are damaged, or the run would have gone on from
        them."""
        there = checkpoints(self.folder)
        stay = [path for path in there if _number(path) <= _number(whole)][-self.keep :]
        for path in there:
            if path not in stay:
                remove(_aside(path))

    def wait(self) -> None:
        """Until the checkpoint that was begun is whole. Raises what it met (OSError)."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            pending.result()


@contextmanager
def _gone_unless_written(fresh: Path) -> Iterator[None]:
    """Removes what could not be written whole: it may be what fills the disk."""
    try:
        yield
    except OSError:
        remove(fresh)
        raise


def _settle(saved: Future[Any]) -> None:
    """Waits until tensors are written. Raises OSError where the system refused it, as torch's exception hides it."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        saved.result()
    except CheckpointException as failed:
        met = [error for error, _ in failed.failures.values()]
        raise next((error for error in met if isinstance(error, OSError)), met[0]) from None


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


def recover(folder: Path) -> None:
    """Removes what a process left that died while it wrote a checkpoint; a copy that is whole, and missing or damaged
    under its own name, is given that name."""
    for hidden in sorted(folder.glob(".*")):
        whole = folder / hidden.name[1:]
        if NAME.fullmatch(whole.name) and is_whole(hidden) and not is_whole(whole):
            _put(hidden, whole)
    for remains in folder.glob(".*"):
        remove(remains)


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in their order, whole or damaged."""
    return sorted((path for path in folder.glob("*") if NAME.fullmatch(path.name)), key=_number)


def _number(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in path.name.split("-"))


def latest(folder: Path, say: Callable[[str], None] = lambda line: None) -> Path | None:
    """The last whole checkpoint of a run's folder; None where there is none. `say` is told of damaged ones after it.

    Raises RunError where all are damaged.
    """
    damaged: list[Damaged] = []
    for path in reversed(checkpoints(folder / FOLDER)):
        try:
            check(path)
        except Damaged as damage:
            damaged.append(damage)
            continue
        if damaged:
            say(f"{damaged[0]}; going on from the last whole one, {path.name}")
        return path
    if damaged:
        raise RunError(f"{damaged[0]}; no whole checkpoint is left: delete {folder} or type out=PATH")
    return None


def check(path: Path) -> None:
    """Raises Damaged where a file of a checkpoint is not as it was written."""
    try:
        listed = json.loads((path / CHECKSUMS).read_text())
        right = listed["self"] == digest(listed["files"])
        wrong = [name for name, sha256 in listed["files"].items() if file_hash(path / name) != sha256]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{path}: wanted a whole checkpoint, got damaged content ({type(error).__name__})") from None
    if wrong or not right:
        raise Damaged(f"{path / (wrong or [CHECKSUMS])[0]}: wanted its recorded checksum, got damaged content")


def is_whole(path: Path) -> bool:
    """Is a checkpoint there, every file of it as it was written?"""
    try:
        check(path)
    except Damaged:
        return False
    return True


def fill(path: Path, tensors: Tensors) -> None:
    """Fills tensors, each process its own part of sharded ones, from a checkpoint of any number of processes."""
    from torch.distributed.checkpoint.state_dict_loader import load as load_parts

    load_parts(tensors, checkpoint_id=path, no_dist=not torch.distributed.is_initialized())


def tensors_of(network: Transformer, optimizer: dict[str, Any] | None) -> Tensors:
    """What a checkpoint holds of a network and of its optimizer's state, where there is one."""
    tensors: Tensors = {"network": network.state_dict()}
    if optimizer is not None:
        tensors["optimizer"] = {str(i): part for i, part in optimizer["state"].items()}
    return tensors


def restore(path: Path, network: Transformer, optimizer: bool) -> dict[str, Any] | None:
    """Fills a network from a checkpoint; returns the optimizer's state, where the checkpoint has one."""
    room = moments(network) if optimizer else None
    fill(path, {"network": network.state_dict(), **({"optimizer": room} if room else {})})
    return {"state": {int(i): part for i, part in room.items()}} if room else None


def final_weights(folder: Path) -> dict[str, Tensor]:
    """Weights, whole, of a run's last checkpoint. Raises RunError where there is none or it is damaged: an earlier one
    does not stand for it."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    path = final(folder)
    known = FileSystemReader(path).read_metadata().state_dict_metadata
    prefix = "network."
    weights = {
        name.removeprefix(prefix): torch.empty(part.size, dtype=part.properties.dtype)  # type: ignore[union-attr]
        for name, part in known.items()
        if name.startswith(prefix)
    }
    fill(path, {"network": weights})
    return weights


def final(folder: Path) -> Path:
    """A run's last checkpoint. Raises RunError where there is none or it is damaged."""
    there = checkpoints(folder / FOLDER)
    if not there:
        raise RunError(f"{folder}: wanted the folder of a run with a checkpoint, got none; type the run's own command")
    try:
        check(there[-1])
    except Damaged as damage:
        raise RunError(f"{damage}; type the run's own command with another out=PATH") from None
    return there[-1]


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of the tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_plain(run: Run, path: Path) -> dict[str, Any]:
    """Plain values of a run's checkpoint. Raises RunError if it is damaged or another configuration's."""
    try:
        plain = load(path / PLAIN)
        if plain["config"] != run.fingerprint():
            raise Damaged(f"{path}: wanted the checkpoint of {run.label}, got another run's")
        return plain
    except (Damaged, OSError, KeyError) as damage:
        raise RunError(f"{damage}; delete {run.folder} or type out=PATH") from None

"""Checkpoints: a folder with every process's part of the tensors and the plain values, whole, checked or absent.

Tensors are written by torch.distributed.checkpoint, so that any number of processes may read what any other number
wrote; plain values lie in one file. A folder is written under a hidden name in the background, gets a list of checksums
and then its own name, `checkpoints/<step>-<stage>`; only the last one is kept.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from ablate.compute.distributed import from_first
from ablate.compute.optimizer import moments
from ablate.core import records
from ablate.core.storage import describe, digest, file_hash, write_bytes
from ablate.model.transformer import Transformer
from ablate.training.run_config import Run
from ablate.training.run_manifest import RunError

warnings.filterwarnings("ignore", message=r"torch\.distributed is disabled")  # a single process is no mistake
FOLDER, PLAIN, CHECKSUMS = "checkpoints", "plain.ckpt", "checksums.json"
DIGEST = hashlib.sha256().digest_size
Tensors = dict[str, Any]  # tensors by name, nested


class Damaged(ValueError):
    """A file whose content does not have its recorded checksum."""


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

    Call it with the same folder in every process, after they have joined.
    """

    folder: Path
    rank: int
    world: int
    pending: Future[None] | None = None
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "checkpoint"))

    def __post_init__(self) -> None:
        self.group: Any = None
        if self.rank == 0:
            for remains in self.folder.glob(".*"):
                shutil.rmtree(remains, ignore_errors=True)
        if self.world > 1:  # a group of its own: what runs in the background must not meet training's exchanges
            self.group = torch.distributed.new_group(backend="gloo")
            torch.distributed.barrier(self.group)

    def write(self, name: str, tensors: Tensors, plain: dict[str, Any]) -> None:
        """Copies the tensors and returns; the checkpoint is there when `wait` has returned. Raises what the one before
        met (OSError)."""
        from torch.distributed.checkpoint.state_dict_saver import async_save

        self.wait()
        fresh = self.folder / f".{name}"
        if self.rank == 0:
            save(fresh / PLAIN, plain)
        saved = async_save(tensors, checkpoint_id=fresh, process_group=self.group, no_dist=self.world == 1)
        self.pending = self.thread.submit(self._finish, saved, fresh, self.folder / name)

    def _finish(self, saved: Any, fresh: Path, whole: Path) -> None:
        saved.result()  # of the first process: every part has been written
        if self.rank:
            return
        files = {path.name: file_hash(path) for path in sorted(fresh.iterdir()) if path.name != CHECKSUMS}
        write_bytes(fresh / CHECKSUMS, json.dumps({"files": files, "self": digest(files)}, indent=1).encode())
        others = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
        if whole in others:
            shutil.rmtree(whole)
        fresh.rename(whole)
        for path in others:
            if path != whole:
                shutil.rmtree(path)

    def wait(self) -> None:
        """Until the checkpoint that was begun is whole. Raises what it met (OSError)."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            pending.result()


def latest(folder: Path) -> Path | None:
    """The last whole checkpoint of a run's folder."""
    whole = [path for path in (folder / FOLDER).glob("[0-9]*-*") if (path / CHECKSUMS).exists()]
    return max(whole, key=lambda path: path.name, default=None)


def check(path: Path) -> None:
    """Raises Damaged where a file of a checkpoint is not as it was written."""
    try:
        listed = json.loads((path / CHECKSUMS).read_text())
        right = listed["self"] == digest(listed["files"])
        wrong = [name for name, sha256 in listed["files"].items() if file_hash(path / name) != sha256]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{path}: wanted a whole checkpoint, got damaged content ({type(error).__name__})") from None
    if wrong or not right:
        raise Damaged(f"{path / (wrong or [CHECKSUMS])[0]}: wanted its recorded checksum, got damaged content")


def check_together(path: Path, first: bool) -> None:
    """The same by the first process for all, which all must call: every one would read the whole checkpoint."""
    problem = None
    if first:
        try:
            check(path)
        except Damaged as damage:
            problem = str(damage)
    if problem := from_first(problem):
        raise Damaged(problem)


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
    """Weights, whole, of a run's last checkpoint. Raises RunError where there is none or it is damaged."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    path = latest(folder)
    if path is None:
        raise RunError(f"{folder}: wanted the folder of a run with a checkpoint, got none; type the run's own command")
    try:
        check(path)
    except Damaged as damage:
        raise RunError(f"{damage}; type the run's own command with another out=PATH") from None
    known = FileSystemReader(path).read_metadata().state_dict_metadata
    prefix = "network."
    weights = {
        name.removeprefix(prefix): torch.empty(part.size, dtype=part.properties.dtype)  # type: ignore[union-attr]
        for name, part in known.items()
        if name.startswith(prefix)
    }
    fill(path, {"network": weights})
    return weights


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of the tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_plain(run: Run, path: Path, verify: Callable[[Path], None] = check) -> dict[str, Any]:
    """Plain values of a run's checkpoint. Raises RunError if it is damaged or another configuration's."""
    try:
        verify(path)
        plain = load(path / PLAIN)
        if plain["config"] != run.fingerprint():
            raise Damaged(f"{path}: wanted the checkpoint of {run.label}, got another run's")
        return plain
    except (Damaged, OSError, KeyError) as damage:
        raise RunError(f"{damage}; delete {run.folder} or type out=PATH") from None


def repair(run: Run) -> None:
    """Gives a finished run the files back that it lost, from its checkpoint."""
    try:
        records.read(run.folder)
    except ValueError:
        path = latest(run.folder)
        if path is None:
            raise RunError(f"{run.folder}: its records and checkpoint are lost; delete it or type out=PATH") from None
        records.write(records.table(read_plain(run, path)["rows"]), run.folder / records.FILE)
    if not (run.folder / "config.yaml").exists():
        write_config(run)


def write_config(run: Any) -> None:
    """The resolved configuration of a run or of a survey, in its folder."""
    write_bytes(run.folder / "config.yaml", yaml.safe_dump(describe(run), sort_keys=False).encode())

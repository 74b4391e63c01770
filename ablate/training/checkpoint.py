"""Checkpoints: a folder with every process's part of the tensors and the plain values, whole, checked or absent.

Tensors are written by torch.distributed.checkpoint, so that any number of processes may read what any other number
wrote; plain values lie in one file, and a list of checksums beside them. checkpoint_writer.py writes them,
checkpoint_tensors.py reads the tensors.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ablate.compute.optimizer import moments
from ablate.core.foreign_files import require_inside
from ablate.core.storage import Damaged, digest, file_hash, write_bytes
from ablate.model.transformer import Transformer
from ablate.training.checkpoint_tensors import fill, weights_at
from ablate.training.run_config import Run
from ablate.training.run_manifest import RunError

warnings.filterwarnings("ignore", message=r"torch\.distributed is disabled")  # a single process is no mistake
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


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in their order, whole or damaged."""
    return sorted((path for path in folder.glob("*") if NAME.fullmatch(path.name)), key=number)


def number(path: Path) -> tuple[int, ...]:
    """Step and stage of a checkpoint, by its name."""
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


def whole(folder: Path) -> list[Path]:
    """The whole checkpoints of a run's folder, in their order."""
    return [path for path in checkpoints(folder / FOLDER) if is_whole(path)]


def check(path: Path) -> None:
    """Raises Damaged where a file of a checkpoint is not as it was written."""
    try:
        listed = json.loads((path / CHECKSUMS).read_text())
        right = listed["self"] == digest(listed["files"])
        for name in listed["files"]:
            require_inside(path, name)
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


def tensors_of(network: Transformer, optimizer: dict[str, Any] | None) -> Tensors:
    """What a checkpoint holds of a network and of its optimizer's state, where there is one."""
    tensors: Tensors = {"network": {name: _apart(x) for name, x in network.state_dict().items()}}
    if optimizer is not None:
        states = optimizer["state"].items()
        tensors["optimizer"] = {str(i): {name: _apart(x) for name, x in part.items()} for i, part in states}
    return tensors


def _apart(tensor: Tensor) -> Tensor:
    """A copy of what is a part of stacked networks' memory: torch copies the whole memory behind a tensor that it is
    to write."""
    return tensor.clone() if type(tensor) is Tensor and tensor.untyped_storage().nbytes() > tensor.nbytes else tensor


def restore(path: Path, network: Transformer, optimizer: bool) -> dict[str, Any] | None:
    """Fills a network from a checkpoint; returns the optimizer's state, where the checkpoint has one."""
    room = moments(network) if optimizer else None
    fill(path, {"network": network.state_dict(), **({"optimizer": room} if room else {})})
    return {"state": {int(i): part for i, part in room.items()}} if room else None


def final_weights(folder: Path) -> dict[str, Tensor]:
    """Weights, whole, of a run's last checkpoint. Raises RunError where there is none or it is damaged: an earlier one
    does not stand for it."""
    return weights_at(final(folder))


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

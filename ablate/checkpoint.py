"""Checkpoints: tensors and plain values behind a checksum, written atomically."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from ablate import records
from ablate.manifest import RunError
from ablate.run import Run
from ablate.store import describe, write_bytes

CHECKPOINT = "checkpoints/last.ckpt"  # in a run's folder
DIGEST = hashlib.sha256().digest_size


class Damaged(ValueError):
    """A file whose content does not have its recorded checksum."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Saves tensors and plain values behind their SHA-256."""
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


def weights_hash(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of the tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_checkpoint(run: Run) -> dict[str, Any]:
    """The state that `Session.keep` wrote. Raises RunError if it is damaged or another configuration's."""
    path = run.folder / CHECKPOINT
    try:
        state = load(path)
        if state["config"] != run.fingerprint():
            raise Damaged(f"{path}: wanted the checkpoint of {run.label}, got another run's")
        return state
    except (Damaged, OSError, KeyError) as damage:
        raise RunError(f"{damage}; delete {run.folder} or type out=PATH") from None


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of a run's network as its last checkpoint has them. Raises RunError where that is absent or damaged."""
    path = folder / CHECKPOINT
    try:
        return load(path)["network"]
    except (Damaged, OSError, KeyError) as damage:
        raise RunError(f"{path}: wanted the checkpoint of a run ({damage}); run its command again") from None


def repair(run: Run) -> None:
    """Gives a finished run the files back that it lost, from its checkpoint."""
    try:
        records.read(run.folder)
    except ValueError:
        state = read_checkpoint(run)
        records.write(records.table(state["rows"]), run.folder / records.FILE)
    if not (run.folder / "config.yaml").exists():
        write_config(run)


def write_config(noun: Any) -> None:
    """The resolved configuration of a run or of a survey, in its folder."""
    write_bytes(noun.folder / "config.yaml", yaml.safe_dump(describe(noun), sort_keys=False).encode())

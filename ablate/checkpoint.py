"""Checkpoints: tensors and plain values behind a checksum, written atomically."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from ablate.store import write_bytes

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
        raise Damaged(f"{path}: damaged: its content does not have its recorded checksum")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def weights_hash(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of the tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

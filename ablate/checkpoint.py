"""Files that are whole or absent: atomic writes, checksums, locks, checkpoints."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

DIGEST = hashlib.sha256().digest_size


class Damaged(ValueError):
    """A file whose content does not have its recorded checksum."""


def write_bytes(path: Path, content: bytes) -> None:
    """Writes under a temporary name in the same folder, then renames: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


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


@contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[None]:
    """Holds an exclusive lock on `path` for the duration; the system frees it when the process dies.

    Where another process holds it: prints `waiting` and waits; with an empty `waiting` raises BlockingIOError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waiting:
                raise
            print(waiting, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield

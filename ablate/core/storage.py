"""Files that are whole or absent: atomic writes, locks, hashes of content, configs as plain values."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import IO, Any

# Metadata of a field that came to a config after results had been kept: at its default it is no part of a fingerprint,
# so that the runs of those results are still known
LATER = {"later": True}
# Fields that say where files lie and what is drawn, not what is computed
WHERE = ("out", "cache", "draw")


def describe(config: Any, whole: bool = True) -> Any:
    """A config as plain values; a dataclass says its kind, so that objectives and schedules can be told apart.

    If not `whole`, fields that came later (see `LATER`) are left out where they have their default.
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        named = {
            f.name: getattr(config, f.name)
            for f in dataclasses.fields(config)
            if whole or not (f.metadata.get("later") and getattr(config, f.name) == _default(f))
        }
        return {"kind": type(config).__name__} | {name: describe(value, whole) for name, value in named.items()}
    if isinstance(config, Enum):
        return config.value
    return [describe(x, whole) for x in config] if isinstance(config, list | tuple) else config


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def digest(content: Any) -> str:
    """SHA-256 of plain values, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder to write to: the file replaces `path` when the block ends well.

    A reader sees the old file or the new one. Where the block raises, or leaves no file, `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        if temporary.exists():
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes the whole file or nothing; see `whole_file`."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to fill: it replaces `folder` when the block ends well and vanishes when it does not."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if folder.is_file():
            folder.unlink()
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def lock(path: Path, patient: bool = False) -> IO[str] | None:
    """The file, locked exclusively until it is closed here and in every process that has inherited it, or these have
    died. Where another holds it: waits if `patient`, else None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = path.open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if patient else fcntl.LOCK_NB))
    except BlockingIOError:
        handle.close()
        return None
    return handle


@contextmanager
def locked(path: Path, patient: bool = True) -> Iterator[None]:
    """Holds an exclusive lock on `path` for the duration.

    Where another process holds it: waits; if not `patient` raises BlockingIOError.
    """
    handle = lock(path, patient)
    if handle is None:
        raise BlockingIOError(path)
    with handle:
        yield

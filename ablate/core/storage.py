"""Files that are whole or absent: atomic writes, locks, hashes of content, configs as plain values."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import IO, Any

# Metadata of a field that came to a config after results had been kept: at its default it is no part of a fingerprint,
# so that the runs of those results are still known
LATER = {"later": True}
# Fields that say where files lie and what is drawn, not what is computed
WHERE = ("out", "cache", "draw", "fork")
# Fields that say by what means it is computed: they change rounding alone, and a run may be resumed under others
MEANS = ("processes", "strategy", "recompute", "recompute_every", "loaders", "pack", "workers")
LONGEST = 180  # characters of a file's name that its temporary name repeats
HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:32] or "here"
TEMPORARY = re.compile(rf"\..+\.{HOST}\.[0-9a-f]{{8}}\.new")  # names of files and folders that are being written
ROOM = "make room there or name another place"
ADVICE = {  # what to do, by the system's reason
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EROFS: "name a place that can be written",
    errno.EACCES: "name a place that you may use",
    errno.EPERM: "name a place that you may use",
    errno.EISDIR: "move away the folder that stands in its place",
    errno.ENOTDIR: "move away the file that stands in a folder's place",
    errno.EEXIST: "move away the file that stands in a folder's place",
    errno.ENAMETOOLONG: "name a place with a shorter name",
    errno.ENOENT: "name one that is there",
}


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


def flat(nested: object, prefix: str = "") -> dict[str, object]:
    """Nested dicts and lists as {"regime.stages.1.lr": value}, as the command line spells its keys."""
    if not isinstance(nested, dict | list):
        return {prefix: nested}
    items = nested.items() if isinstance(nested, dict) else enumerate(nested)
    return {k: v for key, value in items for k, v in flat(value, f"{prefix}.{key}" if prefix else str(key)).items()}


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def digest(content: Any) -> str:
    """SHA-256 of plain values, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Damaged(ValueError):
    """A file whose content is not what was written; the message names it."""


class WriteError(OSError):
    """A file that could not be written; the message names it, says why and what to do."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises WriteError where the system refuses what is written for `path`; what it says of other files passes."""
    try:
        yield
    except (WriteError, ConnectionError, TimeoutError, BlockingIOError, ChildProcessError):
        raise
    except OSError as error:
        if error.filename is not None and not _is_for(Path(os.fsdecode(error.filename)), path):
            raise
        reason = os.strerror(error.errno) if error.errno else (str(error).splitlines() or ["no reason"])[0]
        raise refused_write(path, reason, error.errno) from error


def _is_for(named: Path, path: Path) -> bool:
    """Is it what is to be written, a folder that holds it, or one of its temporary files?"""
    temporary = f".{path.name[:LONGEST]}.{HOST}."
    return (
        path.is_relative_to(named)
        or named.is_relative_to(path)
        or any(part.startswith(temporary) for part in named.parts)
    )


def refused_write(path: Path, reason: str, number: int | None = None) -> WriteError:
    """The error that names a file which was not written. number: the system's, of the reason."""
    todo = ADVICE.get(number or 0, ROOM)
    fault = WriteError(f"{path}: wanted to write it, got: {reason}; {todo}, and type the same command again")
    fault.errno = number
    return fault


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file in the same folder to write to: it replaces `path` when the block ends well.

    A reader sees the old file or the new one, also after a power cut. Where the block raises, or removes the temporary
    file, `path` stays as it was. Raises WriteError where the system does not let it be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, descriptor = _owned(path, lambda new: os.close(os.open(new, os.O_CREAT | os.O_EXCL, 0o666)))
        try:
            yield temporary
            if temporary.exists():
                os.fsync(descriptor)
                os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
            os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes the whole file or nothing; see `whole_file`."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to fill: it replaces `folder` when the block ends well and vanishes when it does not."""
    before = folder.with_name(f".{folder.name}.old")
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary, descriptor = _owned(folder, os.mkdir)
        if os.path.lexists(before) and not os.path.lexists(folder):  # a process died between the two renames below
            before.rename(folder)
        try:
            yield temporary
            if os.path.lexists(folder):
                remove(before)
                folder.rename(before)
            temporary.rename(folder)
            remove(before)
        except OSError:
            if os.path.lexists(before) and not os.path.lexists(folder):
                before.rename(folder)
            raise
        finally:
            remove(temporary)
            os.close(descriptor)


def remove(path: Path) -> None:
    """Removes a file or a folder with all that it holds, as far as the system lets it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _temporary_name(path: Path) -> str:
    return f".{path.name[:LONGEST]}.{HOST}.{secrets.token_hex(4)}.new"


def _owned(path: Path, make: Callable[[Path], None]) -> tuple[Path, int]:
    """A new temporary file or folder for `path`, and a descriptor of it that is locked: nobody's is what no process
    holds. Removes what processes of this machine that have died left in the same folder."""
    _clear(path.parent)
    while True:
        temporary = path.with_name(_temporary_name(path))
        make(temporary)
        try:
            descriptor = os.open(temporary, os.O_RDONLY if temporary.is_dir() else os.O_RDWR)
        except FileNotFoundError:  # another process found it before it was locked, and took it for a dead one's
            continue
        if _hold(descriptor) is not False and temporary.exists():
            return temporary, descriptor
        os.close(descriptor)


def _clear(folder: Path) -> None:
    """Removes temporary files and folders that belong to nobody: made on this machine, and their lock is free. Those of
    other machines stay, since a shared folder may not carry their locks."""
    with suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if TEMPORARY.fullmatch(entry.name)]:
            with suppress(OSError):
                left = folder / name
                descriptor = os.open(left, os.O_RDONLY if left.is_dir() else os.O_RDWR)
                try:
                    if _hold(descriptor):
                        remove(left)
                finally:
                    os.close(descriptor)


def _hold(descriptor: int) -> bool | None:
    """Locks an open file or folder: True, or False where another process holds it; None where the file system has no
    locks, so that nothing of it is ever taken for nobody's."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


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

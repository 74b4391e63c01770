"""Manifests: what is known of a folder's files, and their hashes, which are checked when the files are read.

`"files": {name: SHA-256}` is what a manifest vouches for. `"next"` has the hashes of files that are about to replace
these: a process killed between two files leaves none that is not vouched for. `"content"` is the hash of all else in
the manifest; those of earlier versions have none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import EllipsisType
from typing import Any

from ablate.core.storage import Damaged, digest, file_hash, whole_file, write_bytes

MANIFEST = "manifest.json"
Shape = Any  # a type, several, {key: Shape}, {...: Shape} for any key, or [Shape] for a list of such
NUMBER = (int, float)
TEXT = (str, type(None))
OWN = "content"  # the key of the hash of all other keys
PROMISE = {"files": {...: str}, "next": {...: str}}
WRITERS = Mapping[str, Callable[[Path], object]]  # by a file's name, what writes it to a path


def load(path: Path, shape: Shape) -> dict[str, Any]:
    """A manifest. Raises Damaged where it is no JSON of this shape or cannot be read."""
    try:
        content = json.loads(path.read_bytes())
        require_shape(content, shape)
        written = content.pop(OWN, None)
        if written is not None and written != digest(content):
            raise ValueError("other content than was written")
    except (OSError, ValueError, RecursionError) as error:
        said = getattr(error, "strerror", None) or (str(error).splitlines() or [""])[0]
        raise Damaged(f"{path}: wanted a manifest, got a damaged file ({said})") from None
    return content


def require_shape(value: Any, shape: Shape, where: str = "content") -> None:
    """Raises ValueError that names the first part which is missing or of another type, at any depth."""
    if isinstance(shape, dict):
        _require_type(value, dict, where)
        for key, part in shape.items():
            for name in value if isinstance(key, EllipsisType) else [key]:
                if name not in value:
                    raise ValueError(f"{where}: without {name}")
                require_shape(value[name], part, f"{where}.{name}")
    elif isinstance(shape, list):
        _require_type(value, list, where)
        for number, one in enumerate(value):
            require_shape(one, shape[0], f"{where}.{number}")
    else:
        _require_type(value, shape, where)


def _require_type(value: Any, kind: Any, where: str) -> None:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and not {bool, object} & set(kinds)):
        wanted = " or ".join("nothing" if one is type(None) else one.__name__ for one in kinds)
        raise ValueError(f"{where}: {wanted} wanted, {str(value)[:40]!r} came")


def replace(folder: Path, files: WRITERS, content: dict[str, Any]) -> None:
    """Writes files and the manifest that vouches for them; at every moment each is whole and vouched for.

    content: of the manifest, without the hashes. A damaged manifest is replaced: it vouches for nothing. Raises
    WriteError where one cannot be written: then all stay.
    """
    path = folder / MANIFEST
    with ExitStack() as stack:
        fresh = {name: stack.enter_context(whole_file(folder / name)) for name in files}
        for name, write in files.items():
            write(fresh[name])
        hashes = {name: file_hash(temporary) for name, temporary in fresh.items()}
        try:
            before = load(path, {"files": dict})
        except Damaged:  # or not there
            before = {}
        if before:
            write_manifest(folder, {**before, "next": hashes})
    kept = {name: value for name, value in content.items() if name not in PROMISE}
    write_manifest(folder, {**kept, "files": hashes})


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Writes the whole file or nothing."""
    plain = json.loads(json.dumps({key: value for key, value in content.items() if key != OWN}))  # as it is read
    write_bytes(folder / MANIFEST, json.dumps({**plain, OWN: digest(plain)}, indent=1).encode())


def read_vouched(file: Path) -> bytes:
    """A file's content. Raises Damaged where a manifest beside it vouches for other content."""
    known, content = _promised(file), file.read_bytes()
    while known and hashlib.sha256(content).hexdigest() not in known:
        again = _promised(file)
        if again == known:
            raise Damaged(
                f"{file}: wanted the content that {MANIFEST} vouches for, got damaged content; restore it, or type the "
                f"command that made it again{_command(file)}: a run restores it from its checkpoint, a study or a "
                "sweep from its runs"
            )
        known, content = again, file.read_bytes()  # another process has replaced both meanwhile
    return content


def is_vouched(file: Path) -> bool:
    """Is a file there, and what the manifest beside it vouches for, where one does?"""
    try:
        read_vouched(file)
    except (OSError, Damaged):
        return False
    return True


def _promised(file: Path) -> list[str]:
    """Hashes that a file may have; none where no manifest beside it vouches for it."""
    path = file.with_name(MANIFEST)
    if not path.is_file():
        return []
    content = load(path, {})
    if "files" not in content:
        return []
    promise = {name: content.get(name, {}) for name in PROMISE}
    try:
        require_shape(promise, PROMISE)
    except ValueError as error:
        raise Damaged(f"{path}: wanted a manifest, got a damaged file ({error}); restore it") from None
    return [part[file.name] for part in promise.values() if file.name in promise["files"] and file.name in part]


def _command(file: Path) -> str:
    command = load(file.with_name(MANIFEST), {}).get("command")
    return f" ({command})" if isinstance(command, str) else ""

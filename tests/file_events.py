"""What an audit hook of Python is told of changes to files. Native code tells it nothing."""

from __future__ import annotations

import os
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def changed(event: str, arguments: tuple[Any, ...]) -> str:
    """The absolute path that is about to be opened for writing, renamed, made or removed; empty for other events."""
    if event == "open":
        path, _, flags = arguments
        if not isinstance(flags, int) or not flags & WRITING or not isinstance(path, str | bytes | os.PathLike):
            return ""
        return _absolute(path, -1)
    if event not in CHANGES or isinstance(arguments[0], int):
        return ""
    path, *more = arguments
    within = event in ("os.remove", "os.rmdir") and more and isinstance(more[-1], int)
    return _absolute(path, more[-1] if within else -1)


def _absolute(path: Any, at: int) -> str:
    """A path as the system takes it: relative to the open folder `at`, else to the current one."""
    base = os.readlink(f"/proc/self/fd/{at}") if at >= 0 else os.getcwd()
    return os.path.normpath(os.path.join(base, os.fsdecode(path)))

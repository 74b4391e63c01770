"""A process that dies at the n-th operation on files below a folder, played in this process: from then on every such
operation fails, so that nothing can be tidied up."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EVENTS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink", "shutil.rmtree")


class Killed(BaseException):
    """What the process meets where it would have died."""


class _Death:
    """Counts the operations below `folder`; `at`: the one at which it happens, 0 for never."""

    def __init__(self) -> None:
        self.folder, self.at, self.count = "", 0, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder or not self._touches(event, arguments):
            return
        self.count += 1
        if self.at and self.count >= self.at:
            raise Killed(event)

    def _touches(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            path, _, flags = arguments
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return False
        elif event not in EVENTS:
            return False
        elif event in ("os.remove", "os.rmdir") and arguments[1] != -1:
            return True  # inside of rmtree, which names files within an open folder
        else:
            path = arguments[0]
        return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(self.folder)


_death = _Death()
_hooked: list[bool] = []


@contextmanager
def dying(folder: Path, at: int = 0) -> Iterator[_Death]:
    """Within the block the process dies at the `at`-th operation: `Killed` ends the block."""
    if not _hooked:
        sys.addaudithook(_death)
        _hooked.append(True)
    _death.folder, _death.at, _death.count = str(folder), at, 0
    try:
        yield _death
    except Killed:
        pass
    finally:
        _death.folder = ""

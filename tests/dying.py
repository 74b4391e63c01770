"""A process that dies at the n-th operation on files below a folder, played in this process: from then on every such
operation fails, so that nothing can be tidied up."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.file_events import changed


class Killed(BaseException):
    """What the process meets where it would have died."""


class _Death:
    """Counts the operations below `folder`; `at`: the one at which it happens, 0 for never."""

    def __init__(self) -> None:
        self.folder, self.at, self.count = "", 0, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder or not changed(event, arguments).startswith(self.folder):
            return
        self.count += 1
        if self.at and self.count >= self.at:
            raise Killed(event)


_death = _Death()
_hooked: list[bool] = []


@contextmanager
def dying(folder: Path, at: int = 0) -> Iterator[_Death]:
    """Within the block the process dies at the `at`-th operation: `Killed` ends the block."""
    if not _hooked:
        sys.addaudithook(_death)
        _hooked.append(True)
    _death.folder, _death.at, _death.count = os.path.realpath(folder), at, 0
    try:
        yield _death
    except Killed:
        pass
    finally:
        _death.folder = ""

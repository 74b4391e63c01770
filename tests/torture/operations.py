"""The operations by which a process changes files, counted; at a chosen one it dies, before that one takes place.

What native code does to files, no audit hook hears: it is found by strace, see test_kills.py.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.file_events import changed

FORMAT = "qq"  # operations so far, operations at which somebody died


@dataclass
class Operations:
    """Counts the operations below a folder, of this process and of those forked from it.

    end: the number of the operation, from 1, before which the process that is at it dies by SIGKILL; 0 for none.
    everyone: whether all processes of its group die with it, as when the power fails. log: file for a line each.
    """

    folder: Path
    end: int = 0
    everyone: bool = False
    log: Path | None = None
    memory: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, struct.calcsize(FORMAT)), repr=False)

    @property
    def counts(self) -> tuple[int, int]:
        """Operations so far, and how many died at theirs; shared with forked processes."""
        return struct.unpack_from(FORMAT, self.memory)

    @property
    def died(self) -> bool:
        return self.counts[1] > 0

    def begin(self) -> None:
        """From now on in this process, for good: an audit hook cannot be taken away."""
        self.root = os.path.realpath(self.folder) + os.sep
        self.lines = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if self.log else -1
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        path = changed(event, arguments)
        if path.startswith(self.root):
            self._count(f"{event.removeprefix('os.')} {path.removeprefix(self.root)}")

    def _count(self, line: str) -> None:
        done, died = self.counts
        number = done + 1
        struct.pack_into(FORMAT, self.memory, 0, number, died + (number == self.end))
        if self.lines >= 0:
            os.write(self.lines, f"{line}\n".encode())
        if number == self.end:
            if self.everyone:
                os.killpg(0, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

"""The journal file of a sweep: Optuna's own, which a process may leave with half a line when it is killed."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock, get_lock_file

from ablate.core.storage import lock, writing

CHECK = "check"  # key of a line's checksum: a digit that has changed is JSON still
BLOCK = 2**16  # bytes that are read at once to find the last end of a line


class Lock(BaseJournalFileLock):
    """Frees itself when its holder dies. Optuna's own is a link beside the journal, which a killed process leaves: the
    next one waits for 30 seconds, or for ever where the journal's path is relative, as it then leads nowhere."""

    def __init__(self, path: Path):
        self.path = path

    def acquire(self) -> bool:
        self.held = lock(self.path, patient=True)
        return True

    def release(self) -> None:
        if self.held is not None:
            self.held.close()


class Journal(JournalFileBackend):
    """Optuna's journal, each line with a checksum of its own. What a killed process left unterminated was never told
    to anyone: it is cut away, under the lock, before the next line is written."""

    def __init__(self, path: Path):
        super().__init__(str(path), Lock(path.with_name("journal.lock")))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Writes a line for each. Raises WriteError where the system refuses it: the journal is then as it was."""
        lines = "".join(_line({**log, CHECK: _checksum(log)}) + "\n" for log in logs).encode()
        path = Path(self._file_path)
        with writing(path), get_lock_file(self._lock), path.open("r+b", buffering=0) as file:
            end = _end_of_lines(file)
            file.truncate(end)
            file.seek(end)
            try:
                written = file.write(lines)
                if written < len(lines):  # as much as there was room for; the rest tells why
                    file.write(lines[written:])
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """The lines from this number on. Raises ValueError where one is not as it was written; those of earlier
        versions have no checksum."""
        for log in super().read_logs(log_number_from):
            told = log.pop(CHECK, None)
            if told is not None and told != _checksum(log):
                raise ValueError(f"{self._file_path}: wanted its lines as they were written, got a damaged one")
            yield log


def _line(log: dict[str, Any]) -> str:
    return json.dumps(log, separators=(",", ":"))


def _checksum(log: dict[str, Any]) -> int:
    return zlib.crc32(_line(log).encode())


def _end_of_lines(file: IO[bytes]) -> int:
    """Bytes up to the last end of a line and with it."""
    at = file.seek(0, os.SEEK_END)
    while at:
        start = max(0, at - BLOCK)
        file.seek(start)
        found = file.read(at - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return 0

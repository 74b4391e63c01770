"""Files of lines that are appended one by one and survive a kill: each is JSON with a hash of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ablate.core.foreign_files import parse_json
from ablate.core.manifest import Shape, require_shape
from ablate.core.storage import Damaged, digest, writing

OWN = "content"  # the key of a line's hash
DIGITS = 16  # of it


class LineFile:
    """The rows of a file, in their order, and those that are added. Raises Damaged where a line is not what was
    written. A last line without its end was being written when its process died: it is dropped.

    For one process at a time.
    """

    def __init__(self, path: Path, shape: Shape):
        self.path, self.rows = path, list[dict[str, Any]]()
        raw = path.read_bytes() if path.exists() else b""
        whole = raw[: raw.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            self.rows.append(self._row(number, line, shape))
        if len(whole) < len(raw):
            with writing(path):
                os.truncate(path, len(whole))

    def _row(self, number: int, line: bytes, shape: Shape) -> dict[str, Any]:
        try:
            row = parse_json(line)
            require_shape(row, {**shape, OWN: str})
            if row.pop(OWN) != digest(row)[:DIGITS]:
                raise ValueError("other content than was written")
        except ValueError as error:
            raise Damaged(
                f"{self.path}: wanted lines as they were written, got a damaged line {number} ({error}); delete that "
                "line and type the same command again"
            ) from None
        return row

    def add(self, row: dict[str, Any]) -> None:
        """Appends a line, which is on the disk when this returns. Raises WriteError where it cannot be written."""
        raw = json.dumps({**row, OWN: digest(row)[:DIGITS]}).encode() + b"\n"
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                whole = file.tell()
                try:
                    rest = memoryview(raw)
                    while rest:
                        rest = rest[file.write(rest) :]
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(self.path, whole)
                    raise
        self.rows.append(row)

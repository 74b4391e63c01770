"""Rows of large files, read in pieces: .jsonl by line, .parquet by row group, .arrow streams by record batch.

The text of a row is its `text`, else its `content`. A piece is read without the rest of its file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ablate.core.foreign_files import parse_json, read_bytes, require_plain, size_of
from ablate.text import column_files

BLANK = object()  # an empty line
HEAD = 2**16  # bytes that tell whether a file is text
DOCUMENT = 2**32  # bytes of a file that is one document
ROW = 2**25  # bytes of a row of JSON


@dataclass(frozen=True)
class Piece:
    """A file, or the part from `start` to `stop`, in bytes (.jsonl), row groups (.parquet) or record batches (.arrow).

    size: its bytes, about. stop: None for the file's end.
    """

    name: str
    size: int
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Found:
    """What stands at one place of a piece: a text, or the reason why it cannot be used, or (an empty line) neither.

    place: number of the row in its piece, from 1; of files without rows, the suffix to the file's name.
    """

    place: int | str
    text: str = ""
    problem: str = ""


def decode(raw: bytes) -> str:
    """The text of a file. Raises ValueError with the reason: empty, binary, not UTF-8."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("binary" if b"\0" in raw else f"not UTF-8 at byte {error.start}") from None
    return usable(text)


def usable(text: object) -> str:
    """The text itself. Raises ValueError with the reason if it is none, empty, binary or not to be written in UTF-8."""
    if isinstance(text, ValueError):
        raise text
    if not isinstance(text, str):
        raise ValueError("no string in `text` or `content`")
    if "\0" in text:
        raise ValueError("binary")
    if not text or text.isspace():
        raise ValueError("empty")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"not UTF-8 at byte {len(text[: error.start].encode())}") from None
    return text


def whole(path: Path) -> bytes:
    """A file that is one document. Raises ValueError for one that is binary, or too large to be one."""
    require_plain(path)
    with path.open("rb") as file:
        if b"\0" in file.read(HEAD):
            raise ValueError("binary")
    return read_bytes(path, DOCUMENT)


def _is_hollow(path: Path) -> bool:
    """Does a file begin with nothing but zeros, as one does that has a size and no content?"""
    try:
        with path.open("rb") as file:
            return not file.read(HEAD).strip(b"\0")
    except OSError:
        return False


def has_rows(path: Path) -> bool:
    return path.suffix.lower() in READERS


def cut(path: Path, name: str, limit: int) -> Iterator[Piece]:
    """The file's pieces of about `limit` bytes. A file that cannot be opened is one piece: its reader says why."""
    size = size_of(path)
    if size <= limit or not has_rows(path) or _is_hollow(path):
        yield Piece(name, size)
        return
    try:
        parts = list(SIZES[path.suffix.lower()](path, limit))
    except (OSError, ValueError):
        parts = [size]
    start, taken = 0, 0
    for i, part in enumerate(parts, 1):
        taken += max(part, 0)
        if taken >= limit or i == len(parts):
            unit = limit if path.suffix.lower() == ".jsonl" else 1
            yield Piece(name, taken, start * unit, None if i == len(parts) else i * unit)
            start, taken = i, 0


def rows(path: Path, piece: Piece) -> Iterator[Found]:
    """The piece's rows in their order. Raises ValueError or OSError for a file that gives nothing (more)."""
    nothing = True
    for place, value in enumerate(READERS[path.suffix.lower()](path, piece.start, piece.stop), 1):
        if value is BLANK:
            yield Found(place)
            continue
        nothing = False
        try:
            yield Found(place, usable(value))
        except ValueError as error:
            yield Found(place, problem=str(error))
    if nothing and (piece.start, piece.stop) == (0, None):
        raise ValueError("empty")


def _text(line: bytes) -> object:
    if not line:
        return BLANK
    if len(line) > ROW:
        return ValueError(f"more than {ROW:,} bytes")
    try:
        decode(line)
    except ValueError as error:
        return error
    try:
        row = parse_json(line)
    except ValueError:
        row = None
    row = row if isinstance(row, dict) else {}
    return row["text"] if "text" in row else row.get("content")


def _lines(path: Path, start: int, stop: int | None) -> Iterator[object]:
    if require_plain(path).st_size > HEAD and _is_hollow(path):
        raise ValueError("binary")
    with path.open("rb") as file:
        if start:  # a line belongs to the piece in which it begins
            file.seek(start - 1)
            start += _passed(file, stop and stop - start + 1) - 1
        while (stop is None or start < stop) and (line := file.readline(ROW + 1)):
            start += len(line)
            if len(line) > ROW and not line.endswith(b"\n"):
                start += _passed(file, stop and stop - start)
            yield _text(line.strip() if len(line) <= ROW else line)


def _passed(file: IO[bytes], most: int | None) -> int:
    """Bytes up to the end of the line, which are passed over; of a longer line than `most` bytes, about so many."""
    passed = 0
    while (most is None or passed < most) and (part := file.readline(ROW)):
        passed += len(part)
        if part.endswith(b"\n"):
            break
    return passed


def _line_parts(path: Path, limit: int) -> Iterator[int]:
    size = path.stat().st_size
    return (min(limit, size - start) for start in range(0, size, limit))


READERS: dict[str, Callable[[Path, int, int | None], Iterator[object]]] = {
    ".jsonl": _lines,
    ".parquet": column_files.parquet,
    ".arrow": column_files.arrow,
}
SIZES: dict[str, Callable[[Path, int], Iterator[int]]] = {
    ".jsonl": _line_parts,
    ".parquet": column_files.parquet_parts,
    ".arrow": column_files.arrow_parts,
}

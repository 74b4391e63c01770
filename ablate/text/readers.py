"""Rows of large files, read in pieces: .jsonl by line, .parquet by row group, .arrow streams by record batch.

The text of a row is its `text`, else its `content`. A piece is read without the rest of its file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("text", "content")
BLANK = object()  # an empty line
AT_ONCE = 256  # rows that are turned into Python's strings together


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


def has_rows(path: Path) -> bool:
    return path.suffix.lower() in READERS


def cut(path: Path, name: str, limit: int) -> Iterator[Piece]:
    """The file's pieces of about `limit` bytes. A file that cannot be opened is one piece: its reader says why."""
    size = path.stat().st_size if path.exists() else 0
    if size <= limit or not has_rows(path):
        yield Piece(name, size)
        return
    try:
        parts = list(SIZES[path.suffix.lower()](path, limit))
    except (OSError, ValueError):
        parts = [size]
    start, taken = 0, 0
    for i, part in enumerate(parts, 1):
        taken += part
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
    try:
        text = decode(line)
    except ValueError as error:
        return error
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = None
    row = row if isinstance(row, dict) else {}
    return row["text"] if "text" in row else row.get("content")


def _lines(path: Path, start: int, stop: int | None) -> Iterator[object]:
    with path.open("rb") as file:
        if start:  # a line belongs to the piece in which it begins
            file.seek(start - 1)
            start += len(file.readline()) - 1
        while (stop is None or start < stop) and (line := file.readline()):
            start += len(line)
            yield _text(line.strip())


def _line_parts(path: Path, limit: int) -> Iterator[int]:
    size = path.stat().st_size
    return (min(limit, size - start) for start in range(0, size, limit))


def _parquet(path: Path, start: int, stop: int | None) -> Iterator[Any]:
    with _readable(path, "parquet file"):
        import pyarrow.parquet as pq

        file = pq.ParquetFile(path)
        groups, column = range(file.num_row_groups)[start:stop], _column(file.schema_arrow.names)
        if groups:
            for batch in file.iter_batches(AT_ONCE, row_groups=list(groups), columns=[column]):
                yield from batch.column(0).to_pylist()


def _parquet_parts(path: Path, _: int) -> Iterator[int]:
    with _readable(path, "parquet file"):
        import pyarrow.parquet as pq

        meta = pq.ParquetFile(path).metadata
        yield from (meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))


def _arrow(path: Path, start: int, stop: int | None) -> Iterator[Any]:
    with _readable(path, "arrow stream"):
        for batch in islice(_batches(path), start, stop):
            column = batch.column(_column(batch.schema.names))
            for first in range(0, len(column), AT_ONCE):
                yield from column.slice(first, AT_ONCE).to_pylist()


def _arrow_parts(path: Path, _: int) -> Iterator[int]:
    with _readable(path, "arrow stream"):
        yield from (batch.nbytes for batch in _batches(path))


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Record batches on a memory map, so that those passed over are not read."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        yield from stream


def _column(names: list[str]) -> str:
    column = next((name for name in COLUMNS if name in names), None)
    if column is None:
        raise ValueError("no column `text` or `content`")
    return column


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    """Turns pyarrow's errors into one ValueError of one line."""
    path.open("rb").close()  # what the system says of a missing file is clearer than what pyarrow says
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"not a readable {kind} ({str(error).splitlines()[0]})") from None


READERS: dict[str, Callable[[Path, int, int | None], Iterator[object]]] = {
    ".jsonl": _lines,
    ".parquet": _parquet,
    ".arrow": _arrow,
}
SIZES: dict[str, Callable[[Path, int], Iterator[int]]] = {
    ".jsonl": _line_parts,
    ".parquet": _parquet_parts,
    ".arrow": _arrow_parts,
}

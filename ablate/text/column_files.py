"""Texts of files that hold columns: parquet by row group, arrow streams by record batch.

Such files may be small and make much, since they are compressed: what a file says that a part of it makes is looked at
before the part is decoded. Raises ValueError, with a reason of one line, for what is damaged or out of bounds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.core.foreign_files import require_plain, size_of

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("text", "content")
DICTIONARIES = {"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}  # encodings with or without one
DICTIONARY, BATCH = 2, 3  # kinds of an arrow message (MessageHeader of its format)
AT_ONCE = 16  # rows that are decoded together: each may be large
DECODED = 2**26  # bytes that a column of a row group may have in any case, whatever its file has
GROWTH = 100  # beyond those, times the size of its file


def parquet(path: Path, start: int, stop: int | None) -> Iterator[Any]:
    """Texts of the row groups from `start` to `stop`, None where a row has none."""
    with _readable(path, "parquet file"):
        import pyarrow.parquet as pq

        meta, column = pq.read_metadata(path), _column(pq.read_schema(path))
        groups, most = range(meta.num_row_groups)[start:stop], max(DECODED, GROWTH * size_of(path))
        encodings: set[str] = set()
        for group in groups:
            part = _part(meta.row_group(group), column)
            encodings.update(part.encodings)
            if part.total_uncompressed_size > most:
                made = f"{part.total_uncompressed_size:,} bytes"
                raise ValueError(f"its column `{column}` makes {made}, wanted {most:,} at most")
        # so that a text that is stored once is decoded once; the library cannot for all encodings
        once = [column] if encodings <= DICTIONARIES else []
        file = pq.ParquetFile(path, read_dictionary=once, pre_buffer=False)
        if groups:
            for batch in file.iter_batches(AT_ONCE, row_groups=list(groups), columns=[column]):
                yield from (value.as_py() for value in batch.column(0))


def _part(group: Any, column: str) -> Any:
    """What a row group says of this column of it."""
    for i in range(group.num_columns):
        if (part := group.column(i)).path_in_schema == column:
            return part
    raise ValueError(f"a row group without its column `{column}`")


def parquet_parts(path: Path, _: int) -> Iterator[int]:
    """Bytes of every row group, as the file says."""
    with _readable(path, "parquet file"):
        import pyarrow.parquet as pq

        meta = pq.ParquetFile(path).metadata
        yield from (meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))


def arrow(path: Path, start: int, stop: int | None) -> Iterator[Any]:
    """Texts of the record batches from `start` to `stop`, None where a row has none."""
    with _readable(path, "arrow stream"):
        for batch in islice(_batches(path), start, stop):
            column = batch.column(_column(batch.schema))
            column.validate(full=True)  # nothing else has looked whether its offsets stay within the file
            yield from (value.as_py() for value in column)


def arrow_parts(path: Path, _: int) -> Iterator[int]:
    """Bytes of every record batch."""
    with _readable(path, "arrow stream"):
        yield from (batch.nbytes for batch in _batches(path))


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Record batches on a memory map, so that those passed over are not read."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        for message in pa.ipc.MessageReader.open_stream(file):
            if _is_compressed(message.metadata.to_pybytes()):
                raise ValueError("compressed, wanted what datasets saves")
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        yield from stream


def _column(schema: pa.Schema) -> str:
    import pyarrow as pa

    column = next((name for name in COLUMNS if name in schema.names), None)
    if column is None:
        raise ValueError("no column `text` or `content`")
    if schema.names.count(column) > 1:
        raise ValueError(f"several columns `{column}`")
    kind = schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise ValueError(f"no strings in the column `{column}`")
    return column


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    """Turns pyarrow's errors into one ValueError of one line."""
    require_plain(path)
    path.open("rb").close()  # what the system says of a missing file is clearer than what pyarrow says
    try:
        yield
    except Exception as error:  # pyarrow's, which are of many kinds
        if type(error) is ValueError or (isinstance(error, OSError) and error.errno is not None):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"not a readable {kind} ({reason[:200]})") from None


def _is_compressed(message: bytes) -> bool:
    """Of an arrow message's flatbuffer: does its record batch, or that of its dictionary, name a compression?"""

    def member(table: int, number: int) -> int:
        """Where a table's member stands; 0 where the table has none."""
        fields = table - struct.unpack_from("<i", message, table)[0]
        within = 4 + 2 * number < struct.unpack_from("<H", message, fields)[0]
        offset = struct.unpack_from("<H", message, fields + 4 + 2 * number)[0] if within else 0
        return table + offset if offset else 0

    def follow(place: int) -> int:
        return place + struct.unpack_from("<I", message, place)[0]

    try:
        root = follow(0)
        kind, content = member(root, 1), member(root, 2)
        if not kind or not content or message[kind] not in (DICTIONARY, BATCH):
            return False
        table = follow(content)
        if message[kind] == DICTIONARY:
            table = follow(member(table, 1))
        return bool(member(table, 3))
    except (struct.error, IndexError):
        raise ValueError("a message that cannot be read") from None

"""Hostile text: what may stand in a folder of it, sound pieces among them, so that every reader is reached."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tests.text.prose import prose
from tests.torture.foreign_folders import (
    as_json,
    changed,
    damaged,
    no_json,
    scalars,
    special,
    values,
)

PROSE = [prose(i).encode() for i in range(20)]
ROWS = [prose(i, 4) for i in range(40)]
LONG = "".join(map(str, range(20_000)))


def parquet(values: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": values}), file, **how)
    return file.getvalue()


def arrow(values: Any, compression: str | None = None, batch: int = 7) -> bytes:
    file, table = io.BytesIO(), pa.table({"text": values})
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(file, table.schema, options=options) as stream:
        stream.write_table(table, max_chunksize=batch)
    return file.getvalue()


COLUMNS = [
    pa.array(ROWS),
    pa.array(ROWS, pa.large_string()),
    pa.array(ROWS, pa.string_view()),
    pa.array(ROWS).dictionary_encode(),
    pa.array([None, "", "\0", " ", *ROWS]),
    pa.array([b"x"]),
    pa.array([["x"]]),
    pa.nulls(9),
    pa.array([1.5]),
]
SOUND = [
    *(parquet(column, row_group_size=rows) for column in COLUMNS for rows in (3, 100)),
    *(parquet(COLUMNS[0], compression=kind) for kind in ("gzip", "zstd", "snappy", "brotli", "lz4")),
    *(
        parquet(COLUMNS[0], use_dictionary=False, column_encoding={"text": kind})
        for kind in ("PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY")
    ),
]
BOMBS = [
    parquet(pa.DictionaryArray.from_arrays([0] * 14_000, [LONG]), compression="zstd", store_schema=False),
    parquet(["a" * 2**27], compression="zstd", use_dictionary=False),
    parquet(["a"] * 2**20, compression="zstd"),
    parquet(
        [LONG + str(i) for i in range(1000)],
        compression="zstd",
        use_dictionary=False,
        column_encoding={"text": "DELTA_BYTE_ARRAY"},
    ),
    parquet(pa.nulls(2**22, pa.string()), compression="zstd"),
]
STREAMS = [arrow(column) for column in COLUMNS]
PACKED = [arrow(["a" * 2**27], "zstd"), arrow(ROWS, "lz4")]
STATE = {"_data_files": [{"filename": "x.arrow"}, {"filename": "../x.arrow"}], "_format_type": None}

texts = st.one_of(
    st.sampled_from(PROSE),
    st.sampled_from([b"", b"\0" * 99, b"\xff\xfe", b" \n" * 50, b"x" * 10**6, b"\r" * 99, "ü\u2028".encode() * 9]),
    st.binary(max_size=60),
    st.text(max_size=60).map(lambda text: text.encode(errors="replace")),
    st.sampled_from(PROSE).flatmap(damaged),
)
rows = st.one_of(
    st.sampled_from([b'{"text": "' + text[:200].replace(b"\n", b" ") + b'"}' for text in PROSE]),
    as_json(st.fixed_dictionaries({"text": values})),
    as_json(st.dictionaries(st.sampled_from(["text", "content", "x"]), scalars, max_size=2)),
    no_json,
    st.just(b""),
)
kinds = {
    ".txt": texts,
    ".md": texts,
    ".py": texts,
    ".jsonl": st.one_of(st.lists(rows, max_size=8).map(b"\n".join), texts),
    ".parquet": st.one_of(
        st.sampled_from(SOUND), st.sampled_from(SOUND).flatmap(damaged), st.sampled_from(BOMBS), st.binary(max_size=99)
    ),
    ".arrow": st.one_of(
        st.sampled_from(STREAMS),
        st.sampled_from(STREAMS).flatmap(damaged),
        st.sampled_from(PACKED),
        st.binary(max_size=99),
    ),
}
stems = st.sampled_from(
    ["x", "y", "ü", "a b", "[b]", "a=1", "n\nl", "\x1b[31m", "z" * 200, ".hidden", "below/x", "below/.git/x", "\udcff"]
)
files = st.sampled_from(list(kinds)).flatmap(
    lambda kind: st.tuples(
        stems.map(lambda stem: stem + kind), st.one_of(kinds[kind], kinds[kind], kinds[kind], special)
    )
)
states = st.one_of(st.none(), as_json(changed(STATE)), as_json(values), no_json, special)
folders = st.builds(
    lambda named, plain, state: {
        **dict(named),
        **{f"prose{i}.txt": text for i, text in enumerate(PROSE[:plain])},
        **({} if state is None else {"state.json": state}),
    },
    st.lists(files, max_size=5),
    st.sampled_from([0, 3, 8]),
    states,
)

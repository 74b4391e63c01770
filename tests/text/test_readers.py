"""Laws of reading in pieces: whatever the pieces, the rows are the file's, in their order, each once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablate.core.corpus import Domain
from ablate.text import sources
from ablate.text.readers import Found, cut, rows
from ablate.text.sources import folder_shelf
from tests.text.prose import prose

TEXTS = [prose(i, lines=1 + i % 5) + "\u2028" for i in range(60)]


def jsonl(path: Path) -> Path:
    lines = [json.dumps({"text": text}, ensure_ascii=i % 2 == 0) for i, text in enumerate(TEXTS)]
    path.write_bytes("\r\n".join(lines).encode())
    return path


def parquet(path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": range(len(TEXTS)), "content": TEXTS}), path, row_group_size=7)
    return path


def arrow(path: Path) -> Path:
    import pyarrow as pa

    table = pa.table({"text": pa.array(TEXTS, pa.large_string())})
    with path.open("wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=7)
    return path


@pytest.mark.parametrize("limit", [1, 50, 700, 10**9])
@pytest.mark.parametrize("make", [jsonl, parquet, arrow])
def test_pieces_hold_every_row_once(make, limit: int, tmp_path: Path) -> None:
    path = make(tmp_path / f"x.{make.__name__}")
    pieces = list(cut(path, path.name, limit))
    assert len(pieces) == 1 if limit > 10**6 else len(pieces) > 4
    found = [item for piece in pieces for item in rows(path, piece)]
    assert [item.text for item in found] == TEXTS
    assert not any(item.problem for item in found)


def test_rows_are_numbered_in_their_piece_and_empty_lines_count(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"text": "a"}\n\n{"text": ""}\n{"text": "\xff"}\n{"text": "b"}')
    (piece,) = cut(path, "x.jsonl", 10**6)
    assert list(rows(path, piece)) == [
        Found(1, "a"),
        Found(2),
        Found(3, problem="empty"),
        Found(4, problem="not UTF-8 at byte 10"),
        Found(5, "b"),
    ]
    path.write_bytes(b"\n \n")
    with pytest.raises(ValueError, match="empty"):
        list(rows(path, next(cut(path, "x.jsonl", 10**6))))


def test_bundles_hold_every_piece_once_in_order_of_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jsonl(tmp_path / "rows.jsonl")
    for i in range(20):
        (tmp_path / f"{i}.txt").write_text(prose(i))
    monkeypatch.setattr(sources, "BUNDLE", 3000)
    shelf = folder_shelf(str(tmp_path))
    bundles = list(shelf.bundles(Domain.new))
    assert [bundle.number for bundle in bundles] == list(range(len(bundles)))
    assert all(bundle.size <= 3000 for bundle in bundles)
    names = [piece.name for bundle in bundles for piece in bundle.pieces]
    assert list(dict.fromkeys(names)) == list(shelf.names)
    assert sorted(text for bundle in bundles for text in bundle.texts()) == sorted(
        TEXTS + [prose(i) for i in range(20)]
    )


def test_what_datasets_saved_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    saved = datasets.Dataset.from_dict({"id": list(range(60)), "text": TEXTS})
    saved.save_to_disk(str(tmp_path / "one"), num_shards=3)
    both = {"train": saved.select(range(0, 60, 2)), "test": saved.select(range(1, 60, 2))}
    datasets.DatasetDict(both).save_to_disk(str(tmp_path / "two"))
    arrow(tmp_path / "one" / "cache-0123.arrow")
    arrow(tmp_path / "two" / "loose.arrow")
    for name, count in (("one", 3), ("two", 2)):
        shelf = folder_shelf(str(tmp_path / name))
        assert len(shelf.names) == count
        loaded = datasets.load_from_disk(str(tmp_path / name))
        wanted = loaded["text"] if name == "one" else [*loaded["train"]["text"], *loaded["test"]["text"]]
        assert sorted(text for bundle in shelf.bundles(Domain.new) for text in bundle.texts()) == sorted(wanted)


def test_torn_and_foreign_files_are_one_line(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for make in (parquet, arrow):
        path = make(tmp_path / f"torn.{make.__name__}")
        path.write_bytes(path.read_bytes()[:-200])
    pq.write_table(pa.table({"id": [1]}), tmp_path / "other.parquet")
    (tmp_path / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": n} for n in ("torn.arrow", "no.arrow")]})
    )
    shelf = folder_shelf(str(tmp_path))
    told = {}
    for bundle in shelf.bundles(Domain.new):
        for i, item in bundle.found():
            if item.problem:
                told[bundle.pieces[i].name] = item.problem
    assert set(told) == {"torn.parquet", "torn.arrow", "other.parquet", "no.arrow"}
    assert "not a readable parquet file" in told["torn.parquet"]
    assert "not a readable arrow stream" in told["torn.arrow"]
    assert told["other.parquet"] == "no column `text` or `content`"
    assert told["no.arrow"] == "No such file or directory"
    assert not any("\n" in reason for reason in told.values())

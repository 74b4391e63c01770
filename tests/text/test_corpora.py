"""Laws of real text: nothing is lost, nothing held out is seen, nothing stale or damaged is used."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ablate.core.corpus import SPLITS, Domain
from ablate.text import dataset_build, document_split, sources
from ablate.text.corpora import PythonSource, Text
from ablate.text.near_duplicates import Seen, sketch
from ablate.text.tokenizer import SEPARATOR
from tests.text.prose import fill, prose


@pytest.fixture
def corpus(tmp_path: Path) -> Text:
    new, general = fill(tmp_path / "new", 0), fill(tmp_path / "general", 100)
    return Text(folder=str(new), general=str(general), tokens=300, length=16, answer=4, cache=str(tmp_path / "cache"))


def splits(corpus: Text | PythonSource) -> list[Text | PythonSource]:
    return [dataclasses.replace(corpus, domain=domain, split=split) for domain in Domain for split in SPLITS]


def windows(corpus: Text) -> int:
    return len(corpus._windows)


def law_ids(corpus: Text | PythonSource) -> np.ndarray:
    tokens = corpus._packed.splits[corpus._key]
    return tokens.read(0, len(tokens))


def texts(corpus: Text | PythonSource) -> list[str]:
    """The documents of a split, read back from its token ids."""
    from tokenizers.decoders import ByteLevel

    vocabulary, ids_T = corpus.vocabulary, law_ids(corpus)
    (ends,) = np.nonzero(ids_T == vocabulary.symbols.index(SEPARATOR))
    documents = np.split(ids_T, ends + 1)
    assert len(documents.pop()) == 0
    return [ByteLevel().decode([vocabulary.text(document[:-1].tolist())]) for document in documents]


def built(corpus: Text) -> list[Path]:
    return [path for path in Path(corpus.cache).iterdir() if path.is_dir()]


def test_tokens_stand_for_the_bytes_of_the_documents(corpus: Text) -> None:
    folder = Path(corpus.folder)
    (folder / "odd.txt").write_bytes(f"{prose(7)} a\r\n\tb  {SEPARATOR} <mask> Ġ € 𝔘 \x07 e\u0301".encode())
    originals = {path.read_bytes().decode() for path in folder.rglob("*.txt")}
    sides = [dataclasses.replace(corpus, split=split) for split in SPLITS]
    assert {text for side in sides for text in texts(side)} == originals
    bytes_V = np.array(corpus.vocabulary.bytes_V)
    assert len(bytes_V) == len(corpus.vocabulary) == corpus.vocabulary.mask_id + 1
    ids = np.concatenate([law_ids(side) for side in sides])
    assert bytes_V[ids].sum() == sum(len(text.encode()) for text in originals)


def test_held_out_documents_are_others(corpus: Text) -> None:
    for domain in Domain:
        train, test = (texts(dataclasses.replace(corpus, domain=domain, split=split)) for split in SPLITS)
        assert train
        assert test
        assert not set(train) & set(test)
        assert len(train) + len(test) == 6


@pytest.mark.parametrize("sizes", [(1, 1), (1, 90, 9), (10,) * 5, tuple(range(1, 60))])
def test_about_a_tenth_is_held_out(sizes: tuple[int, ...]) -> None:
    keys_D = np.array([sources.order(f"{i}", "split") for i in range(len(sizes))], dtype=np.uint64)
    held_D = document_split.hold_out(keys_D, np.array(sizes))
    held = np.array(sizes)[held_D].sum() / sum(sizes)
    assert not held_D.all()
    assert 0 < held <= max(0.3, min(sizes) / sum(sizes))


def test_a_single_document_is_cut_at_nine_tenths_of_its_lines(corpus: Text, tmp_path: Path) -> None:
    whole = prose(0, lines=100)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "only.txt").write_text(whole, encoding="utf-8")
    one = dataclasses.replace(corpus, folder=str(tmp_path / "one"))
    (train,), (test,) = (texts(dataclasses.replace(one, split=split)) for split in SPLITS)
    assert train.count("\n") == 90
    assert train + test == whole


def test_a_row_depends_on_seed_and_index_alone(corpus: Text) -> None:
    far = 7 * windows(corpus)
    rows = corpus.batch([5, 0, far], seed=3)
    assert rows.shape == (3, corpus.length)
    assert rows.dtype.is_signed
    for i, index in enumerate([5, 0, far]):
        assert (dataclasses.replace(corpus).batch([index], seed=3)[0] == rows[i]).all()
    every = range(windows(corpus))
    assert (corpus.batch(every, seed=3) != corpus.batch(every, seed=4)).any()


def test_an_epoch_visits_every_window_once(corpus: Text) -> None:
    n = windows(corpus)
    whole = sorted(map(tuple, corpus._windows.rows(np.arange(n)).tolist()))
    epochs = [corpus.batch(range(e * n, (e + 1) * n), seed=1) for e in range(3)]
    assert all(sorted(map(tuple, epoch.tolist())) == whole for epoch in epochs)
    assert (epochs[0] != epochs[1]).any()
    assert sorted(map(tuple, corpus.queries(n, seed=1).tokens_BL.tolist())) == whole


def test_verify_is_the_share_of_the_answer(corpus: Text) -> None:
    query = corpus.queries(3, seed=0)
    assert query.answer_BL.sum(1).tolist() == [corpus.answer] * 3
    decoded_BL = query.prompt(corpus.vocabulary.mask_id)
    assert query.verify(decoded_BL).tolist() == [0.0] * 3
    decoded_BL[:, -1] = query.tokens_BL[:, -1]
    assert query.verify(decoded_BL).tolist() == [1 / corpus.answer] * 3


def test_damaged_cache_is_rebuilt(corpus: Text) -> None:
    right, fingerprint = corpus.batch(range(9), seed=0), corpus.fingerprint()
    (folder,) = built(corpus)
    for path in sorted(folder.iterdir()):
        raw = path.read_bytes()
        for place in (len(raw) // 2, len(raw) - 2):
            damaged = bytearray(raw)
            damaged[place] ^= 1
            path.unlink()
            path.write_bytes(damaged)
            again = dataclasses.replace(corpus)
            assert (again.batch(range(9), seed=0) == right).all()
            assert again.fingerprint() == fingerprint
            assert path.read_bytes() == raw
    assert [path.name for path in built(corpus)] == [folder.name]


def test_changed_text_is_another_corpus(corpus: Text) -> None:
    before = {split.fingerprint() for split in splits(corpus)}
    assert len(before) == 4
    path = Path(corpus.folder) / "0.txt"
    path.write_text(prose(50), encoding="utf-8")
    assert prose(50) in [text for split in SPLITS for text in texts(dataclasses.replace(corpus, split=split))]
    assert corpus.fingerprint() in before  # an instance keeps the data that it has shown


def test_near_duplicates_are_removed(corpus: Text) -> None:
    new, general = Path(corpus.folder), Path(corpus.general)
    twin = prose(0, lines=400)
    (new / "twin.txt").write_text(twin, encoding="utf-8")
    (new / "other.txt").write_text(twin.replace("\n", "\n\n").upper() + "one more line", encoding="utf-8")
    (general / "third.txt").write_text(twin.replace("tree", "Baum", 3), encoding="utf-8")
    kept = [text for split in splits(corpus) for text in texts(split)]
    assert sum(len(text) > 5_000 for text in kept) == 1
    assert len(kept) == 13


def test_unrelated_texts_are_no_duplicates() -> None:
    seen = Seen()
    assert all(seen.admits(sketch(text)) for text in ["", "+", "-", "a", "b", "a b c d e f", "数", prose(1), prose(2)])
    assert not any(seen.admits(sketch(text)) for text in ["+ ", "A.", prose(2)])


def test_bad_files_are_named_and_left_out(corpus: Text, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(corpus.folder)
    clean = {split.fingerprint() for split in splits(corpus)}
    (folder / "nul.txt").write_bytes(b"a\0b")
    (folder / "latin.txt").write_bytes("é".encode("latin-1"))
    (folder / "empty.md").write_text(" \n")
    (folder / "torn.parquet").write_bytes(b"PAR1 no more")
    (folder / "gone.py").symlink_to(folder / "nothing")
    (folder / "rows.jsonl").write_text('{"text": 3}\n{"content": "\\ud800"}\nnot json\n[]\n')
    (folder / ".hidden.txt").write_text("hidden")
    capsys.readouterr()
    assert {split.fingerprint() for split in splits(corpus.__class__(**dataclasses.asdict(corpus)))} == clean
    told = capsys.readouterr().err
    for name in (
        "nul.txt: binary",
        "latin.txt: not UTF-8",
        "empty.md: empty",
        "torn.parquet",
        "gone.py: No such",
        "rows.jsonl, row 1",
        "rows.jsonl, row 2",
        "rows.jsonl, row 3",
        "rows.jsonl, row 4",
    ):
        assert told.count(name) == 1
    for i in range(9):
        (folder / f"bad{i}.txt").write_bytes(b"\0")
    dataclasses.replace(corpus).check()
    assert capsys.readouterr().err.endswith("and 8 more\n")


def test_rows_of_jsonl_and_parquet_are_documents(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder, general = tmp_path / "new", fill(tmp_path / "general", 100)
    folder.mkdir()
    rows = [{"content": "never", "text": prose(i) + "\u2028"} for i in range(4)]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "a.jsonl").write_text(lines, encoding="utf-8")
    pq.write_table(pa.table({"content": [prose(i) for i in range(10, 14)], "id": range(4)}), folder / "b.PARQUET")
    corpus = Text(folder=str(folder), general=str(general), tokens=257, length=8, answer=2, cache=str(tmp_path / "c"))
    found = [text for split in SPLITS for text in texts(dataclasses.replace(corpus, split=split))]
    assert sorted(found) == sorted([row["text"] for row in rows] + [prose(i) for i in range(10, 14)])


def test_max_bytes_cuts_each_domain(corpus: Text, capsys: pytest.CaptureFixture[str]) -> None:
    small = dataclasses.replace(corpus, max_bytes=2_500)
    for domain in Domain:
        both = [t for split in SPLITS for t in texts(dataclasses.replace(small, domain=domain, split=split))]
        assert 2_497 <= sum(len(text.encode()) for text in both) <= 2_500
    assert "corpus.max_bytes" in capsys.readouterr().err


def test_errors_say_what_to_type(corpus: Text, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    with pytest.raises(ValueError, match=r"corpus\.folder=PATH"):
        Text().check()
    with pytest.raises(ValueError, match=r"corpus\.general: wanted a folder.*corpus\.general=PATH"):
        dataclasses.replace(corpus, general=str(tmp_path / "absent"))
    with pytest.raises(ValueError, match=r"new domain.*void.*corpus\.folder=PATH"):
        _ = dataclasses.replace(corpus, folder=str(tmp_path / "void")).vocabulary
    with pytest.raises(ValueError, match=r"test has \d+ tokens, wanted at least one window of 5000"):
        dataclasses.replace(corpus, length=5000).check()
    (tmp_path / "void" / "line.txt").write_text("a single line")
    with pytest.raises(ValueError, match=r"new\.train has 0 tokens"):
        dataclasses.replace(corpus, folder=str(tmp_path / "void")).check()
    with pytest.raises(ValueError, match=r"corpus\.cache: cannot write"):
        dataclasses.replace(corpus, cache=str(tmp_path / "void" / "line.txt")).check()
    for field, value in {"tokens": 256, "length": 1, "answer": 16, "max_bytes": 0}.items():
        with pytest.raises(ValueError, match=rf"corpus\.{field}: wanted .*, got {value}; try corpus\.{field}="):
            dataclasses.replace(corpus, **{field: value})


def _check(corpus: Text, log: str) -> None:
    run = dataset_build.Build.run

    def logged(self: dataset_build.Build) -> None:
        with Path(log).open("a") as file:
            file.write("built\n")
        run(self)

    dataset_build.Build.run = logged  # type: ignore[method-assign]
    corpus.check()


def test_two_processes_build_once(corpus: Text, tmp_path: Path) -> None:
    context, log = multiprocessing.get_context("spawn"), tmp_path / "log"
    workers = [context.Process(target=_check, args=(corpus, str(log))) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert log.read_text() == "built\n"


def test_import_is_light() -> None:
    heavy = {"torch", "tokenizers", "pyarrow", "pandas"}
    code = f"import ablate.text.corpora, sys; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_hydra_takes_the_nouns_as_configs() -> None:
    from omegaconf import OmegaConf

    for corpus in (PythonSource(), Text()):
        config = OmegaConf.merge(OmegaConf.structured(corpus), {"length": 64, "domain": "general"})
        assert OmegaConf.to_object(config) == dataclasses.replace(corpus, length=64, domain=Domain.general)


def test_english_and_code_come_from_different_files() -> None:
    code, english = sources.code_shelf(), sources.english_shelf()
    assert not set(code.names) & set(english.names)
    assert sources.TOPICS in english.names
    assert "argparse.py" in {*code.names, *english.names}
    assert all(name.endswith(".py") for name in code.names)
    assert not any("site-packages" in name or name.startswith("test/") for name in code.names)


@pytest.mark.slow
def test_the_library_is_corpus_enough(tmp_path: Path) -> None:
    corpus = PythonSource(cache=str(tmp_path))
    sizes = {split._key: len(split._windows) for split in splits(corpus)}
    assert sizes["new.train"] > 5_000
    assert sizes["general.train"] > 2_000
    assert min(sizes.values()) > 200
    assert len(corpus.vocabulary) == corpus.tokens + 1

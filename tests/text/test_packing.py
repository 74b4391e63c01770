"""Laws of packing: nothing is lost, a padded window holds one document, what is given is counted as by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from ablate.core.corpus import SPLITS, Domain, unscored
from ablate.text.corpora import Packing, Text
from ablate.text.packing import Tokens, Windows
from tests.text.prose import fill

END = 99


@pytest.fixture
def corpus(tmp_path: Path) -> Text:
    new, general = fill(tmp_path / "new", 0, 12, lines=3), fill(tmp_path / "general", 100)
    return Text(folder=str(new), general=str(general), tokens=300, length=24, answer=4, cache=str(tmp_path / "cache"))


def stored(folder: Path, documents: list[list[int]], shards: int) -> tuple[Tokens, np.ndarray]:
    flat = np.array([id for document in documents for id in document], dtype="<u2")
    parts = np.array_split(flat, shards)
    paths = tuple(folder / f"{i}.bin" for i in range(shards))
    for path, part in zip(paths, parts, strict=True):
        part.tofile(path)
    return Tokens(paths, tuple(map(len, parts)), "<u2"), np.array([len(document) for document in documents])


@pytest.mark.parametrize("shards", [1, 2, 7])
def test_windows_are_the_documents_cut_by_hand(shards: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(shards)
    documents = [[*rng.integers(0, 90, int(n)).tolist(), END] for n in (3, 4, 0, 1, 12, 7, 8, 30)]
    tokens, lengths_D = stored(tmp_path, documents, shards)
    flat = [id for document in documents for id in document]
    joined = Windows(tokens, 4, END)
    assert joined.rows(np.arange(len(joined))).tolist() == [flat[i : i + 4] for i in range(0, len(flat) - 3, 4)]
    cut = [document[i : i + 4] for document in documents for i in range(0, len(document), 4)]
    padded = Windows(tokens, 4, END, lengths_D)
    assert padded.rows(np.arange(len(padded))).tolist() == [piece + [END] * (4 - len(piece)) for piece in cut]
    order = rng.permutation(len(padded))
    assert (padded.rows(order) == padded.rows(np.arange(len(padded)))[order]).all()
    assert tokens.read(2, 30).tolist() == flat[2:32]


def test_only_so_many_maps_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablate.text.packing.OPEN", 2)
    tokens, _ = stored(tmp_path, [list(range(60))], 6)
    assert tokens.read(0, 60).tolist() == list(range(60))
    assert len(tokens._maps) == 2


def test_padded_windows_hold_one_document_each(corpus: Text) -> None:
    padded = dataclasses.replace(corpus, packing=Packing.padded)
    for split in (dataclasses.replace(padded, domain=d, split=s) for d in Domain for s in SPLITS):
        end = split._packed.tokenizer.separator[1]
        rows_WL = split._windows.rows(np.arange(len(split._windows)))
        firsts = [row.tolist().index(end) if end in row else split.length for row in rows_WL]
        assert all((row[first:] == end).all() for row, first in zip(rows_WL, firsts, strict=True))
        tokens = split._packed.splits[split._key]
        kept = np.concatenate([row[: first + 1] for row, first in zip(rows_WL, firsts, strict=True)])
        assert kept.tolist() == tokens.read(0, len(tokens)).tolist()


@pytest.mark.parametrize("packing", list(Packing))
@pytest.mark.parametrize("document_mask", [False, True])
def test_scorable_tokens_are_counted_as_by_hand(corpus: Text, packing: Packing, document_mask: bool) -> None:
    split = dataclasses.replace(corpus, packing=packing, document_mask=document_mask)
    end = split._packed.tokenizer.separator[1]
    assert split.vocabulary.boundary == (end if document_mask else None)
    indices = range(0, 3 * len(split._windows), 2)
    count = 0
    for row in split.batch(indices, seed=5).tolist():
        count += sum(not (document_mask and before == end) for before in row[:-1])
    assert int((~unscored(split.batch(indices, seed=5), split.vocabulary.boundary)).sum()) == count
    if document_mask and packing is Packing.padded:
        assert count == int(
            split._windows.filled(
                split._windows.shuffled(np.array(indices), 5, f"text/{split.domain}/{split.split}")
            ).sum()
        ) - len(indices)


@pytest.mark.parametrize("packing", list(Packing))
@pytest.mark.parametrize("document_mask", [False, True])
def test_questions_ask_neither_padding_nor_what_is_given(corpus: Text, packing: Packing, document_mask: bool) -> None:
    split = dataclasses.replace(corpus, packing=packing, document_mask=document_mask)
    end, query = split._packed.tokenizer.separator[1], split.queries(30, seed=2)
    assert len(query.tokens_BL) == 30
    assert bool(query.answer_BL.any(1).all())
    assert int(query.answer_BL.sum(1).max()) == split.answer
    assert not bool(query.answer_BL[:, 0].any())
    if document_mask or packing is Packing.padded:
        assert not bool((query.answer_BL[:, 1:] & (query.tokens_BL[:, :-1] == end)).any())
    assert query.verify(query.tokens_BL).tolist() == [1.0] * 30
    assert torch.equal(query.tokens_BL[:9], split.queries(9, seed=2).tokens_BL)


def test_documents_without_separator_are_joined_bare(corpus: Text) -> None:
    bare = dataclasses.replace(corpus, eos=False)
    for split in (f"{domain}.{split}" for domain in Domain for split in SPLITS):
        ended, tokens = (each._packed.splits[split] for each in (corpus, bare))
        ids, end = ended.read(0, len(ended)), corpus._packed.tokenizer.separator[1]
        assert tokens.read(0, len(tokens)).tolist() == ids[ids != end].tolist()


def test_illegal_combinations_say_what_to_type() -> None:
    for fields in ({"document_mask": True}, {"packing": "padded"}):
        with pytest.raises(ValueError, match=r"corpus\.eos=false: .*; type corpus\.eos=true"):
            Text(eos=False, **fields)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"corpus\.packing: wanted one of joined, padded; got loose"):
        Text(packing="loose")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"corpus\.duplicates: wanted one of near, exact; got far"):
        Text(duplicates="far")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"corpus\.workers: wanted 0..1024, got -1"):
        Text(workers=-1)


def test_how_windows_are_cut_and_read_is_part_of_the_fingerprint(corpus: Text) -> None:
    changes = ({}, {"packing": "padded"}, {"document_mask": True}, {"eos": False}, {"length": 25}, {"answer": 5})
    assert len({dataclasses.replace(corpus, **change).fingerprint() for change in changes}) == len(changes)
    assert dataclasses.replace(corpus, workers=2).fingerprint() == corpus.fingerprint()

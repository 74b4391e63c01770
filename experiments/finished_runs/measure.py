"""Rows of a finished run's evaluation, one protocol after another, each kept as soon as it is there.

Shapes: B questions, L positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ablate.compute.device import Device, Precision, attention_form
from ablate.compute.execution import load_weights
from ablate.core import records
from ablate.core.blocks import Grid
from ablate.core.corpus import Corpus, Split, Vocabulary
from ablate.core.storage import locked
from ablate.core.validation import UsageError
from ablate.decoding.answers import Decoded
from ablate.decoding.cached_reader import cacheable
from ablate.decoding.loop import decode
from ablate.decoding.predictor import OraclePredictor, Predict, Predictor
from ablate.decoding.protocol import Cache, Order, Protocol
from ablate.evaluation.contexts import Blocks
from ablate.evaluation.score_rows import left_to_right, named, score_rows
from ablate.model.attention import Attention
from ablate.model.transformer import Transformer
from ablate.training.checkpoint import final_weights
from experiments.finished_runs import run_folder
from experiments.finished_runs.evaluation import Evaluation

FILE, LOCK = "evaluation.parquet", ".evaluation.lock"
STRETCH = 2**24  # log-probabilities made at once
Row = dict[str, Any]
Frame = Any  # a pandas frame or one row of it, whose columns no type checker knows


@dataclass(frozen=True)
class Model:
    """What is asked: a network, or the oracles of questions and of sequences, which are of two splits.

    attention_size: blocks in which it attends, 0 for none.
    """

    name: str
    answers: Predict
    sequences: Predict
    attention_size: int = 0


@dataclass(frozen=True)
class Part:
    """A part of an evaluation: the columns that its rows have in common, and what measures them."""

    where: Row
    measure: Callable[[], list[Row]]


def evaluated(folder: Path, asked: Evaluation) -> Frame:
    """All rows of the run's evaluation, those asked for among them; while another process measures it, waits. Raises
    UsageError for what cannot be measured."""
    run = run_folder.read(folder)
    _require_possible(run, asked)
    with locked(folder / LOCK):
        return _evaluated(run, folder / FILE, asked)


def _evaluated(run: run_folder.Finished, path: Path, asked: Evaluation) -> Frame:
    try:
        rows: Frame = records.read(path, records.EVALUATION) if path.exists() else records.table([], records.EVALUATION)
    except ValueError as damage:
        raise UsageError(f"{damage}; delete {path} to measure anew") from None
    common = end_of_run(run.folder) | {"question_seed": asked.seed}
    unseen = Split.test if run.corpus.oracle is None else Split.train  # a world's training sequences are always fresh
    for model in _models(run, asked):
        parts = [*_answers(model, run.of(Split.test), asked), *_bounds(model, run.of(unseen), asked)]
        if asked.sequences:
            parts += _sequences(model, run, asked)
        for part in parts:
            where = {**common, "objective": model.name, **part.where}
            if not _there(rows, where):
                fresh = records.table([{**where, **row} for row in part.measure()], records.EVALUATION)
                rows = fresh if rows.empty else pd.concat([rows, fresh], ignore_index=True)
                records.write(rows, path, records.EVALUATION)
    return rows


def _require_possible(run: run_folder.Finished, asked: Evaluation) -> None:
    """Raises UsageError before anything is measured."""
    world, length = run.of(Split.test).oracle is not None, run.corpus.length
    for key, came, needed in (
        ("orders", "oracle_k", Order.oracle_k in asked.orders),
        ("oracle", "true", asked.oracle),
        ("sequences", asked.sequences, asked.sequences > 0),
    ):
        if needed and not world:
            raise UsageError(f"{key}={came}: wanted a world, got {run.corpus.name}, which has no oracle; leave it out")
    if Cache.prefix in asked.caches and (asked.oracle or run.objective.reading.kind is not Attention.full):
        label = "the oracle" if asked.oracle else run.objective.label
        raise UsageError(f"caches=[prefix]: wanted a network with full attention, got {label}; leave it out")
    if any(size > length for size in asked.bounds):
        raise UsageError(f"bounds={asked.bounds}: wanted blocks of at most {length} tokens, the length of a sequence")
    if asked.bounds and run.corpus.vocabulary.boundary is not None:
        raise UsageError(f"bounds={asked.bounds}: not measured within documents; leave it out for this run")


def _there(rows: Frame, where: Row) -> bool:
    same = pd.Series(True, index=rows.index)
    for name, value in where.items():
        if value is not None and name != "offset":
            same &= rows[name] == value
    return bool(same.any())


def end_of_run(folder: Path) -> Row:
    """Where the run stood at its end, from its records. Raises UsageError where they are damaged."""
    try:
        last: Frame = records.read(folder).sort_values(["stage", "step"]).iloc[-1]
    except ValueError as damage:
        raise UsageError(str(damage)) from None
    names = ("run", "corpus", "regime", "seed", "stage", "step", "tokens", "loss_tokens", "flops", "domain")
    blank = {"question": None, "passes": None, "seconds": None, **records.NO_BLOCKS}
    return {**{name: last[name] for name in names}, **blank}


def predictor(run: run_folder.Finished) -> Predictor:
    """The network as it was trained last, fp32, on the CPU. Raises RunError for a run without whole weights."""
    weights, v = final_weights(run.folder), run.corpus.vocabulary
    form = attention_form(Device.cpu, Precision.fp32)
    network = Transformer(run.shape, len(weights["embedding.weight"]), v.mask_id, form, tokens=len(v))
    load_weights(network, weights)
    return Predictor(network.eval(), run.objective, v.boundary)


def _models(run: run_folder.Finished, asked: Evaluation) -> Iterator[Model]:
    predict = predictor(run)
    yield Model(run.objective.label, predict, predict, run.objective.reading.size)
    if asked.oracle:
        test, train = (run.of(split).oracle for split in (Split.test, Split.train))
        assert test is not None
        assert train is not None
        yield Model(records.ORACLE, OraclePredictor(test), OraclePredictor(train))


def _answers(model: Model, corpus: Corpus, asked: Evaluation) -> Iterator[Part]:
    """The same fresh questions under every protocol."""
    query, mask_id = corpus.queries(asked.questions, asked.seed), corpus.vocabulary.mask_id
    options = _options(model, corpus, asked)

    def scores(protocol: Protocol) -> list[Row]:
        found = decode(model.answers, query.prompt(mask_id), query.answer_BL, protocol, mask_id, **options)
        right_B = query.verify(found.tokens_BL)
        errors = {"score": error_of(right_B), "exact": error_of((right_B == 1).double())}
        rows = score_rows(found, query, mask_id, corpus.oracle)
        return [{**row, **_spent(found), "error": errors.get(str(row["metric"]), math.nan)} for row in rows]

    for protocol in _protocols(asked):
        where = {"contexts": "decode", "split": str(corpus.split), "n": len(query.tokens_BL)}
        yield Part(where | named(protocol), partial(scores, protocol))


def _sequences(model: Model, run: run_folder.Finished, asked: Evaluation) -> Iterator[Part]:
    """Whole sequences, all but their first token drawn: which share breaks no rule of the world."""
    corpus = run.of(Split.train)
    judge = run.of(Split.whole).oracle if Split.whole in corpus.splits else corpus.oracle
    assert judge is not None
    first_BL, mask_id = corpus.batch(range(asked.sequences), asked.seed), corpus.vocabulary.mask_id
    drawn_BL = torch.arange(corpus.length).expand_as(first_BL) > 0
    options = _options(model, corpus, asked)

    def legal(protocol: Protocol) -> list[Row]:
        found = decode(model.sequences, first_BL, drawn_BL, protocol, mask_id, **options)
        possible_B = (judge.log_evidence(found.tokens_BL) > -math.inf).double()
        values = {"possible": float(possible_B.mean()), "tokens_a_pass": found.tokens_a_pass}
        values["left_to_right"] = left_to_right(found.order_BL)
        errors = {"possible": error_of(possible_B)}
        return [
            {"metric": metric, "value": value, "error": errors.get(metric, math.nan), **_spent(found)}
            for metric, value in values.items()
        ]

    for protocol in _protocols(asked):
        warm = replace(protocol, temperature=1.0)
        where = {"contexts": "sequence", "split": str(corpus.split), "n": asked.sequences}
        yield Part(where | named(warm), partial(legal, warm))


def _options(model: Model, corpus: Corpus, asked: Evaluation) -> dict[str, Any]:
    cached = cacheable(model.answers)
    return {"seed": asked.seed, "oracle": corpus.oracle, "attention_size": model.attention_size, "cached": cached}


def _protocols(asked: Evaluation) -> Iterator[Protocol]:
    asked_for = product(asked.grids, asked.caches, asked.block_sizes, asked.orders, asked.paces)
    for grid, cache, size, order, pace in asked_for:
        yield Protocol(size, order, pace, grid, cache=cache)


def _spent(decoded: Decoded) -> Row:
    return {"passes": float(decoded.passes_B.double().mean()), "seconds": decoded.seconds}


def _bounds(model: Model, corpus: Corpus, asked: Evaluation) -> Iterator[Part]:
    """Bits a token of whole fresh sequences, unclipped, in blocks counted from position 0 and from every offset."""
    for size in asked.bounds:
        where = {"contexts": "bound", "block_size": size, "grid": str(Grid.sequence), "metric": "bits"}
        where |= {"split": str(corpus.split), "n": asked.contexts}
        yield Part(where, partial(_bound, model, size, corpus, asked))


def _bound(model: Model, size: int, corpus: Corpus, asked: Evaluation) -> list[Row]:
    tokens_BL, rows = corpus.batch(range(asked.contexts), asked.seed), []
    for offset in range(size):
        bits_B = block_bits(model.sequences, size, offset, tokens_BL, corpus.vocabulary, asked.seed)
        rows.append({"offset": offset, "value": float(bits_B.mean()), "error": error_of(bits_B)})
    return rows


def block_bits(predict: Predict, size: int, offset: int, tokens_BL: Tensor, v: Vocabulary, seed: int) -> Tensor:
    """(B,) bits a token of one context of each sequence, in blocks on the sequence's grid moved by the offset; their
    mean estimates the unclipped bound. Position 0 is not asked for."""
    scored_BL = torch.ones_like(tokens_BL, dtype=torch.bool)
    scored_BL[:, 0] = False
    contexts = Blocks(size, grid=Grid.sequence, offset=offset).draw(tokens_BL, scored_BL, v.mask_id, seed)
    return contexts.means(bits_of(predict, contexts.inputs_BL, tokens_BL, len(v)))


def bits_of(predict: Predict, inputs_BL: Tensor, tokens_BL: Tensor, symbols: int) -> Tensor:
    """(B, L) float64: bits of each token, given what stands in its row; predicted a stretch of rows at a time."""
    rows = max(1, STRETCH // (tokens_BL.shape[1] * symbols))
    parts = zip(inputs_BL.split(rows), tokens_BL.split(rows), strict=True)
    nats_BL = -torch.cat([predict(x_BL).gather(-1, y_BL[..., None])[..., 0] for x_BL, y_BL in parts])
    return nats_BL.double() / math.log(2)


def error_of(values_B: Tensor) -> float:
    """Standard error of the mean over questions; nan of a single one."""
    return float(values_B.double().std() / math.sqrt(len(values_B))) if len(values_B) > 1 else math.nan

"""Probes: what a model knows, as rows. A probe sees `predict`, never a module.

Shapes: B sequences, L positions, V vocabulary, N asked tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ablate.core.corpus import Corpus, Domain, Posterior, Query, Split, Stale, unscored
from ablate.decoding.loop import PROTOCOL, decode
from ablate.decoding.predictor import Predict
from ablate.evaluation.contexts import Blocks, Contexts
from ablate.evaluation.metrics import (
    cross_entropy_bits,
    excess_bits,
    memorisation_index,
    set_fit,
    spurious_binding,
)
from ablate.evaluation.streaming import Calibration

Row = dict[str, object]
SMOOTHING = 0.01  # of what a finite list has shown, see `memorisation_index`
STRETCH = 2**28  # log-probabilities made at once; in fp32 a GiB
FLOOR = 1e-6  # under the probabilities of a spurious binding, of which p_0 may be 0


@dataclass
class Probe:
    """What to ask of one law: decoding, contexts of decoding, and (train split, real text) the bound over sequences.

    The bound is the unclipped one, whatever was trained on: blocks of size 1 are AR, of the length random masks, those
    between are `bounds`. An oracle has the same bits under all of them; a network has not.
    questions: decoded at each block size, but no more than can be decoded by reading `decoded` tokens (a token a pass
    makes that grow with the square of the length). contexts: rows drawn from each law of contexts. by_question: also
    one row for each of these, in blocks of the first size, for statistics that draw seeds and then questions?
    """

    domain: Domain
    split: Split
    block_sizes: tuple[int, ...] = (1, 2, 32)
    questions: int = 64
    contexts: int = 256
    decoded: int = 32_768
    bounds: tuple[int, ...] = (2, 4, 8, 16)
    by_question: bool = False

    def prepare(self, corpus: Corpus, seed: int) -> ProbeSet:
        """The probe's questions on `corpus`, the law of its domain and split, with the oracle's answers."""
        pool = corpus.queries(self.contexts, seed)
        everything_BL = torch.ones_like(pool.answer_BL)
        everything_BL[:, 0] = False
        laws = [("block", size, pool.answer_BL, size) for size in self.block_sizes]
        if self.split is Split.train or corpus.oracle is None:
            # a world's test split is a law of its own, known to its oracle and never shown in training: over whole
            # sequences the distance to it would measure that mismatch, not what was learned
            laws += [("ar", None, everything_BL, 1), ("random", None, everything_BL, corpus.length)]
            laws += [("bound", size, everything_BL, size) for size in self.bounds if size < corpus.length - 1]
        context_sets = []
        v, unscored_BL = corpus.vocabulary, unscored(pool.tokens_BL, corpus.vocabulary.boundary)
        for name, block_size, asked_BL, size in laws:
            scored_BL = asked_BL & ~unscored_BL
            contexts = Blocks(size).draw(pool.tokens_BL, scored_BL, v.mask_id, seed)
            if v.boundary is not None:
                contexts = contexts.within_documents(unscored_BL, scored_BL, v.mask_id)
            answers = None if corpus.oracle is None else corpus.oracle.posterior(contexts.inputs_BL)
            rate = _tokens_per_byte(corpus, pool.tokens_BL, scored_BL)
            context_sets.append(ContextSet(name, block_size, contexts, scored_BL, answers, rate, len(v)))
        cost = int(pool.answer_BL.sum(1).max()) * corpus.length
        questions = corpus.queries(min(self.questions, max(1, self.decoded // cost)), seed)
        listed = _listed(corpus, everything_BL, seed)
        return ProbeSet(self, questions, context_sets, listed, _bindings(corpus, self.contexts, seed), v.mask_id)

    def measure(self, predict: Predict, corpus: Corpus, seed: int, left_to_right: bool = False) -> list[Row]:
        """Rows of one measurement; see `ProbeSet.measure`."""
        return self.prepare(corpus, seed).measure(predict, left_to_right)


@dataclass(frozen=True)
class ContextSet:
    """One law of contexts and the exact answers: posterior p_BLV where an oracle exists, else None.

    scored_BL: the tokens that can be asked for. tokens_per_byte is None for worlds, whose tokens stand for no bytes.
    tokens: of the vocabulary.
    """

    name: str
    block_size: int | None
    contexts: Contexts
    scored_BL: Tensor
    answers: Posterior | None
    tokens_per_byte: float | None
    tokens: int

    def surprises(self, predict: Predict, inputs_BL: Tensor) -> Tensor:
        """Nats at what stands there, (B, L) float64. A stretch of rows at a time: of a checkpoint's vocabulary the
        log-probabilities of all rows would fit into no memory."""
        rows = max(1, STRETCH // (inputs_BL.shape[1] * self.tokens))
        parts = zip(inputs_BL.split(rows), self.contexts.targets_BL.split(rows), strict=True)
        return -torch.cat(
            [predict(now)[..., : self.tokens].gather(-1, asked[..., None])[..., 0].double() for now, asked in parts]
        )


@dataclass(frozen=True)
class Listed:
    """Contexts of the finite list that training draws from, with both truths: the law's and the list's."""

    name: str
    contexts: Contexts
    law: Posterior
    shown: Posterior


@dataclass(frozen=True)
class ProbeSet:
    """A probe's questions, drawn once and put to every model of a run."""

    probe: Probe
    query: Query
    context_sets: list[ContextSet]
    listed: list[Listed]
    bindings: tuple[Stale, Posterior] | None
    mask_id: int

    def measure(self, predict: Predict, left_to_right: bool = False) -> list[Row]:
        """Rows with metric, contexts, block_size, protocol and value; domain and split are the probe's.

        `left_to_right` says that predict, put before clean text, reads each token's left alone: then bits per byte
        under AR contexts are exact, over every token, instead of sampled.
        """
        rows = [row for size in self.probe.block_sizes for row in self._scores(predict, size)]
        for context_set in self.context_sets:
            first = self.probe.by_question and context_set is self.context_sets[0]
            rows += _knowledge(predict, context_set, left_to_right and context_set.name == "ar", first)
        rows += [row for listed in self.listed for row in _memorisation(predict, listed)]
        if self.bindings is not None:
            rows += _spurious(predict, *self.bindings)
        return [{"domain": str(self.probe.domain), "split": str(self.probe.split), **row} for row in rows]

    def _scores(self, predict: Predict, size: int) -> list[Row]:
        """Decoding scores: the share of answer items right, and of answers right as a whole."""
        prompt_BL = self.query.prompt(self.mask_id)
        right_B = self.query.verify(decode(predict, prompt_BL, self.query.answer_BL, size, self.mask_id))
        common = {"contexts": "decode", "block_size": size, "protocol": PROTOCOL}
        return [
            {"metric": "score", **common, "value": float(right_B.mean())},
            {"metric": "exact", **common, "value": float((right_B == 1).double().mean())},
        ]


def _knowledge(predict: Predict, context_set: ContextSet, exact: bool, by_question: bool) -> list[Row]:
    """Bits per token; with an oracle, also the distance from it; for real text, bits per byte instead.

    Question by question: bits above the oracle, where there is one, of the tokens that a question asks for.
    """
    common: Row = {"contexts": context_set.name, "block_size": context_set.block_size, "protocol": ""}
    contexts = context_set.contexts
    if context_set.answers is None:
        bits_BL = context_set.surprises(predict, contexts.inputs_BL) / math.log(2)
        values = {"bits": contexts.mean(bits_BL)}
    else:
        logp_BLV = predict(contexts.inputs_BL).double()
        bits_BL = excess_bits(context_set.answers.p_BLV.flatten(0, 1), logp_BLV.flatten(0, 1)).view(logp_BLV.shape[:2])
        values = {"excess_bits": contexts.mean(bits_BL), **_against_oracle(contexts, logp_BLV, context_set.answers)}
    if context_set.tokens_per_byte is not None:
        bits = _exact_bits(predict, context_set) if exact else values["bits"]
        values = {"bits_per_byte": bits * context_set.tokens_per_byte}
    rows = [{"metric": metric, **common, "value": value} for metric, value in values.items()]
    if by_question:
        bits_B = contexts.means(bits_BL)
        rows += [
            {"metric": "question_bits", **common, "question": i, "value": v} for i, v in enumerate(bits_B.tolist())
        ]
    return rows


def _against_oracle(contexts: Contexts, logp_BLV: Tensor, answers: Posterior) -> dict[str, float]:
    """By the oracle's full vector, which has the same mean as the drawn token and less variance.

    invalid_mass and kl_within_bits stand side by side: set mass alone rewards a uniform guess.
    """
    asked_BL = contexts.weight_BL > 0
    w_N, p_NV, logp_NV = contexts.weight_BL[asked_BL], answers.p_BLV[asked_BL], logp_BLV[asked_BL]
    fit = set_fit(p_NV, logp_NV, answers.support_BLV[asked_BL])
    calibration = Calibration()
    calibration.update(p_NV, logp_NV, w_N)

    def mean(values_N: Tensor) -> float:
        return float((values_N * w_N).sum() / w_N.sum())

    return {
        "bits": mean(cross_entropy_bits(p_NV, logp_NV)),
        "invalid_mass": mean(fit.invalid),
        "kl_within_bits": mean(fit.kl_within),
        "calibration_error": calibration.error,
    }


def _listed(corpus: Corpus, scored_BL: Tensor, seed: int) -> list[Listed]:
    """Contexts of AR and of random masks on training's own records, where these are a finite list."""
    if corpus.empirical is None or corpus.oracle is None:
        return []
    tokens_BL = corpus.batch(range(len(scored_BL)), seed)
    drawn = {
        name: Blocks(size).draw(tokens_BL, scored_BL, corpus.vocabulary.mask_id, seed)
        for name, size in (("ar", 1), ("random", corpus.length))
    }
    return [
        Listed(name, c, corpus.oracle.posterior(c.inputs_BL), corpus.empirical.posterior(c.inputs_BL))
        for name, c in drawn.items()
    ]


def _memorisation(predict: Predict, listed: Listed) -> list[Row]:
    """Mean memorisation index where law and list disagree; no row where they nowhere do."""
    asked_BL = listed.contexts.weight_BL > 0
    logp_BLV = predict(listed.contexts.inputs_BL)
    index = memorisation_index(listed.law.p_BLV[asked_BL], listed.shown.p_BLV[asked_BL], logp_BLV[asked_BL], SMOOTHING)
    w_N = listed.contexts.weight_BL[asked_BL] * index.differs
    if not float(w_N.sum()):
        return []
    value = float(torch.where(w_N > 0, index.bits * w_N, 0.0).sum() / w_N.sum())
    if math.isnan(value):
        return []  # the model rules out what both truths hold possible
    return [
        {
            "metric": "memorisation_bits",
            "contexts": listed.name,
            "block_size": None,
            "protocol": f"list smoothed by {SMOOTHING:g}",
            "value": value,
        }
    ]


def _bindings(corpus: Corpus, count: int, seed: int) -> tuple[Stale, Posterior] | None:
    """Contexts with stale bindings, and the oracle's answers, where the corpus has such."""
    stale = corpus.stale(count, seed)
    if stale is None or corpus.oracle is None:
        return None
    return stale, corpus.oracle.posterior(stale.tokens_BL)


def _spurious(predict: Predict, stale: Stale, truth: Posterior) -> list[Row]:
    """Mean spurious-binding score, nats: above 0 where the model believes what a stale binding implies."""
    asked_BL = stale.asked_BL
    logp_NV = predict(stale.tokens_BL)[asked_BL]
    score = spurious_binding(truth.p_BLV[asked_BL], logp_NV, stale.stale_BL[asked_BL], FLOOR)
    return [
        {
            "metric": "spurious_binding",
            "contexts": "stale",
            "block_size": None,
            "protocol": f"floor {FLOOR:g}",
            "value": float(score.nats.mean()),
        }
    ]


def _exact_bits(predict: Predict, context_set: ContextSet) -> float:
    """Bits per token of a left-to-right model over every token but what is given."""
    nats_BL = context_set.surprises(predict, context_set.contexts.targets_BL)
    return float(nats_BL[context_set.scored_BL].mean()) / math.log(2)


def _tokens_per_byte(corpus: Corpus, tokens_BL: Tensor, scored_BL: Tensor) -> float | None:
    """Scored tokens over the bytes they stand for."""
    if corpus.vocabulary.bytes_V is None:
        return None
    bytes_V = torch.tensor(corpus.vocabulary.bytes_V)
    return float(scored_BL.sum() / bytes_V[tokens_BL][scored_BL].sum())

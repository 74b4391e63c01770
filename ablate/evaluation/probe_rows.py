"""What a probe asks, with the exact answers, and the rows that one model's answers give.

Shapes: B sequences, L positions, V vocabulary, N asked tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ablate.core.corpus import Corpus, Posterior, Stale
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


@dataclass(frozen=True)
class ContextSet:
    """Contexts of one sampler and the exact answers: posterior p_BLV where an oracle exists, else None.

    where: the columns block_size, grid and offset, several where grids have the same blocks. scored_BL: the tokens that
    can be asked for. tokens_per_byte is None for worlds, whose tokens stand for no bytes. tokens: of the vocabulary.
    """

    name: str
    where: list[Row]
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
    """Contexts of the finite list that training draws from, with both truths: the split's and the list's."""

    name: str
    contexts: Contexts
    oracle: Posterior
    shown: Posterior


def knowledge_rows(predict: Predict, context_set: ContextSet, exact: bool, by_question: bool) -> list[Row]:
    """Bits per token; with an oracle, also the distance from it; for real text, bits per byte instead.

    Question by question: bits above the oracle, where there is one, of the tokens that a question asks for.
    """
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
    rows: list[Row] = [{"metric": metric, "value": value} for metric, value in values.items()]
    if by_question:
        bits_B = contexts.means(bits_BL)
        rows += [{"metric": "question_bits", "question": i, "value": v} for i, v in enumerate(bits_B.tolist())]
    return [{"contexts": context_set.name, **where, **row} for where in context_set.where for row in rows]


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


def listed_contexts(corpus: Corpus, scored_BL: Tensor, seed: int) -> list[Listed]:
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


def memorisation_rows(predict: Predict, listed: Listed) -> list[Row]:
    """Mean memorisation index where split and list disagree; no row where they nowhere do."""
    asked_BL = listed.contexts.weight_BL > 0
    logp_BLV = predict(listed.contexts.inputs_BL)
    index = memorisation_index(
        listed.oracle.p_BLV[asked_BL], listed.shown.p_BLV[asked_BL], logp_BLV[asked_BL], SMOOTHING
    )
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
            "protocol": f"list smoothed by {SMOOTHING:g}",
            "value": value,
        }
    ]


def stale_bindings(corpus: Corpus, count: int, seed: int) -> tuple[Stale, Posterior] | None:
    """Contexts with stale bindings, and the oracle's answers, where the corpus has such."""
    stale = corpus.stale(count, seed)
    if stale is None or corpus.oracle is None:
        return None
    return stale, corpus.oracle.posterior(stale.tokens_BL)


def spurious_rows(predict: Predict, stale: Stale, truth: Posterior) -> list[Row]:
    """Mean spurious-binding score, nats: above 0 where the model believes what a stale binding implies."""
    asked_BL = stale.asked_BL
    logp_NV = predict(stale.tokens_BL)[asked_BL]
    score = spurious_binding(truth.p_BLV[asked_BL], logp_NV, stale.stale_BL[asked_BL], FLOOR)
    return [
        {
            "metric": "spurious_binding",
            "contexts": "stale",
            "protocol": f"floor {FLOOR:g}",
            "value": float(score.nats.mean()),
        }
    ]


def _exact_bits(predict: Predict, context_set: ContextSet) -> float:
    """Bits per token of a left-to-right model over every scored token."""
    nats_BL = context_set.surprises(predict, context_set.contexts.targets_BL)
    return float(nats_BL[context_set.scored_BL].mean()) / math.log(2)


def tokens_per_byte_of(corpus: Corpus, tokens_BL: Tensor, scored_BL: Tensor) -> float | None:
    """Scored tokens over the bytes they stand for."""
    if corpus.vocabulary.bytes_V is None:
        return None
    bytes_V = torch.tensor(corpus.vocabulary.bytes_V)
    return float(scored_BL.sum() / bytes_V[tokens_BL][scored_BL].sum())

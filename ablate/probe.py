"""Probes: what a model knows, as rows. A probe sees `predict`, never a module.

Shapes: B sequences, L positions, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ablate.contexts import Contexts, block_contexts
from ablate.corpus import Corpus, Domain, Posterior, Query, Split
from ablate.decode import PROTOCOL, Predict, decode

Row = dict[str, object]


@dataclass
class Probe:
    """What to ask of one law: decoding, contexts of decoding, and (train split, real text) of AR and random masks.

    questions: decoded at each block size, but no more than can be decoded by reading `decoded` tokens (a token a pass
    makes that grow with the square of the length). contexts: rows drawn from each law of contexts.
    """

    domain: Domain
    split: Split
    block_sizes: tuple[int, ...] = (1, 2, 32)
    questions: int = 64
    contexts: int = 256
    decoded: int = 32_768

    def prepare(self, corpus: Corpus, seed: int) -> Exam:
        """The probe's questions on `corpus`, the law of its domain and split, with the oracle's answers."""
        pool = corpus.queries(self.contexts, seed)
        everything_BL = torch.ones_like(pool.answer_BL)
        everything_BL[:, 0] = False
        laws = [("block", size, pool.answer_BL, size) for size in self.block_sizes]
        if self.split is Split.train or corpus.oracle is None:
            # a world's test split is a law of its own, known to its oracle and never shown in training: over whole
            # sequences the distance to it would measure that mismatch, not what was learned
            laws += [("ar", None, everything_BL, 1), ("random", None, everything_BL, corpus.length)]
        papers = []
        for name, block_size, scored_BL, size in laws:
            contexts = block_contexts(pool.tokens_BL, scored_BL, size, corpus.vocabulary.mask_id, seed)
            answers = None if corpus.oracle is None else corpus.oracle.posterior(contexts.inputs_BL)
            rate = _tokens_per_byte(corpus, pool.tokens_BL, scored_BL)
            papers.append(Paper(name, block_size, contexts, answers, rate))
        cost = int(pool.answer_BL.sum(1).max()) * corpus.length
        questions = corpus.queries(min(self.questions, max(1, self.decoded // cost)), seed)
        return Exam(self, questions, papers, corpus.vocabulary.mask_id)

    def measure(self, predict: Predict, corpus: Corpus, seed: int, left_to_right: bool = False) -> list[Row]:
        """Rows of one measurement; see `Exam.measure`."""
        return self.prepare(corpus, seed).measure(predict, left_to_right)


@dataclass(frozen=True)
class Paper:
    """One law of contexts and the exact answers: posterior p_BLV where an oracle exists, else None.

    tokens_per_byte is None for worlds, whose tokens stand for no bytes.
    """

    name: str
    block_size: int | None
    contexts: Contexts
    answers: Posterior | None
    tokens_per_byte: float | None


@dataclass(frozen=True)
class Exam:
    """A probe's questions, drawn once and put to every model of a run."""

    probe: Probe
    query: Query
    papers: list[Paper]
    mask_id: int

    def measure(self, predict: Predict, left_to_right: bool = False) -> list[Row]:
        """Rows with metric, contexts, block_size, protocol and value; domain and split are the probe's.

        `left_to_right` says that predict, put before clean text, reads each token's left alone: then bits per byte
        under AR contexts are exact, over every token, instead of sampled.
        """
        rows = [row for size in self.probe.block_sizes for row in self._scores(predict, size)]
        for paper in self.papers:
            rows += self._knowledge(predict, paper, exact=left_to_right and paper.name == "ar")
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

    def _knowledge(self, predict: Predict, paper: Paper, exact: bool) -> list[Row]:
        """Bits per token and, with an oracle, excess bits; bits per byte for real text."""
        common = {"contexts": paper.name, "block_size": paper.block_size, "protocol": ""}
        bits, excess = _bits(predict, paper)
        if paper.tokens_per_byte is not None:
            bits = _exact_bits(predict, paper) if exact else bits
            return [{"metric": "bits_per_byte", **common, "value": bits * paper.tokens_per_byte}]
        rows = [{"metric": "bits", **common, "value": bits}]
        if excess is not None:
            rows.append({"metric": "excess_bits", **common, "value": excess})
        return rows


def _bits(predict: Predict, paper: Paper) -> tuple[float, float | None]:
    """Cross-entropy and, with an oracle, KL(p_0 || p_theta), in bits per asked token.

    With an oracle both use its full vector, which has the same mean as the drawn token and less variance.
    """
    contexts = paper.contexts
    logp_BLV = predict(contexts.inputs_BL).double()
    if paper.answers is None:
        surprise_BL = -logp_BLV.gather(-1, contexts.targets_BL[..., None])[..., 0]
        return contexts.mean(surprise_BL) / math.log(2), None
    p_BLV = paper.answers.p_BLV
    cross_BL = -torch.where(p_BLV > 0, p_BLV * logp_BLV, 0.0).sum(-1)
    entropy_BL = -torch.special.xlogy(p_BLV, p_BLV).sum(-1)
    bits, floor = (contexts.mean(x) / math.log(2) for x in (cross_BL, entropy_BL))
    return bits, bits - floor


def _exact_bits(predict: Predict, paper: Paper) -> float:
    """Bits per token of a left-to-right model over every token but the first of each sequence."""
    tokens_BL = paper.contexts.targets_BL
    logp_BL = predict(tokens_BL).double().gather(-1, tokens_BL[..., None])[..., 0]
    return -float(logp_BL[:, 1:].mean()) / math.log(2)


def _tokens_per_byte(corpus: Corpus, tokens_BL: Tensor, scored_BL: Tensor) -> float | None:
    """Scored tokens over the bytes they stand for."""
    if corpus.vocabulary.bytes_V is None:
        return None
    bytes_V = torch.tensor(corpus.vocabulary.bytes_V)
    return float(scored_BL.sum() / bytes_V[tokens_BL][scored_BL].sum())

"""How often contexts come back, raw and canonical, and what the null theory makes of it.

A raw context is everything visible, and where the asked token stands. A canonical one keeps only what matters: visible
tokens are deleted one by one from left to right as long as the posterior of the asked token stays the same; symbols
that are mere names are renamed in the order in which they appear; places count from the asked token. Two canonical
contexts are the same if they show the same and have the same answer.

Shapes: Q questions, L positions, V vocabulary, C contexts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ablate.analysis.tabular_learner import Cost, Tabular, Unseen, good_turing_unseen
from ablate.core.corpus import Oracle
from ablate.core.rng import uniform
from ablate.evaluation.contexts import Contexts

CHUNK = 4096  # contexts inferred at once, at most
NUMBERS = 2**24  # that the answers of a chunk may take, 128 MB
SAME = 1e-12  # the engine's accuracy: posteriors that differ by less are equal


@dataclass(frozen=True)
class Questions:
    """One asked token each: inputs_QL int64 with MASK, position_Q."""

    inputs_QL: Tensor
    position_Q: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Questions]) -> Questions:
        return cls(torch.cat([q.inputs_QL for q in parts]), torch.cat([q.position_Q for q in parts]))


@dataclass(frozen=True)
class Answers:
    """The oracle's answers to questions: p_QV float64, support_QV bool."""

    p_QV: Tensor
    support_QV: Tensor

    def part(self, which: slice) -> Answers:
        return Answers(self.p_QV[which], self.support_QV[which])


def questions(contexts: Contexts, count: int, seed: int) -> Questions:
    """`count` asked tokens, each drawn in proportion to its weight in the loss, spread evenly over the contexts."""
    upto = contexts.weight_BL.flatten().cumsum(0)
    if not upto[-1] > 0:
        raise ValueError(
            "questions: these contexts ask for nothing; draw more sequences, or leave this context sampler out"
        )
    strata_Q = (torch.arange(count) + uniform(seed, "visits/questions", range(count))) / count
    index_Q = torch.searchsorted(upto, strata_Q * upto[-1], right=True).clamp_max(len(upto) - 1)
    length = contexts.inputs_BL.shape[1]
    return Questions(contexts.inputs_BL[index_Q // length], index_Q % length)


def chunk(length: int, vocabulary: int) -> int:
    """How many contexts are inferred at once: any number of them takes bounded memory."""
    return max(1, min(CHUNK, NUMBERS // (length * vocabulary)))


def answers(oracle: Oracle, asked: Questions) -> Answers:
    """The oracle's answers, chunk by chunk."""
    parts, size = [], chunk(asked.inputs_QL.shape[1], len(oracle.vocabulary))
    for start in range(0, len(asked.position_Q), size):
        part = slice(start, start + size)
        exact, position_Q = oracle.posterior(asked.inputs_QL[part]), asked.position_Q[part]
        rows_Q = torch.arange(len(position_Q))
        parts.append((exact.p_BLV[rows_Q, position_Q], exact.support_BLV[rows_Q, position_Q]))
    return Answers(*(torch.cat(part) for part in zip(*parts, strict=True)))


def essential(oracle: Oracle, asked: Questions, mask_id: int) -> tuple[Questions, Answers]:
    """The questions without the visible tokens that do not matter, and their answers, which are the same as before.

    Passes are repeated until none deletes anything: then no token that is left could go by itself.
    """
    inputs_QL, truth = asked.inputs_QL.clone(), answers(oracle, asked)
    open_Q = torch.ones(len(inputs_QL), dtype=torch.bool)
    while open_Q.any():
        before_QL = inputs_QL.clone()
        for place in range(inputs_QL.shape[1]):
            rows_Q = (open_Q & (inputs_QL[:, place] != mask_id)).nonzero()[:, 0]
            if not len(rows_Q):
                continue
            trial_QL = inputs_QL[rows_Q]
            trial_QL[:, place] = mask_id
            found = answers(oracle, Questions(trial_QL, asked.position_Q[rows_Q]))
            same_Q = (found.p_QV - truth.p_QV[rows_Q]).abs().amax(1) <= SAME
            same_Q &= (found.support_QV == truth.support_QV[rows_Q]).all(1)
            inputs_QL[rows_Q[same_Q], place] = mask_id
        open_Q = (inputs_QL != before_QL).any(1)
    return Questions(inputs_QL, asked.position_Q), truth


def raw_keys(asked: Questions) -> list[Hashable]:
    """A key for each question: everything visible."""
    rows = asked.inputs_QL.numpy()
    return [(int(i), row.tobytes()) for i, row in zip(asked.position_Q, rows, strict=True)]


def canonical_keys(asked: Questions, truth: Answers, mask_id: int, names: Sequence[int]) -> list[Hashable]:
    """A key for each `essential` question: what is visible, from where the asked token stands, and its answer."""
    keys: list[Hashable] = []
    for row, position, p_V in zip(asked.inputs_QL.tolist(), asked.position_Q.tolist(), truth.p_QV, strict=True):
        renamed: dict[int, int] = {}
        shown = []
        for place, token in enumerate(row):
            if token == mask_id:
                continue
            if token in names:
                token = -1 - renamed.setdefault(token, len(renamed))
            shown.append((place - position, token))
        keys.append((tuple(shown), _answer(p_V.numpy(), list(renamed), names)))
    return keys


def _answer(p_V: np.ndarray, seen: list[int], names: Sequence[int]) -> bytes:
    """The answer's probabilities, rounded; of names first those that were seen, in their order, then the others'."""
    others = sorted((float(p_V[name]) for name in names if name not in seen), reverse=True)
    rest = np.delete(p_V, list(names))
    return np.round(np.concatenate((rest, p_V[seen], others)), 9).tobytes()


@dataclass(frozen=True)
class Visits:
    """Contexts by key: how often each was met, and its answer (one question of each stands for all)."""

    counts: Counter[Hashable]
    p: dict[Hashable, np.ndarray]
    support: dict[Hashable, np.ndarray]

    @classmethod
    def of(cls, keys: list[Hashable], truth: Answers) -> Visits:
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        p, support = truth.p_QV.numpy(), truth.support_QV.numpy()
        return cls(Counter(keys), {k: p[i] for k, i in first.items()}, {k: support[i] for k, i in first.items()})

    @property
    def unseen(self) -> Unseen:
        """Share of the contexts' distribution that the sample has not met (Good-Turing)."""
        return good_turing_unseen(np.array(list(self.counts.values())))

    @property
    def mean(self) -> float:
        """Mean number of visits of a context that was met."""
        return sum(self.counts.values()) / len(self.counts)


@dataclass(frozen=True)
class LearningCost:
    """Bits a token that a table pays: one that knows C(c) (the null theory), and one that starts from the whole
    vocabulary."""

    known: Cost
    vocabulary: float


def learning_cost(train: Visits, infer: Visits, tokens: int) -> LearningCost:
    """What tables that learned from the very questions that `train` holds pay, on average, for those of `infer`.

    tokens: symbols apart from MASK. A context that was met n times is charged the exact expected KL of a table after n
    draws of its answer; so with `infer` another sample of the same distribution, the mean over samples is the exact
    expected cost.
    """
    keys = list(infer.counts)
    weight_C = np.array([infer.counts[k] for k in keys]) / sum(infer.counts.values())
    visits_C = np.array([train.counts[k] for k in keys])
    p_CV, support_CV = (np.stack([table[k] for k in keys]) for table in (infer.p, infer.support))
    known_C = _paid(support_CV, p_CV, visits_C)
    whole_C = _paid(np.broadcast_to(np.arange(p_CV.shape[1]) < tokens, p_CV.shape), p_CV, visits_C)
    met_C = visits_C > 0
    known = Cost(float(weight_C[met_C] @ known_C[met_C]), float(weight_C[~met_C] @ known_C[~met_C]))
    return LearningCost(known, float(weight_C @ whole_C))


def _paid(possible_CV: np.ndarray, p_CV: np.ndarray, visits_C: np.ndarray) -> np.ndarray:
    """(C,) expected bits of a table that met each context so often."""
    paid_C = np.empty(len(p_CV))
    for visits in np.unique(visits_C):
        at = visits_C == visits
        paid_C[at] = Tabular(possible_CV[at]).excess(p_CV[at], int(visits))
    return np.maximum(paid_C, 0.0)  # a divergence, up to rounding

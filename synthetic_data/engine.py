"""Exact inference on chains of sparse cliques.

A law over L tokens is a product of independent chains. A chain is a sequence of cliques; a clique lists its rows
(state in, tokens at some positions, state out, weight), so token layout is apart from inference order. Each position
belongs to one clique. One upward and one downward pass give all posteriors at once (Pearl, 1988; Rabiner, 1989).

Shapes: B sequences, L positions, V vocabulary, R rows of a clique, K positions of a clique, S states.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ablate.corpus import Posterior, Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]
CHUNK = 128  # sequences inferred at once: bounds memory at rows * CHUNK * 8 bytes an array


@dataclass(frozen=True)
class Semiring:
    """How rows combine: `times` along a chain, `plus` over alternatives."""

    times: np.ufunc
    plus: np.ufunc
    dtype: type


SUM_PRODUCT = Semiring(np.multiply, np.add, np.float64)
BOOLEAN = Semiring(np.logical_and, np.logical_or, np.bool_)


class Groups:
    """Sums of rows that share a label: `reduce` maps (R, B) to (labels, B)."""

    def __init__(self, labels_R: Array, size: int):
        self.order = np.argsort(labels_R, kind="stable")
        self.labels, self.starts = np.unique(labels_R[self.order], return_index=True)
        self.size = size
        self.sorted = bool(np.all(self.order == np.arange(len(labels_R))))

    def reduce(self, values_RB: Array, ring: Semiring) -> Array:
        values_RB = values_RB if self.sorted else values_RB[self.order]
        out = np.zeros((self.size, values_RB.shape[1]), dtype=ring.dtype)
        out[self.labels] = ring.plus.reduceat(values_RB, self.starts, axis=0)
        return out


class Clique:
    """Rows (source, tokens at `positions`, target, weight); weight 0 is expressed by leaving the row out."""

    def __init__(self, positions: tuple[int, ...], tokens_RK: Array, source_R: Array | None = None,
                 target_R: Array | None = None, weight_R: Array | None = None):  # fmt: skip
        rows = len(tokens_RK)
        source_R = np.zeros(rows, dtype=np.int64) if source_R is None else source_R
        target_R = np.zeros(rows, dtype=np.int64) if target_R is None else target_R
        weight_R = np.ones(rows) if weight_R is None else weight_R
        order = np.argsort(target_R, kind="stable")  # so that the upward pass sums contiguous rows
        self.positions = positions
        self.tokens_RK, self.source_R, self.target_R = tokens_RK[order], source_R[order], target_R[order]
        self.weight_R1 = weight_R[order][:, None]
        self.sources, self.targets = int(source_R.max()) + 1, int(target_R.max()) + 1

    def prepared(self, sources: int, targets: int, vocabulary: int) -> tuple[Groups, Groups, list[Groups]]:
        by_token = [Groups(self.tokens_RK[:, k], vocabulary) for k in range(len(self.positions))]
        return Groups(self.source_R, sources), Groups(self.target_R, targets), by_token


class Chain:
    """Cliques in inference order; the first has the single source 0, and every state of the last is accepted."""

    def __init__(self, cliques: list[Clique], vocabulary: int):
        self.cliques = cliques
        sizes = [1, *(max(a.targets, b.sources) for a, b in pairwise(cliques))]
        sizes.append(cliques[-1].targets)
        self.groups = [c.prepared(i, o, vocabulary) for c, i, o in zip(cliques, sizes[:-1], sizes[1:], strict=True)]
        self.last = sizes[-1]

    def scores(self, seen_LVB: Array, ring: Semiring) -> list[Array]:
        """For each clique the (R, B) product of weight and evidence."""
        out = []
        for clique in self.cliques:
            score = clique.weight_R1.astype(ring.dtype)
            for k, position in enumerate(clique.positions):
                score = ring.times(score, seen_LVB[position][clique.tokens_RK[:, k]])
            out.append(score)
        return out

    def upward(self, scores: list[Array], ring: Semiring) -> tuple[list[Array], Array]:
        """Messages into each clique, (S, B), normalised; and the log of what normalising took away, (B,)."""
        batch = scores[0].shape[1]
        messages, log_scale_B = [np.ones((1, batch), dtype=ring.dtype)], np.zeros(batch)
        for clique, score, (_, by_target, _) in zip(self.cliques, scores, self.groups, strict=True):
            message = by_target.reduce(ring.times(messages[-1][clique.source_R], score), ring)
            if ring is SUM_PRODUCT:
                total_B = message.sum(0)
                with np.errstate(divide="ignore"):
                    log_scale_B += np.log(total_B)
                message = message / np.where(total_B > 0, total_B, 1.0)
            messages.append(message)
        return messages, log_scale_B

    def marginals(self, seen_LVB: Array, ring: Semiring) -> Iterator[tuple[int, Array]]:
        """Yields (position, (V, B) unnormalised marginal) for every position of the chain."""
        scores = self.scores(seen_LVB, ring)
        messages, _ = self.upward(scores, ring)
        beta_SB = np.ones((self.last, seen_LVB.shape[2]), dtype=ring.dtype)
        for c in reversed(range(len(self.cliques))):
            clique, (by_source, _, by_token) = self.cliques[c], self.groups[c]
            below_RB = ring.times(scores[c], beta_SB[clique.target_R])
            joint_RB = ring.times(messages[c][clique.source_R], below_RB)
            for position, groups in zip(clique.positions, by_token, strict=True):
                yield position, groups.reduce(joint_RB, ring)
            beta_SB = by_source.reduce(below_RB, ring)
            if ring is SUM_PRODUCT:
                beta_SB = beta_SB / np.maximum(beta_SB.max(0), np.finfo(np.float64).tiny)

    def draw(self, seen_LVB: Array, rng: np.random.Generator) -> Iterator[tuple[int, Array]]:
        """Yields (position, (B,) tokens) drawn exactly given the evidence: upward messages, then rows from the end."""
        scores = self.scores(seen_LVB, SUM_PRODUCT)
        messages, _ = self.upward(scores, SUM_PRODUCT)
        batch = np.arange(seen_LVB.shape[2])
        state_B = None
        for c in reversed(range(len(self.cliques))):
            clique = self.cliques[c]
            weight_RB = messages[c][clique.source_R] * scores[c]
            if state_B is not None:
                weight_RB = weight_RB * (clique.target_R[:, None] == state_B)
            cumulative_RB = np.cumsum(weight_RB, axis=0)
            threshold_B = rng.random(len(batch)) * cumulative_RB[-1]
            row_B = (cumulative_RB <= threshold_B).sum(0)
            state_B = clique.source_R[row_B]
            for k, position in enumerate(clique.positions):
                yield position, clique.tokens_RK[row_B, k]

    def prior(self, uniform_CB: Array) -> Iterator[tuple[int, Array]]:
        """Yields (position, (B,) tokens) drawn from the law itself, one uniform number a clique."""
        nothing = np.ones((1, 1))
        scores = [clique.weight_R1 for clique in self.cliques]
        messages, _ = self.upward(scores, SUM_PRODUCT)
        start, stop = np.zeros(1, dtype=np.int64), np.array([len(scores[-1])])
        state_B = np.zeros(uniform_CB.shape[1], dtype=np.int64)
        for c in reversed(range(len(self.cliques))):
            clique = self.cliques[c]
            upto_R = np.concatenate(([0.0], np.cumsum((messages[c][clique.source_R] * scores[c] * nothing)[:, 0])))
            low_B, high_B = upto_R[start[state_B]], upto_R[stop[state_B]]
            row_B = np.searchsorted(upto_R, low_B + uniform_CB[c] * (high_B - low_B), side="right") - 1
            row_B = np.clip(row_B, start[state_B], stop[state_B] - 1)
            for k, position in enumerate(clique.positions):
                yield position, clique.tokens_RK[row_B, k]
            state_B = clique.source_R[row_B]
            states = np.arange(clique.sources)
            if c:
                start, stop = (np.searchsorted(self.cliques[c - 1].target_R, states, side) for side in ("left", "right"))


class ChainOracle:
    """Exact oracle of a product of chains."""

    def __init__(self, chains: list[list[Clique]], length: int, vocabulary: Vocabulary):
        self.length, self.vocabulary = length, vocabulary
        covered = sorted(p for cliques in chains for clique in cliques for p in clique.positions)
        assert covered == list(range(length)), "each position belongs to exactly one clique"
        self.chains = [Chain(cliques, len(vocabulary)) for cliques in chains]

    def posterior(self, tokens_BL: Tensor) -> Posterior:
        """See `ablate.corpus.Oracle.posterior`."""
        import torch

        tokens = self._checked(tokens_BL)
        shape = (*tokens.shape, len(self.vocabulary))
        p_BLV, support_BLV = np.zeros(shape), np.zeros(shape, dtype=bool)
        log_evidence_B = np.zeros(len(tokens))
        for start in range(0, len(tokens), CHUNK):
            part = slice(start, start + CHUNK)
            log_evidence_B[part] = self._log_weight(tokens[part]) - self._log_total
            self._require_possible(tokens[part], log_evidence_B[part], start)
            p_BLV[part] = self._marginals(tokens[part], SUM_PRODUCT)
            support_BLV[part] = self._marginals(tokens[part], BOOLEAN)
        p_BLV /= p_BLV.sum(-1, keepdims=True)
        return Posterior(*(torch.from_numpy(x) for x in (p_BLV, support_BLV, log_evidence_B)))

    def sample(self, tokens_BL: Tensor, rng: np.random.Generator) -> Tensor:
        """See `ablate.corpus.Oracle.sample`."""
        import torch

        tokens = self._checked(tokens_BL)
        self._require_possible(tokens, self._log_weight(tokens) - self._log_total, 0)
        drawn = np.empty_like(tokens)
        for chain in self.chains:
            for position, column_B in chain.draw(self._seen(tokens, SUM_PRODUCT), rng):
                drawn[:, position] = column_B
        return torch.from_numpy(drawn)

    @property
    def draws(self) -> int:
        """Uniform numbers that one sequence takes in `draw`."""
        return sum(len(chain.cliques) for chain in self.chains)

    def draw(self, uniform_BN: Array) -> Tensor:
        """(B, L) int64 sequences of the law, exact, from N = `draws` uniform numbers each: a world's sampler."""
        import torch

        drawn = np.empty((len(uniform_BN), self.length), dtype=np.int64)
        first = 0
        for chain in self.chains:
            uniform_CB = uniform_BN[:, first : first + len(chain.cliques)].T
            first += len(chain.cliques)
            for position, column_B in chain.prior(uniform_CB):
                drawn[:, position] = column_B
        return torch.from_numpy(drawn)

    @cached_property
    def _log_total(self) -> float:
        nothing = np.full((1, self.length), self.vocabulary.mask_id, dtype=np.int64)
        return float(self._log_weight(nothing)[0])

    def _log_weight(self, tokens_BL: Array) -> Array:
        seen_LVB = self._seen(tokens_BL, SUM_PRODUCT)
        totals = [c.upward(c.scores(seen_LVB, SUM_PRODUCT), SUM_PRODUCT)[1] for c in self.chains]
        return np.sum(totals, axis=0)

    def _marginals(self, tokens_BL: Array, ring: Semiring) -> Array:
        seen_LVB = self._seen(tokens_BL, ring)
        out_LVB = np.zeros_like(seen_LVB)
        for chain in self.chains:
            for position, marginal_VB in chain.marginals(seen_LVB, ring):
                out_LVB[position] = marginal_VB
        return out_LVB.transpose(2, 0, 1)

    def _seen(self, tokens_BL: Array, ring: Semiring) -> Array:
        """(L, V, B): may position l hold symbol v, as far as row b shows?"""
        tokens_LB = tokens_BL.T
        allowed = tokens_LB[:, None, :] == np.arange(len(self.vocabulary))[None, :, None]
        return (allowed | (tokens_LB == self.vocabulary.mask_id)[:, None, :]).astype(ring.dtype)

    def _checked(self, tokens_BL: Tensor) -> Array:
        tokens = np.asarray(tokens_BL)
        if tokens.ndim != 2 or tokens.shape[1] != self.length:
            raise ValueError(f"oracle: wanted tokens of shape (B, {self.length}), got {tuple(tokens.shape)}")
        if tokens.dtype.kind not in "iu":
            raise ValueError(f"oracle: wanted integer token ids, got {tokens.dtype}")
        outside = (tokens < 0) | (tokens >= len(self.vocabulary))
        if outside.any():
            row, position = np.argwhere(outside)[0]
            raise ValueError(
                f"oracle: row {row}, position {position}: wanted a token id in 0..{len(self.vocabulary) - 1}, "
                f"got {tokens[row, position]}"
            )
        return tokens.astype(np.int64)

    def _require_possible(self, tokens_BL: Array, log_evidence_B: Array, start: int) -> None:
        impossible = np.flatnonzero(np.isneginf(log_evidence_B))
        if not len(impossible):
            return
        row = tokens_BL[impossible[0]]
        prefixes = np.where(np.tri(self.length, dtype=bool), row, self.vocabulary.mask_id)
        position = int(np.flatnonzero(np.isneginf(self._log_weight(prefixes)))[0])
        shown = self.vocabulary.symbols[row[position]]
        raise ValueError(
            f"oracle: row {start + impossible[0]} has probability 0: {shown!r} at position {position} "
            "cannot follow from the visible tokens before it"
        )

"""Exact oracles: a distribution over L tokens is a product of independent chains of sparse cliques.

Token layout is apart from inference order: each position belongs to one clique, wherever it stands. Chains that have
the same rows at other positions (the records of a sequence, say) are inferred together, as columns of one chain.

Shapes: B sequences, L positions, V vocabulary, N columns, K positions of a clique.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ablate.core.corpus import Posterior, Vocabulary
from synthetic_data.engine.chain import Chain, Choose, Pass, Seen, most_probable, sampler
from synthetic_data.engine.clique import Clique, Evidence
from synthetic_data.engine.semiring import BOOLEAN, MAX_PRODUCT, SUM_PRODUCT, Semiring

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]
VIEWS = 2**23  # numbers that the views of one chunk may take, 64 MB
CHUNK = 4096  # sequences inferred at once, at most
ALONE = 512  # sequences that one thread infers as fast as several would


@dataclass(frozen=True)
class Copies:
    """One chain at several places: positions_CIK[c] holds, a row a copy, the positions of clique c."""

    chain: Chain
    positions_CIK: list[Array]

    def tokens(self, tokens_BL: Array) -> list[Array]:
        """Of every clique the (N, K) tokens; column n = copy * B + sequence."""
        return [
            tokens_BL[:, positions_IK].transpose(1, 0, 2).reshape(-1, positions_IK.shape[1])
            for positions_IK in self.positions_CIK
        ]

    @property
    def count(self) -> int:
        return len(self.positions_CIK[0])

    def places(self, part: slice, batch: int) -> Iterator[tuple[int, slice, slice]]:
        """Where a block of columns belongs: (copy, columns of the block, sequences)."""
        for copy in range(part.start // batch, -(-part.stop // batch)):
            first, last = max(part.start, copy * batch), min(part.stop, (copy + 1) * batch)
            yield copy, slice(first - part.start, last - part.start), slice(first - copy * batch, last - copy * batch)


def _grouped(chains: list[list[Clique]]) -> list[Copies]:
    alike: dict[tuple[int, ...], list[list[Clique]]] = {}
    for cliques in chains:
        alike.setdefault(tuple(id(c.rows) for c in cliques), []).append(cliques)
    return [
        Copies(Chain(group[0]), [np.array([c.positions for c in copies]) for copies in zip(*group, strict=True)])
        for group in alike.values()
    ]


class ChainOracle:
    """Exact oracle of a product of chains; with `noise` q, of their tokens each replaced with probability q.

    A replacement is uniform over all symbols but MASK, so what is visible is soft evidence of what stood there.
    """

    def __init__(self, chains: list[list[Clique]], length: int, vocabulary: Vocabulary, noise: float = 0.0):
        covered = sorted(p for cliques in chains for clique in cliques for p in clique.positions)
        assert covered == list(range(length)), "each position belongs to exactly one clique"
        self.chains, self.length, self.vocabulary, self.noise = chains, length, vocabulary, noise
        self.copies = _grouped(chains)
        self.stray = noise / (len(vocabulary) - 1)  # probability that a token is replaced by a given symbol
        self.evidence = Evidence(hit=1 - noise + self.stray, miss=self.stray)

    def noisy(self, q: float) -> ChainOracle:
        """The oracle of the same distribution seen through noise."""
        return ChainOracle(self.chains, self.length, self.vocabulary, q)

    @property
    def rows(self) -> int:
        """Clique rows that a sequence takes in one pass."""
        return sum(len(clique.rows) for cliques in self.chains for clique in cliques)

    @property
    def draws(self) -> int:
        """Uniform numbers that one sequence takes in `draw`."""
        return sum(map(len, self.chains))

    def posterior(self, tokens_BL: Tensor) -> Posterior:
        """See `ablate.core.corpus.Oracle.posterior`. Uses as many threads as torch does."""
        import torch

        tokens = self._checked(tokens_BL)
        shape = (*tokens.shape, len(self.vocabulary))
        p_BLV, support_BLV, log_evidence_B = np.zeros(shape), np.zeros(shape, dtype=bool), np.empty(len(tokens))

        def infer(part: slice) -> None:
            seen = self._seen(tokens[part])
            log_evidence_B[part] = self._marginals(tokens[part], seen, SUM_PRODUCT, p_BLV[part]) - self._log_total
            self._require_possible(tokens[part], log_evidence_B[part], part.start)
            self._marginals(tokens[part], seen, BOOLEAN, support_BLV[part])

        threads = torch.get_num_threads()
        size = max(1, min(CHUNK, VIEWS // self._width, max(ALONE, -(-len(tokens) // threads))))
        parts = [slice(start, start + size) for start in range(0, len(tokens), size)]
        if len(parts) == 1 or threads == 1:
            for part in parts:
                infer(part)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(infer, parts))
        return Posterior(*(torch.from_numpy(x) for x in (p_BLV, support_BLV, log_evidence_B)))

    def log_evidence(self, tokens_BL: Tensor) -> Tensor:
        """See `ablate.core.corpus.Oracle.log_evidence`."""
        import torch

        tokens = self._checked(tokens_BL)
        size = max(1, min(CHUNK, VIEWS // self._width))
        parts = [self._log_weight(tokens[start : start + size]) for start in range(0, len(tokens), size)]
        return torch.from_numpy(np.concatenate([*parts, np.empty(0)]) - self._log_total)

    def sample(self, tokens_BL: Tensor, rng: np.random.Generator) -> Tensor:
        """See `ablate.core.corpus.Oracle.sample`."""
        tokens = self._checked(tokens_BL)
        drawn = self._complete(tokens, SUM_PRODUCT, sampler(rng))
        replaced = (tokens == self.vocabulary.mask_id) & (rng.random(tokens.shape) < self.noise)
        stray = self._symbols[rng.integers(len(self._symbols), size=tokens.shape)]
        return self._tensor(np.where(replaced, stray, drawn))

    def most_probable(self, tokens_BL: Tensor) -> Tensor:
        """The most probable completion, (B, L) int64; under noise, the most probable together with its clean truth.

        It maximises over rows, one a clique: over tokens too where these determine the rows, as in every world here.
        """
        return self._tensor(self._complete(self._checked(tokens_BL), MAX_PRODUCT, most_probable))

    def draw(self, uniform_BN: Array) -> Tensor:
        """(B, L) int64 clean sequences, exact, from N = `draws` uniform numbers each: a world's sampler."""
        drawn = np.empty((len(uniform_BN), self.length), dtype=np.int64)
        first = 0
        for copies in self.copies:
            size = len(copies.chain.cliques)
            for copy in range(copies.count):
                for c, row_B in copies.chain.prior(uniform_BN[:, first : first + size].T):
                    drawn[:, copies.positions_CIK[c][copy]] = copies.chain.rows[c].tokens_RK[row_B]
                first += size
        return self._tensor(drawn)

    @staticmethod
    def _tensor(tokens_BL: Array) -> Tensor:
        import torch

        return torch.from_numpy(tokens_BL)

    @cached_property
    def _symbols(self) -> Array:
        """Ids of all symbols but MASK."""
        return np.delete(np.arange(len(self.vocabulary)), self.vocabulary.mask_id)

    @cached_property
    def _width(self) -> int:
        """Numbers that the views of one sequence take, at most."""
        return max(sum(rows.width for rows in copies.chain.rows) * copies.count for copies in self.copies)

    @cached_property
    def _log_total(self) -> float:
        return float(self._log_weight(np.full((1, self.length), self.vocabulary.mask_id))[0])

    def _seen(self, tokens_BL: Array) -> list[Seen]:
        return [copies.chain.see(copies.tokens(tokens_BL)) for copies in self.copies]

    def _passes(self, seen: list[Seen], ring: Semiring) -> Iterator[tuple[Copies, Pass]]:
        for copies, shown in zip(self.copies, seen, strict=True):
            for one in copies.chain.run(shown, self.evidence, self.vocabulary.mask_id, ring):
                yield copies, one

    def _log_weight(self, tokens_BL: Array) -> Array:
        """(B,) nats: log of the total weight that the visible tokens leave."""
        log_B = np.zeros(len(tokens_BL))
        for copies, one in self._passes(self._seen(tokens_BL), SUM_PRODUCT):
            for _, columns, rows in copies.places(one.part, len(tokens_BL)):
                log_B[rows] += one.log_factor_N[columns]
        return log_B

    def _marginals(self, tokens_BL: Array, seen: list[Seen], ring: Semiring, out_BLV: Array) -> Array:
        """Fills out_BLV, zeros, with probabilities or with support; returns what `_log_weight` does."""
        hidden_LB = np.ascontiguousarray((tokens_BL == self.vocabulary.mask_id).T)
        log_B = np.zeros(len(tokens_BL))
        for copies, one in self._passes(seen, ring):
            places = list(copies.places(one.part, len(tokens_BL)))
            for _, columns, rows in places:
                log_B[rows] += one.log_factor_N[columns]
            for c, k, weight_VN in one.marginals():
                p_VN, _ = ring.normalise(weight_VN)
                symbols = copies.chain.rows[c].symbols[k]
                for copy, columns, rows in places:
                    position = copies.positions_CIK[c][copy, k]
                    out_BLV[rows, position, symbols] = (p_VN[:, columns] * hidden_LB[position, rows]).T
        if self.noise:
            kept, stray = ring.lift(np.array([1 - self.noise, self.stray]))
            out_BLV[:] = out_BLV * kept
            out_BLV[..., self._symbols] = (out_BLV[..., self._symbols] + stray) * hidden_LB.T[..., None]
        position, row = np.nonzero(~hidden_LB)
        out_BLV[row, position, tokens_BL[row, position]] = 1
        return log_B

    def _complete(self, tokens_BL: Array, ring: Semiring, choose: Choose) -> Array:
        drawn = tokens_BL.copy()
        log_B = self._log_weight(tokens_BL)
        self._require_possible(tokens_BL, log_B, 0)
        for copies, one in self._passes(self._seen(tokens_BL), ring):
            for c, row_N in one.complete(self.evidence, self.vocabulary.mask_id, choose):
                tokens_NK = copies.chain.rows[c].tokens_RK[row_N]
                for copy, columns, rows in copies.places(one.part, len(tokens_BL)):
                    drawn[rows, copies.positions_CIK[c][copy]] = tokens_NK[columns]
        return np.where(tokens_BL == self.vocabulary.mask_id, drawn, tokens_BL)

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

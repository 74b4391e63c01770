"""How far the contexts of training lie from those of inference.

Exact where mask sampling decides: decoding in blocks of `size` shows everything before a token's block, hides
everything after it, and of the block itself hides N tokens, which ones being uniform. Size 1 is AR, one block over
the whole window is random masks. Elsewhere from counts of contexts, and for decoders whose choice depends on content
by a classifier that has to tell the two kinds apart. KL of AR from random masks is finite, the reverse is infinite:
hence the other three numbers.

Shapes: S contexts, N rows, L positions, B tokens in the window. Divergences in bits.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any, cast

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit, rel_entr
from scipy.stats import binomtest
from torch import Tensor

from ablate.core.blocks import block_of
from ablate.core.rng import generator

Array = np.ndarray[Any, Any]
LN2 = math.log(2)
ENUMERATED = 16  # 2^15 patterns: the largest window that is listed pattern by pattern
LARGEST = 1000  # beyond it, 1 / C(B-1, j) is no float64


def kl_bits(p_S: Array, q_S: Array) -> float:
    """KL(p || q) in bits; inf where q is 0 and p is not."""
    return float(rel_entr(p_S, q_S).sum()) / LN2


def jsd_bits(p_S: Array, q_S: Array) -> float:
    """Jensen-Shannon divergence in bits: 0 for equal distributions, 1 for those that share no context (Lin, 1991)."""
    middle_S = (p_S + q_S) / 2
    return (kl_bits(p_S, middle_S) + kl_bits(q_S, middle_S)) / 2


def coverage(infer_S: Array, train_S: Array) -> float:
    """Mass of the inference contexts that training can show at all."""
    return min(1.0, float(infer_S[train_S > 0].sum()))  # a sum may exceed 1 by rounding


def one_plus_chi2(infer_S: Array, train_S: Array) -> float:
    """sum p^2 / q = 1 + chi^2(infer || train): how often a training context must be drawn in place of one of
    inference; the null theory's factor at equal K. inf where coverage is below 1."""
    if ((train_S == 0) & (infer_S > 0)).any():
        return math.inf
    return float(np.divide(infer_S**2, train_S, out=np.zeros_like(train_S), where=train_S > 0).sum())


@dataclass(frozen=True)
class Mismatch:
    """Distances of the contexts of inference from those of training, as distributions. The first two and jsd in
    bits."""

    kl: float
    reverse_kl: float
    jsd: float
    coverage: float
    one_plus_chi2: float


def mismatch(infer_S: Array, train_S: Array) -> Mismatch:
    """All five, of two distributions over the same S contexts (or over classes within which both are uniform)."""
    return Mismatch(
        kl_bits(infer_S, train_S),
        kl_bits(train_S, infer_S),
        jsd_bits(infer_S, train_S),
        coverage(infer_S, train_S),
        one_plus_chi2(infer_S, train_S),
    )


def aligned(infer: Mapping[Hashable, float], train: Mapping[Hashable, float]) -> tuple[Array, Array]:
    """Two tables {context: count or mass} as distributions over the contexts of either. Plug-in: a sample that has not
    met a context says mass 0, so read coverage beside the Good-Turing unseen mass. Raises ValueError for empty
    tables."""
    contexts = list(dict.fromkeys([*infer, *train]))
    masses = [np.array([float(table[c]) if c in table else 0.0 for c in contexts]) for table in (infer, train)]
    for name, mass in zip(("infer", "train"), masses, strict=True):
        if not mass.sum() > 0 or mass.min() < 0:
            raise ValueError(
                f"aligned: wanted counts >= 0 of at least one context in {name}, got a sum of {mass.sum()}"
            )
    return masses[0] / masses[0].sum(), masses[1] / masses[1].sum()


@dataclass(frozen=True)
class BlockPatterns:
    """Which tokens of a window are visible when its token j is predicted, decoding in blocks of `size`.

    hidden: P(N = 1..size tokens of the block hidden, the asked one among them); None for the uniform distribution,
    which is that of unclipped masks and of decoding one token a step in random order. Raises ValueError if the size
    does not divide the window or `hidden` is no distribution over 1..size.
    """

    window: int
    size: int
    hidden: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.window <= LARGEST or self.size < 1 or self.window % self.size:
            raise ValueError(
                f"BlockPatterns(size={self.size}): wanted a divisor of the window, which is {self.window} and at most "
                f"{LARGEST}; try size=1 or size={self.window}"
            )
        if self.hidden is not None and (len(self.hidden) != self.size or abs(sum(self.hidden) - 1) > 1e-9):
            raise ValueError(
                f"BlockPatterns.hidden: wanted {self.size} probabilities of 1..{self.size} hidden tokens, got "
                f"{len(self.hidden)} with sum {sum(self.hidden):g}"
            )

    @property
    def masses(self) -> Array:
        """Probability of one pattern with k = 0..size-1 visible tokens of the block, float64 (size,)."""
        hidden = np.full(self.size, 1 / self.size) if self.hidden is None else np.array(self.hidden)
        return hidden[::-1] / np.array(_choices(self.size - 1), dtype=np.float64)

    def table(self, j: int) -> dict[tuple[int, ...], float]:
        """Every pattern (its visible indices) and its probability; for windows up to 16."""
        if self.window > ENUMERATED:
            raise ValueError(
                f"BlockPatterns.table: a window of {self.window} has too many patterns to list, wanted at most "
                f"{ENUMERATED}; try `nested`, which needs no list"
            )
        start = block_of(j, self.size) * self.size
        others = [i for i in range(start, start + self.size) if i != j]
        masses = self.masses.tolist()
        shown = [s for k in range(self.size) for s in combinations(others, k)]
        return {(*range(start), *visible): masses[len(visible)] for visible in shown}


def nested(infer: BlockPatterns, train: BlockPatterns, j: int) -> tuple[Array, Array]:
    """Both distributions at index j, over classes of patterns that have the divergences of the patterns themselves; for
    any window, where one block size divides the other. Raises ValueError where none does.

    The finer blocks' patterns fall into classes by k, the visible tokens of its own block; with an offset of o tokens
    between the block starts they show o + k tokens of the coarser block, so both are uniform in a class. A last
    class holds what the finer blocks never show; there only the total counts.
    """
    fine, coarse = sorted((infer, train), key=lambda patterns: patterns.size)
    if infer.window != train.window or coarse.size % fine.size:
        raise ValueError(
            f"nested: wanted one window and one block size dividing the other, got sizes {infer.size}, {train.size} in "
            f"windows {infer.window}, {train.window}; try aligned(infer.table(j), train.table(j))"
        )
    offset = block_of(j, fine.size) * fine.size - block_of(j, coarse.size) * coarse.size
    common = _choices(fine.size - 1)
    shared_K = (*[0] * offset, *common, *[0] * (coarse.size - offset - fine.size))
    # whole numbers, so that a class that the coarser blocks cannot show has mass 0 and not a rounding error
    other_K = np.array([float(n - m) for n, m in zip(_choices(coarse.size - 1), shared_K, strict=True)])
    patterns_S = np.array(common, dtype=np.float64)
    fine_S = np.append(patterns_S * fine.masses, 0.0)
    coarse_S = np.append(patterns_S * coarse.masses[offset : offset + fine.size], coarse.masses @ other_K)
    return (fine_S, coarse_S) if infer is fine else (coarse_S, fine_S)


@lru_cache(maxsize=64)
def _choices(n: int) -> tuple[int, ...]:
    """C(n, k) for k = 0..n."""
    return tuple(math.comb(n, k) for k in range(n + 1))


def block_mismatch(infer: BlockPatterns, train: BlockPatterns) -> Mismatch:
    """Mismatch of the distributions of (j, pattern), every index j of the window asked equally often: means over j."""
    pairs = [nested(infer, train, j) for j in range(infer.window)]
    infer_S, train_S = (np.concatenate(parts) / infer.window for parts in zip(*pairs, strict=True))
    return mismatch(infer_S, train_S)


@dataclass(frozen=True)
class TwoSample:
    """A classifier's accuracy in telling two samples apart, and its one-sided exact p-value under "same distribution".

    rows: test rows, one of each pair. ridge: the penalty it was trained with.
    """

    accuracy: float
    p: float
    rows: int
    ridge: float


def two_sample_test(
    a_NL: Array | Tensor, b_NL: Array | Tensor, mask_id: int, seed: int, ridge: float = 0.01
) -> TwoSample:
    """Classifier two-sample test (Lopez-Paz & Oquab, 2017) of two int matrices of contexts.

    Logistic regression on the symbol (MASK is one) at each position and on the number of visible positions; so it is
    blind to distributions that differ in how positions go together and in nothing else. Row i of both makes a pair.
    Half the pairs train; of every other pair a coin shows one row, so that under "same distribution" the hits are
    exactly Binomial(rows, 1/2), were the pair's rows drawn independently or cut from one text. Raises ValueError for
    unequal shapes or fewer than four pairs.
    """
    a, b = np.asarray(a_NL), np.asarray(b_NL)
    if any(x.dtype.kind not in "iu" or x.min(initial=0) < 0 for x in (a, b)) or not ridge >= 0:
        raise ValueError("two_sample_test: wanted token ids, integers of at least 0, and a ridge of at least 0")
    if a.shape != b.shape or a.ndim != 2 or len(a) < 4 or not a.shape[1]:
        raise ValueError(
            f"two_sample_test: wanted two matrices of one shape (N >= 4, L), got {a.shape} and {b.shape}; "
            "cut both to the shorter"
        )
    features = _features(np.concatenate((a, b)), mask_id)
    rng = generator(seed, "mismatch/two-sample")
    train, test = np.array_split(rng.permutation(len(a)), 2)
    weights = _logistic(features[np.concatenate((train, train + len(a)))], ridge)
    from_b = rng.random(len(test)) < 0.5
    hits = int(((features[test + from_b * len(a)] @ weights > 0) == from_b).sum())
    p = float(binomtest(hits, len(test), 0.5, alternative="greater").pvalue)
    return TwoSample(hits / len(test), p, len(test), ridge)


def _features(rows_NL: Array, mask_id: int) -> csr_array:
    """One-hot symbol by position, one-hot number of visible positions, and a constant: (N, L V + L + 2), sparse."""
    rows, length = rows_NL.shape
    size = int(rows_NL.max()) + 1
    columns_NL = rows_NL + size * np.arange(length)
    visible_N1 = length * size + (rows_NL != mask_id).sum(1, keepdims=True)
    constant_N1 = np.full((rows, 1), length * size + length + 1)
    columns = np.concatenate((columns_NL, visible_N1, constant_N1), 1)
    starts = np.arange(rows + 1) * columns.shape[1]
    return csr_array((np.ones(columns.size), columns.ravel(), starts), shape=(rows, length * size + length + 2))


def _logistic(features: csr_array, ridge: float) -> Array:
    """Weights of a ridge logistic regression; the first half of the rows are zeros, the second half ones."""
    rows, width = cast(tuple[int, int], features.shape)
    sign_N = np.repeat((-1.0, 1.0), rows // 2)

    def loss(weights: Array) -> tuple[float, Array]:
        margin_N = sign_N * (features @ weights)
        slope = -features.T @ (sign_N * expit(-margin_N)) / rows
        return float(np.logaddexp(0, -margin_N).mean() + ridge / 2 * weights @ weights), slope + ridge * weights

    return minimize(loss, np.zeros(width), jac=True, method="L-BFGS-B").x

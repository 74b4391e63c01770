"""The null theory: what a learner that shares nothing between contexts still has to pay, and such learners beside it.

A table that knows C(c), was shown c exactly n(c) times and adds 1/2 to each count pays about (K(c)-1) / (2 n(c) ln 2)
bits more than p_0's own entropy. Averaged over the contexts of inference, with n(c) = n pi_train(c):

    R = 1/(2 n ln 2) * sum_c pi_infer(c) (K(c)-1) / pi_train(c)  +  a term for contexts never visited.

A model below R shares what it learns between contexts. Arrays or tensors in; costs in bits.

Shapes: C contexts, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import xlog1py
from scipy.stats import binom
from torch import Tensor

Array = np.ndarray[Any, Any]
LN2 = math.log(2)
TAIL = (40.0, 12.0)  # binomial sums reach mean +- (40 + 12 sd): by Bernstein's bound less than 1e-25 is left outside


def expected_excess(k: Any, visits: Any) -> Any:
    """(K-1) / (2 n ln 2) bits: expected KL of the table over the known support after n visits, to first order.

    Elementwise, of numbers or arrays (Krichevsky & Trofimov, 1981). It holds where every possible token was met often,
    n min p >> 1. For the uniform distribution at n = 10 K it is (K + 1)/(60 K) too large.
    """
    return (k - 1) / (2 * visits * LN2)


def worst_excess(k: Any, entropy: Any, visits: Any) -> Any:
    """Bits that the expected KL of the add-1/2 table over K tokens never exceeds, for any p_0 of that entropy (bits).

    The less of log2(2n + K) - H, as no token is held less likely than 1/(2n + K), which at n = 0 is what the table
    pays; and log2((2n + K) / (n + 1)), from E KL <= log2 sum p E[p/q] (Jensen), 1/(N + 1/2) <= 2/(N + 1) and
    E 1/(N + 1) <= 1/((n + 1) p).
    """
    return np.log2(2 * visits + k) - np.maximum(entropy, np.log2(visits + 1))


@dataclass(frozen=True)
class Cost:
    """R in bits a token: what contexts cost that training visited, and what those cost that it never did."""

    visited: float
    unseen: float

    @property
    def bits(self) -> float:
        return self.visited + self.unseen


def cost(
    infer_C: Array | Tensor, train_C: Array | Tensor, k_C: Array | Tensor, entropy_C: Array | Tensor, visits: float
) -> Cost:
    """R after `visits` draws from pi_train, scored on contexts of pi_infer. k_C: K_0. entropy_C: H(p_0(.|c)) in bits.

    A context goes unvisited with probability (1 - pi_train)^n; then its learner guesses uniformly on C(c), which costs
    log2 K - H. Else it was visited m = n pi_train / (1 - (1 - pi_train)^n) times in the mean, and costs
    `expected_excess`, or `worst_excess` where that is less (small m). No threshold on visits is needed, and where
    n pi_train is large this is the formula above. In between it is rough: up to 3.4 times the table's true cost in the
    cases tried. Where p_0 itself is at hand `Tabular.excess` is exact. Raises ValueError where pi does not sum to 1.
    """
    infer_C, train_C, k_C, entropy_C = (np.asarray(x, dtype=np.float64) for x in (infer_C, train_C, k_C, entropy_C))
    for name, pi_C in (("pi_infer", infer_C), ("pi_train", train_C)):
        if not abs(pi_C.sum() - 1) <= 1e-6 or pi_C.min() < 0:
            raise ValueError(
                f"cost: wanted {name} to be a distribution over the contexts, got a sum of {pi_C.sum():g} and a "
                f"smallest entry of {pi_C.min():g}; list every context of either and divide by the sum"
            )
    log_unseen_C = xlog1py(visits, -train_C)
    seen_C = -np.expm1(log_unseen_C)
    m_C = np.divide(visits * train_C, seen_C, out=np.ones_like(seen_C), where=seen_C > 0)
    paid_C = np.minimum(expected_excess(k_C, m_C), worst_excess(k_C, entropy_C, m_C))
    unseen_C = np.exp(log_unseen_C) * np.maximum(np.log2(k_C) - entropy_C, 0.0)
    return Cost(float((infer_C * seen_C * paid_C).sum()), float((infer_C * unseen_C).sum()))


def parameters(k_C: Array | Tensor) -> float:
    """sum_c (K(c)-1), the table's free numbers. Where pi_infer = pi_train, R = parameters / (2 n ln 2)."""
    return float((np.asarray(k_C, dtype=np.float64) - 1).sum())


@dataclass(frozen=True)
class Tabular:
    """A learner that shares nothing: counts in each context, plus `add` for every token it holds possible.

    possible_CV: bool. The exact support makes the learner that the null theory is about; all True makes one that has
    to find out what is possible, and pays about (V-1) / (2 n ln 2) whatever K is.
    """

    possible_CV: Array
    add: float = 0.5

    def fit(self, counts_CV: Array | Tensor) -> Tensor:
        """log p_theta(v|c) in nats, float64 (C, V), after these counts. Raises ValueError for impossible tokens."""
        counts = np.asarray(counts_CV, dtype=np.float64)
        self._require_possible("counts", counts)
        held_CV = np.where(self.possible_CV, counts + self.add, 0.0)
        return torch.from_numpy(held_CV / held_CV.sum(-1, keepdims=True)).log()

    def excess(self, p_CV: Array | Tensor, visits: int, train_C: Array | Tensor | float = 1.0) -> Array:
        """Expected KL(p_0 || table) in bits, (C,), exact, over tables fitted to `visits` draws.

        Each draw falls into context c with probability train_C; 1 means that c itself is visited so often. KL needs
        only the distributions of single counts, all binomial:
        E KL = sum_v p [ln p - E ln(N_v + a)] + E ln(N + a A), with
        N_v ~ Binomial(n, pi p), N ~ Binomial(n, pi) and A tokens held possible. Never-visited contexts are included.
        """
        p = np.asarray(p_CV, dtype=np.float64)
        self._require_possible("p", p)
        train_C1 = np.broadcast_to(np.asarray(train_C, dtype=np.float64), p.shape[:-1])[..., None]
        log_count_CV = _mean_log(visits, np.where(p > 0, train_C1 * p, 0.0), self.add)
        sizes_C1 = np.broadcast_to(self.add * self.possible_CV.sum(-1, keepdims=True), train_C1.shape)
        log_total_C1 = _mean_log(visits, train_C1, sizes_C1)
        return np.where(p > 0, p * (np.log(np.where(p > 0, p, 1.0)) - log_count_CV + log_total_C1), 0.0).sum(-1) / LN2

    def _require_possible(self, what: str, values_CV: Array) -> None:
        wrong = np.argwhere((values_CV > 0) & ~self.possible_CV).tolist()
        if wrong:
            raise ValueError(
                f"Tabular: {what} has token {wrong[0][-1]} in context {wrong[0][:-1]}, which this table holds "
                "impossible; wanted possible_CV to hold the support, e.g. Posterior.support_BLV"
            )


def _mean_log(visits: int, rate: Array, add: Array | float) -> Array:
    """E ln(N + add), elementwise, N ~ Binomial(visits, rate)."""
    pairs, where = np.unique(np.stack(np.broadcast_arrays(rate, add), -1).reshape(-1, 2), axis=0, return_inverse=True)
    means = []
    for q, a in pairs:
        reach = TAIL[0] + TAIL[1] * math.sqrt(visits * q * (1 - q))
        counts = np.arange(max(0, math.floor(visits * q - reach)), min(visits, math.ceil(visits * q + reach)) + 1)
        means.append(binom.pmf(counts, visits, q) @ np.log(counts + a))
    return np.array(means)[where].reshape(np.shape(rate))


@dataclass(frozen=True)
class Unseen:
    """Good-Turing estimate of the mass of what a sample has not shown.

    standard_error: of the estimate minus the true mass. upper: bound that holds with probability 1 - delta.
    """

    mass: float
    standard_error: float
    upper: float
    delta: float


def good_turing_unseen(counts: Array | Tensor, delta: float = 0.05) -> Unseen:
    """Unseen mass from the visit counts of the contexts that were seen: the share of singletons (Good, 1953).

    Its mean is the expected unseen mass after n - 1 draws. Standard error: sqrt(N1 (1 - N1/n) + 2 N2) / n (Esty,
    1983); 0 says only that there was neither a singleton nor a pair. Upper bound: mass + (1 + sqrt 2) sqrt(ln(2/delta)
    / n), free of assumptions as in McAllester & Schapire (2000), with the sharper tail exp(-n e^2) of McAllester &
    Ortiz (2003) for the mass and McDiarmid's for the estimate, which one draw moves by at most 2/n.
    Raises ValueError for an empty sample.
    """
    counts = np.asarray(counts)
    n = float(counts.sum())
    if n < 1:
        raise ValueError("good_turing_unseen: wanted the visit counts of at least one draw, got none")
    singles, pairs = int((counts == 1).sum()), int((counts == 2).sum())
    error = math.sqrt(singles * (1 - singles / n) + 2 * pairs) / n
    upper = min(1.0, singles / n + (1 + math.sqrt(2)) * math.sqrt(math.log(2 / delta) / n))
    return Unseen(singles / n, error, upper, delta)

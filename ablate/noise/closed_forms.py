"""How often a block is left without a masked token, and what else follows from the rate distribution: closed forms.

B tokens of a block are masked independently at rate u, so none is with probability (1 - u)^B. The mean over u is a
special function for every named schedule. Where there is no closed form, `expectation` integrates. What a block's
*guard* adds is in the functions that take one. `ablate.analysis.noise_checks` compares all of it with Monte Carlo.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, singledispatch

import numpy as np
import torch
from scipy.optimize import root_scalar
from scipy.special import beta, betaln, exp1, gammaln, hyp2f1, xlogy
from torch import Tensor

from ablate.noise.masking import WEIGHTS, masked_probability
from ablate.noise.options import Guard
from ablate.noise.schedules import (
    AtomClip,
    Cap,
    Cos,
    Cos2,
    Geometric,
    Interval,
    Linear,
    LogLinear,
    Noise,
    NoiseSchedule,
    Power,
    Sin,
)

NODES, PANELS = 24, 60  # Gauss-Legendre nodes on each of (2^-k-1, 2^-k]: rates near 0 are where large blocks look


def no_signal_probability(schedule: Noise, block_size: int, forced: bool = False) -> float:
    """P(no token of a block is masked), before forcing; 0 with it. Stable to blocks of 4096.

    Raises ValueError for a block below 1, and for a clipped path that has no closed form (use `expectation`).
    """
    if block_size < 1:
        raise ValueError(f"no_signal_probability: block_size: wanted at least 1, got {block_size}")
    return 0.0 if forced else float(_empty(schedule, block_size))


@singledispatch
def _empty(noise: Noise, size: int) -> float:
    raise ValueError(
        f"no_signal_probability: no closed form for {noise}; wanted a schedule by name, try "
        "expectation(schedule, lambda u, _: (1 - u) ** block_size)"
    )


@_empty.register
def _(noise: Linear, size: int) -> float:
    return 1 / (size + 1)


@_empty.register
def _(noise: Power, size: int) -> float:
    return math.exp(betaln(1 / noise.p, size + 1)) / noise.p


@_empty.register
def _(noise: Cos, size: int) -> float:
    return beta((size + 1) / 2, 0.5) / math.pi  # G((B+1)/2) / (sqrt(pi) G(B/2+1))


@_empty.register
def _(noise: Sin, size: int) -> float:
    return 2 / (math.pi * (size + 0.5)) * hyp2f1(0.5, 1, size + 1.5, -1)


@_empty.register
def _(noise: Cos2, size: int) -> float:
    return beta(size + 0.5, 0.5) / math.pi  # C(2B, B) / 4^B


@_empty.register
def _(noise: LogLinear, size: int) -> float:
    return (1 - noise.eps ** (size + 1)) / ((size + 1) * (1 - noise.eps))


@_empty.register
def _(noise: Geometric, size: int) -> float:
    return (exp1(size * noise.s0) - exp1(size * noise.s1)) / math.log(noise.s1 / noise.s0)


@_empty.register
def _(noise: Interval, size: int) -> float:
    least, most = 1 - noise.b, 1 - noise.a
    return (most ** (size + 1) - least ** (size + 1)) / ((size + 1) * (noise.b - noise.a))


@_empty.register
def _(noise: Cap, size: int) -> float:
    return _some(noise.u_max, size + 1) / ((size + 1) * noise.u_max)


@_empty.register
def _(noise: AtomClip, size: int) -> float:
    if noise.of != Linear():
        return _empty.dispatch(Noise)(noise, size)
    atom = 1 / noise.size
    return (1 - atom) ** size * (atom + (1 - atom) / (size + 1))


def _some(rate: float, count: int) -> float:
    """1 - (1 - u)^n without cancellation."""
    return 1.0 if rate == 1 else -math.expm1(count * math.log1p(-rate))


def ramp_no_signal_probability(u_start: float, u_end: float, block_size: int) -> float:
    """Of a cap that rises linearly from u_start to u_end, averaged over the ramp:
    sum_{k=1}^{B+1} [(1-u0)^k - (1-u1)^k] / k / ((B+1)(u1-u0)). Raises ValueError unless 0 <= u_start < u_end <= 1."""
    if not 0 <= u_start < u_end <= 1:
        raise ValueError(f"ramp_no_signal_probability: wanted 0 <= u_start < u_end <= 1, got {u_start}..{u_end}")
    k = np.arange(1, block_size + 2)
    return float((((1 - u_start) ** k - (1 - u_end) ** k) / k).sum() / ((block_size + 1) * (u_end - u_start)))


def expectation(noise: Noise, of: Callable[[Tensor, Tensor], Tensor]) -> float:
    """E of(rate, slope) over the rate distribution, by Gauss-Legendre quadrature of the level t.

    It reads rates from `mask_rate` itself. The caller sees to it that the mean exists.
    """
    t, weight = _nodes(_kink(noise))
    return float((of(noise.mask_rate(t), noise.slope(t)) * weight).sum())


def _kink(noise: Noise) -> float:
    """The level at which an atom ends, where there is one; the quadrature's panels meet there."""
    if not isinstance(noise, AtomClip) or noise.size == 1:
        return 1.0

    def above(t: float) -> float:
        return float(noise.of.mask_rate(torch.tensor(t, dtype=torch.float64))) - 1 / noise.size

    return root_scalar(above, bracket=(1e-12, 1.0), xtol=1e-15).root if above(1e-12) < 0 < above(1.0) else 1.0


@lru_cache(maxsize=256)
def _nodes(kink: float) -> tuple[Tensor, Tensor]:
    edges = np.unique([0.0, kink, *(2.0**-k for k in range(PANELS))])
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    half = np.diff(edges)[:, None] / 2
    t = edges[:-1, None] + half * (nodes + 1)
    return torch.from_numpy(t.ravel()), torch.from_numpy((half * weights).ravel())


def expected_masked_tokens(schedule: Noise, block_size: int, guard: Guard = Guard.none) -> float:
    """Of a block: B E[q], q the probability that a token is masked, guard included."""
    count = torch.tensor(float(block_size))
    return block_size * expectation(schedule, lambda u, _: masked_probability(u, count, guard))


def mean_token_weight(schedule: Noise, block_size: int, guard: Guard = Guard.none, weight: str = "1/t") -> float:
    """What a token counts in the mean; 1 where the loss is unbiased. inf where a guard keeps masking at rates near 0
    whose weight 1/u it does not know of.

    block_size: tokens of the block that can be masked. Block 0 has one fewer than the size at which it is clipped.
    """
    if _heavy(schedule, guard, weight) and guard is not Guard.none:
        return math.inf
    count = torch.tensor(float(block_size), dtype=torch.float64)

    def mean(rate: Tensor, slope: Tensor) -> Tensor:
        q, some = masked_probability(rate, count, guard), masked_probability(rate, count, Guard.resample)
        surely = torch.ones_like(rate) if guard is not Guard.none else rate / some
        return WEIGHTS[weight](slope, rate, q, torch.ones_like(rate), surely)[1]

    return expectation(schedule, mean)


def loss_variance(schedule: Noise, block_size: int, guard: Guard = Guard.none, weight: str = "1/t") -> float:
    """Variance of a block's loss, sum(weight) / B, where each token's cross-entropy is 1: noise of rate and mask.

    inf where 1/u is too heavy a tail. (Mask sampling by count has none: its loss is 1.) Raises KeyError for 1/realised,
    whose loss is 1 or 0: its variance is p (1 - p), p that of `no_signal_probability`.
    """
    if _heavy(schedule, guard, weight):
        return math.inf
    count = torch.tensor(float(block_size), dtype=torch.float64)
    rules = {
        "1/t": lambda slope, u, q: slope / u,
        "1/q": lambda slope, u, q: slope / q,
        "1": lambda slope, u, q: torch.ones_like(u),
    }
    rule = rules[weight]

    def square(u: Tensor, slope: Tensor) -> Tensor:
        number = count * u * (1 - u) + (count * u) ** 2
        if guard is Guard.force:
            number = number + (1 - u) ** count
        if guard is Guard.resample:
            number = number * masked_probability(u, count, guard) / u
        return rule(slope, u, masked_probability(u, count, guard)) ** 2 * number / count**2

    return expectation(schedule, square) - mean_token_weight(schedule, block_size, guard, weight) ** 2


def _heavy(noise: Noise, guard: Guard, weight: str) -> bool:
    """Whether the weight 1/u has no second moment (and no first, with a guard that still masks at rates near 0).

    At t near 0 let u ~ t^p. Without a guard E[w^2 N^2] ~ int slope^2 / u dt, finite for paths of p > 1 and rates that
    stay above 0; with one int slope^2 / u^2 dt, finite for the latter alone.
    """
    if not (weight == "1/t" or (weight == "1/q" and guard is Guard.none)):
        return False
    order = _order(noise)
    return order > 0 and (guard is not Guard.none or order <= 1 or not isinstance(noise, NoiseSchedule))


def _order(noise: Noise) -> float:
    """p of u ~ t^p at t near 0, 0 for rates that stay above 0."""
    t = torch.tensor([1e-9, 1e-12], dtype=torch.float64)
    one, other = noise.mask_rate(t).tolist()
    return round(math.log(one / other) / math.log(1e3), 3)


def weight_tail(x: float, block_size: int) -> float:
    """P(1/t > x and a token is masked) under the linear schedule, about B / (2 x^2) for large x: a variance that
    diverges with the logarithm. Raises ValueError for x below 1."""
    if x < 1:
        raise ValueError(f"weight_tail: wanted a weight x of at least 1, got {x}")
    return 1 / x - _some(1 / x, block_size + 1) / (block_size + 1)


def clean_context_share(schedule: Noise, parents: int, weighted: bool = True) -> float:
    """Share of a masked token's loss (or, unweighted, of its occurrences) in which all its parents in the block are
    visible: E[w u (1-u)^r] / E[w u]. Linear: 1/(r+1), or 2/((r+1)(r+2)) unweighted; clipping lowers it, capping
    raises it."""

    def mass(u: Tensor, slope: Tensor) -> Tensor:
        return slope if weighted else u

    both = expectation(schedule, lambda u, slope: mass(u, slope) * (1 - u) ** parents)
    return both / expectation(schedule, mass)


def pattern_entropy_bits(masked: Sequence[float] | np.ndarray) -> float:
    """Entropy of a block's mask pattern, given P(N = 0..B masked tokens), which ones being uniform."""
    masked_N = np.asarray(masked, dtype=np.float64)
    size, n = len(masked_N) - 1, np.arange(len(masked_N))
    log_patterns_N = gammaln(size + 1) - gammaln(n + 1) - gammaln(size - n + 1)
    return float((masked_N * log_patterns_N - xlogy(masked_N, masked_N)).sum()) / math.log(2)


def mask_pattern_entropy(schedule: Noise, block_size: int) -> float:
    """Bits of which tokens of a block are masked, before any guard."""

    def masked(n: int) -> float:
        ways = math.exp(gammaln(block_size + 1) - gammaln(n + 1) - gammaln(block_size - n + 1))
        return expectation(schedule, lambda u, _: ways * u**n * (1 - u) ** (block_size - n))

    return pattern_entropy_bits([masked(n) for n in range(block_size + 1)])

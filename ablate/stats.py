"""Statistics of a study: the seed is the unit, arms are paired by it, and what n seeds can show is known beforehand.

A difference is one arm's value less another's on the same seed, in the units of what was measured.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import optimize, stats

ALPHA = 0.05
SIMULATED = 10  # seeds up to which the power of sign flips is drawn, by DRAWS simulated studies
DRAWS = 4000
EXACT = 16  # seeds up to which all 2^n patterns of signs are gone through; beyond, as many as of 16 are drawn


class Direction(StrEnum):
    """What a prediction says of the mean difference."""

    higher = "higher"
    lower = "lower"  # type: ignore[assignment]  # hides str.lower, which no direction needs
    equal = "equal"


class Verdict(StrEnum):
    """What the differences say of a prediction."""

    supported = "supported"
    refuted = "refuted"
    undecided = "undecided"


@dataclass(frozen=True)
class Interval:
    """A mean difference and the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p of a mean difference of 0: the share of sign patterns whose mean is as far from 0 (Fisher, 1935).

    Exact up to `EXACT` seeds. ValueError for no seed or a value that is not finite.
    """
    values = _finite(differences, 1)
    if len(values) == 1 or not values.any():
        return 1.0  # SciPy has no pattern to tell from another
    return float(
        stats.permutation_test(
            (values,),
            np.mean,
            permutation_type="samples",
            n_resamples=2**EXACT,
            rng=np.random.default_rng(0),
        ).pvalue
    )


def least_p(n: int) -> float:
    """Smallest two-sided p that exact sign flips of n seeds can give: .125 of 4, .0625 of 5, .0078 of 8."""
    if n < 1:
        raise ValueError(f"least_p: wanted at least one seed, got {n}; try n=8")
    return 2.0 ** (1 - n)


def primaries(n: int, alpha: float = ALPHA) -> int:
    """Predictions that n seeds can support together: Holm's first step needs p <= alpha / family."""
    return math.floor(alpha / least_p(n))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of a family: step-down, valid under any dependence (Holm, 1979)."""
    from statsmodels.stats.multitest import multipletests

    return np.asarray(multipletests(p_values, method="holm")[1]).tolist() if len(p_values) else []


def equivalence(differences: Sequence[float], margin: float) -> float:
    """p of a mean difference of `margin` or more, either way: two one-sided t-tests (Schuirmann, 1987).

    ValueError for fewer than two seeds, a value that is not finite, or a margin that is not positive.
    """
    from statsmodels.stats.weightstats import DescrStatsW

    values = _finite(differences, 2)
    if not 0 < margin < math.inf:
        raise ValueError(f"margin: wanted the smallest difference that matters, above 0, got {margin}")
    if np.ptp(values) == 0:
        return float(abs(values[0]) >= margin)  # no spread: the mean is known
    return float(DescrStatsW(values).ttost_mean(-margin, margin)[0])


@functools.cache
def detectable(n: int, power: float = 0.8, alpha: float = ALPHA) -> float:
    """Smallest mean difference that sign flips of n seeds find with this power, in standard deviations of the
    differences.

    Of normal differences: up to `SIMULATED` seeds by Monte Carlo through the test itself, beyond by the noncentral t
    distribution, from which sign flips then hardly differ. Where `least_p(n)` exceeds alpha nothing is found: inf.
    ValueError for no seed, or for shares outside (0, 1) or a power of alpha or less.
    """
    if not 0 < alpha < power < 1:
        raise ValueError(f"detectable: wanted 0 < alpha < power < 1, got alpha={alpha}, power={power}")
    if least_p(n) > alpha:
        return math.inf
    if n > SIMULATED:
        from statsmodels.stats.power import TTestPower

        return float(np.squeeze(TTestPower().solve_power(nobs=n, alpha=alpha, power=power)))
    noise = np.random.default_rng(n).normal(size=(DRAWS, n))
    signs = np.array(list(itertools.product((1, -1), repeat=n)))

    def missing(effect: float) -> float:
        sums = (noise + effect) @ signs.T  # the first pattern flips none
        as_far = np.abs(sums) >= np.abs(sums[:, :1]) - 1e-9
        return power - float((as_far.mean(1) <= alpha + 1e-12).mean())

    return optimize.root_scalar(missing, bracket=(0.0, 100.0), method="bisect", xtol=1e-3).root


def resampled(differences: Sequence[Sequence[float]], draws: int, seed: int = 0) -> np.ndarray:
    """Means of `draws` paired bootstrap samples: seeds first, then each one's questions (Davison and Hinkley, 1997).

    differences: of each seed, one value a question. Returns (draws,). ValueError for fewer than two seeds, a seed
    without questions, or a value that is not finite.
    """
    values = [_finite(questions, 1) for questions in differences]
    if len(values) < 2:
        raise ValueError(f"bootstrap: wanted two seeds or more, since the seed is the unit, got {len(values)}")
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(values), size=(draws, len(values)))
    means = np.empty(chosen.shape)
    for index, questions in enumerate(values):
        slots = chosen == index  # a seed that comes twice has its questions drawn twice
        picked = rng.integers(len(questions), size=(int(slots.sum()), len(questions)))
        means[slots] = questions[picked].mean(axis=1)
    return means.mean(axis=1)


def bootstrap(differences: Sequence[Sequence[float]], confidence: float = 0.95, draws: int = 10_000) -> Interval:
    """Percentile interval of the mean over seeds of their mean difference, by `resampled`."""
    means = resampled(differences, draws)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    centre = np.mean([np.mean(questions) for questions in differences])
    return Interval(float(centre), float(low), float(high))


def arrivals(steps: Sequence[float], reached: Sequence[bool]) -> stats.CensoredData:
    """Steps at which runs reached a threshold; of a run that did not, the last step at which it was asked.

    ValueError for no run, or unequal lengths.
    """
    at, there = _finite(steps, 1), np.asarray(reached, dtype=bool)
    if at.shape != there.shape:
        raise ValueError(f"arrivals: wanted as many flags as steps, got {there.size} flags and {at.size} steps")
    return stats.CensoredData(uncensored=at[there], right=at[~there])


def log_rank(one: stats.CensoredData, other: stats.CensoredData) -> float:
    """Two-sided p that two arms arrive at the same rate (Mantel, 1966). Unpaired; 1 where no run arrived."""
    if all(arm.num_censored() == len(arm) for arm in (one, other)):
        return 1.0
    p = float(stats.logrank(one, other).pvalue)
    return 1.0 if math.isnan(p) else p  # all arrived at one step: nothing to tell apart


def judge(differences: Sequence[float], direction: Direction, threshold: float, p: float) -> Verdict:
    """Verdict on a prediction, at level ALPHA.

    threshold: smallest difference that the prediction means, in the units of the differences. p: of `sign_flip`,
    adjusted by Holm for the family. A difference shown to be smaller than the threshold refutes one that was predicted,
    whatever its sign, and supports `equal`. ValueError as `equivalence`.
    """
    direction = Direction(direction)
    negligible = equivalence(differences, threshold) <= ALPHA
    if direction is Direction.equal:
        different = Verdict.refuted if p <= ALPHA else Verdict.undecided
        return Verdict.supported if negligible else different
    if negligible:
        return Verdict.refuted
    if p > ALPHA:
        return Verdict.undecided
    rose = float(np.mean(differences)) > 0
    return Verdict.supported if rose == (direction is Direction.higher) else Verdict.refuted


def _finite(values: Sequence[float], least: int) -> np.ndarray:
    """Values as (n,) float64. ValueError for fewer than `least`, or for one that is not finite: a run that failed has
    no value, and is not to be counted as one."""
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or len(array) < least or not np.isfinite(array).all():
        raise ValueError(f"values: wanted {least} or more finite numbers, one a seed, got {array.tolist()}; "
                         "leave out the seeds that have none")  # fmt: skip
    return array

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
    """Interval of the mean over seeds of their mean difference, by `resampled`.

    Percentiles of the draws, spread about the mean by sqrt(n / (n - 1)) and by the ratio of t's quantile to the
    normal's: without it so few seeds cover too little (Hesterberg, 2015).
    """
    n, tail = len(differences), (1 + confidence) / 2
    centre = float(np.mean([np.mean(questions) for questions in differences])) if n else math.nan
    spread = resampled(differences, draws) - centre
    wider = math.sqrt(n / (n - 1)) * float(stats.t.ppf(tail, n - 1) / stats.norm.ppf(tail))
    low, high = centre + wider * np.quantile(spread, [1 - tail, tail])
    return Interval(centre, float(low), float(high))


def log_rank_scores(steps: Sequence[float], reached: Sequence[bool]) -> np.ndarray:
    """Of every run: 1 if it arrived, less the hazard that it has lived through, estimated from all of them (Nelson,
    1969; Aalen, 1978). Summed over an arm these are the log-rank statistic, arrivals observed less expected (Mantel,
    1966); early arrivals have the highest ones. Sign flips of their differences within pairs make it a paired test.

    steps: at which a run arrived, or was last asked. ValueError for no run, or unequal lengths.
    """
    at, there = _finite(steps, 1), np.asarray(reached, dtype=bool)
    if at.shape != there.shape:
        raise ValueError(f"log_rank_scores: wanted as many flags as steps, got {there.size} and {at.size}")
    times = np.unique(at)
    arrived = np.array([there[at == time].sum() for time in times])
    still_there = np.array([(at >= time).sum() for time in times])
    hazard = np.cumsum(arrived / still_there)
    return there - hazard[np.searchsorted(times, at)]


def judge(direction: Direction, rose: bool, different: float, negligible: float, level: float = ALPHA) -> Verdict:
    """Verdict on a prediction. rose: whether the mean difference is above 0.

    different, negligible: p-values of `sign_flip` and of `equivalence` within the smallest difference that would
    matter, of which the one that would support the prediction is adjusted for its family. level: for the other one,
    which can but refute it. A difference shown to be negligible refutes one that was predicted, whatever its sign, and
    supports `equal`.
    """
    direction = Direction(direction)
    if direction is Direction.equal:
        refuted = Verdict.refuted if different <= level else Verdict.undecided
        return Verdict.supported if negligible <= ALPHA else refuted
    if negligible <= level:
        return Verdict.refuted
    if different > ALPHA:
        return Verdict.undecided
    return Verdict.supported if rose == (direction is Direction.higher) else Verdict.refuted


def _finite(values: Sequence[float], least: int) -> np.ndarray:
    """Values as (n,) float64. ValueError for fewer than `least`, or for one that is not finite: a run that failed has
    no value, and is not to be counted as one."""
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or len(array) < least or not np.isfinite(array).all():
        raise ValueError(
            f"values: wanted {least} or more finite numbers, one a seed, got {array.tolist()}; "
            "leave out the seeds that have none"
        )
    return array

"""Rank correlation over worlds of several families: ranks are taken within a family, so that what tells families apart
is no evidence. Pooled ranks of unrelated numbers correlate where families differ in level.

Shapes: W worlds, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ablate.core.rng import generator

Array = np.ndarray[Any, Any]
LEAST = 3  # worlds of a family that count: of two, ranks say a sign alone
Statistic = Callable[..., float]


def centred_ranks(values_W: Sequence[float] | Array, family_W: Sequence[str] | Array) -> Array:
    """Ranks within each family, shared by ties, less their mean, over the family's size: (W,) in (-1/2, 1/2).

    Raises ValueError for a family of fewer than 3 worlds and for values that are not finite.
    """
    values, families = np.asarray(values_W, dtype=np.float64), np.asarray(family_W)
    if not np.isfinite(values).all():
        raise ValueError("family_ranks: wanted finite values, one a world; leave out the worlds that have none")
    ranks = np.empty(len(values))
    for family in np.unique(families):
        at = families == family
        if at.sum() < LEAST:
            raise ValueError(f"family_ranks: wanted {LEAST} worlds or more of {family}, got {at.sum()}; leave it out")
        ranks[at] = (rankdata(values[at]) - (at.sum() + 1) / 2) / at.sum()
    return ranks


def correlation(family_W: Sequence[str] | Array, x_W: Array, y_W: Array) -> float:
    """Spearman's within families: Pearson's of centred ranks; 0 where one of them does not vary."""
    return _cosine(centred_ranks(x_W, family_W), centred_ranks(y_W, family_W))


def partial_correlation(family_W: Sequence[str] | Array, x_W: Array, y_W: Array, given_W: Array) -> float:
    """The same of what a linear fit on the centred ranks of `given` leaves of both."""
    x, y, z = (centred_ranks(values, family_W) for values in (x_W, y_W, given_W))
    return _cosine(_residual(x, z), _residual(y, z))


def _cosine(x: Array, y: Array) -> float:
    size = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / size if size > 1e-12 else 0.0


def _residual(x: Array, z: Array) -> Array:
    return x - z * (float(x @ z) / float(z @ z)) if float(z @ z) > 0 else x


@dataclass(frozen=True)
class Estimate:
    """A statistic, the ends of its 95 % interval by bootstrap within families, and its two-sided p by shuffles of the
    first variable within families."""

    value: float
    low: float
    high: float
    p: float


def estimate(
    statistic: Statistic, family_W: Sequence[str] | Array, *columns: Array, draws: int = 2000, seed: int = 0
) -> Estimate:
    """A statistic of columns of worlds, with what chance alone gives. Worlds are drawn anew within each family."""
    families, data = np.asarray(family_W), [np.asarray(column, dtype=np.float64) for column in columns]
    value = statistic(families, *data)
    rng = generator(seed, "family ranks")
    drawn, null = [], []
    for _ in range(draws):
        picks = _within(families, lambda at: rng.choice(at, len(at)))
        drawn.append(statistic(families, *(column[picks] for column in data)))
        mixed = _within(families, rng.permutation)
        null.append(abs(statistic(families, data[0][mixed], *data[1:])))
    low, high = np.quantile(drawn, [0.025, 0.975])
    as_far = sum(other >= abs(value) - 1e-12 for other in null)
    return Estimate(value, float(low), float(high), (1 + as_far) / (1 + draws))


def _within(families: Array, pick: Callable[[Array], Array]) -> Array:
    """Indices of worlds, in each family's places others of the same family."""
    picks = np.empty(len(families), dtype=np.int64)
    for family in np.unique(families):
        at = np.flatnonzero(families == family)
        picks[at] = pick(at)
    return picks


def shuffled_errors(
    statistic: Statistic, family_W: Sequence[str] | Array, *columns: Array, studies: int, draws: int, seed: int = 0
) -> int:
    """In how many of so many studies with a shuffled first variable the p of `estimate` is .05 or less."""
    families, rng = np.asarray(family_W), generator(seed, "shuffled studies")
    errors = 0
    for study in range(studies):
        mixed = np.asarray(columns[0])[_within(families, rng.permutation)]
        errors += estimate(statistic, families, mixed, *columns[1:], draws=draws, seed=study + 1).p <= 0.05
    return errors


def ceiling(family_W: Sequence[str] | Array, values_WS: Array) -> float:
    """The correlation that a perfect predictor of the true values would have with a mean over these seeds: the root of
    their reliability, by Spearman and Brown from the mean correlation of two seeds. 0 where seeds do not agree."""
    seeds = np.asarray(values_WS).T
    if len(seeds) < 2:
        raise ValueError(f"ceiling: wanted two seeds or more, got {len(seeds)}")
    pairs = [correlation(family_W, seeds[i], seeds[j]) for i in range(len(seeds)) for j in range(i)]
    one = max(float(np.mean(pairs)), 0.0)
    return math.sqrt(len(seeds) * one / (1 + (len(seeds) - 1) * one))


def left_out(family_W: Sequence[str] | Array, x_W: Array, y_W: Array) -> dict[str, float]:
    """Of every family the share of the variance of its y, less its mean, that a line through the other families
    explains: its slope is theirs, of values less their family's mean. Below 0: worse than the family's own mean; nan
    where y does not vary."""
    families, x, y = np.asarray(family_W), np.array(x_W, dtype=np.float64), np.array(y_W, dtype=np.float64)
    for family in np.unique(families):
        at = families == family
        x[at], y[at] = x[at] - x[at].mean(), y[at] - y[at].mean()
    found = {}
    for family in np.unique(families):
        at = families == family
        spread, total = float(x[~at] @ x[~at]), float((y[at] ** 2).sum())
        slope = float(x[~at] @ y[~at]) / spread if spread else 0.0
        found[str(family)] = 1 - float(((y[at] - slope * x[at]) ** 2).sum()) / total if total else math.nan
    return found

"""Spikes of a series, such as gradient norms by step: how far and how often it leaves its usual size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEAST = 20  # values: fewer say nothing about a 99th percentile
TAIL = 0.05  # share of values that the tail index is read from


@dataclass(frozen=True)
class Spikes:
    """median: in the units of the series. ratio: 99th percentile over median. count: values above median + 6 MAD (the
    median absolute deviation as it is, not scaled to a normal distribution's). tail_index: a of P(X > x) ~ x^-a; below
    2 the variance is infinite."""

    median: float
    ratio: float
    count: int
    tail_index: float


def spike_statistics(values: Sequence[float] | np.ndarray[Any, Any]) -> Spikes:
    """Spikes of a positive series. Raises ValueError for fewer than 20 values, or values that are not above 0."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or len(sample) < LEAST:
        raise ValueError(f"spike_statistics: wanted a series of at least {LEAST} values, got shape {sample.shape}")
    if not (np.isfinite(sample).all() and sample.min() > 0):
        raise ValueError(f"spike_statistics: wanted finite values above 0, got one of {sample.min():g}")
    median = float(np.median(sample))
    deviation = float(np.median(np.abs(sample - median)))
    ratio = float(np.quantile(sample, 0.99)) / median
    return Spikes(median, ratio, int((sample > median + 6 * deviation).sum()), tail_index(sample))


def tail_index(values: np.ndarray[Any, Any]) -> float:
    """Hill's estimate (Hill, 1975) from the largest 5 % of positive values, with the next one as threshold."""
    ordered = np.sort(values)[::-1]
    count = max(1, math.ceil(TAIL * len(ordered)))
    excess = float(np.log(ordered[:count] / ordered[count]).sum())
    return count / excess if excess else math.inf

"""How often problems are solved: pass@k without bias, and its interval over problems."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ablate.core.rng import generator

DRAWS = 10_000
CONFIDENCE = 0.95


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Estimate of the probability that one of k samples of a problem passes, from more of them (Chen et al., 2021,
    eq. 1). Raises ValueError for k beyond the number of samples."""
    if not 1 <= k <= samples or not 0 <= passed <= samples:
        raise ValueError(f"pass@{k}: wanted k in 1..{samples}, the samples of a problem, {passed} of them passed")
    return 1 - math.comb(samples - passed, k) / math.comb(samples, k)


def interval(values: Sequence[float], seed: int, index: int) -> tuple[float, float]:
    """Ends of the 95 % interval of the mean over problems: percentiles of bootstrap means, addressed by (seed, index).
    nan of a single problem. Where all problems agree, both ends are their value: it says nothing of other problems."""
    if len(values) < 2:
        return math.nan, math.nan
    given = np.asarray(values, dtype=np.float64)
    chosen = generator(seed, "code_tasks/bootstrap", index).integers(len(given), size=(DRAWS, len(given)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(given[chosen].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)

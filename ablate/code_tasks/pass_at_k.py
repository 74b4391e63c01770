"""How often problems are solved: pass@k without bias."""

from __future__ import annotations

import math


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Estimate of the probability that one of k samples of a problem passes, from more of them (Chen et al., 2021,
    eq. 1). Raises ValueError for k beyond the number of samples."""
    if not 1 <= k <= samples or not 0 <= passed <= samples:
        raise ValueError(f"pass@{k}: wanted k in 1..{samples}, the samples of a problem, {passed} of them passed")
    return 1 - math.comb(samples - passed, k) / math.comb(samples, k)

"""What a stream of contexts comes to, chunk by chunk, in bounded memory: calibration, means and quantiles.

Shapes: B contexts (any leading axes), V vocabulary, S bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ablate.evaluation.metrics import checked_pair

LOG_ODDS = tuple(1 / (1 + 2.0**k) for k in range(16, -17, -1))  # one bit of log-odds a bin
OCTAVES = 40  # magnitudes are told apart from 2^-40 to 2^40


@dataclass
class Calibration:
    """Reliability of p_theta against the oracle's own probabilities (not against drawn tokens), token by token.

    edges: bounds of the predicted probability, rising; bin s holds edges[s-1] <= p_theta < edges[s].
    """

    edges: tuple[float, ...] = LOG_ODDS
    contexts: float = field(default=0.0, init=False)
    sums_3S: np.ndarray = field(init=False)  # by bin: weight of tokens, of predicted, of predicted minus oracle's

    def __post_init__(self) -> None:
        self.sums_3S = np.zeros((3, len(self.edges) + 1))

    def update(self, p_BV: Tensor, logp_BV: Tensor, weight_B: Tensor | None = None) -> None:
        """Adds a chunk of contexts."""
        p_BV, logp_BV = checked_pair("Calibration.update", p_BV, logp_BV)
        weight_B = torch.ones(p_BV.shape[:-1]) if weight_B is None else weight_B
        predicted_BV = logp_BV.exp()
        # p (exp(log p_theta - log p) - 1), so that a perfect model's gap is 0 and not a rounding error
        gap_BV = torch.where(p_BV > 0, p_BV * torch.expm1(logp_BV - p_BV.log()), predicted_BV)
        bins = torch.bucketize(predicted_BV, torch.tensor(self.edges, dtype=torch.float64), right=True).numpy().ravel()
        w_BV = weight_B.double()[..., None].expand_as(p_BV)
        for row, values_BV in enumerate((w_BV, w_BV * predicted_BV, w_BV * gap_BV)):
            self.sums_3S[row] += np.bincount(bins, values_BV.numpy().ravel(), self.sums_3S.shape[1])
        self.contexts += float(weight_B.sum())

    @property
    def error(self) -> float:
        """Soft calibration error: half the sum over bins of |predicted - oracle's mass|, per context. In 0..1,
        at most the mean total variation distance, and 0 for a perfect model. Raises ValueError if nothing was added."""
        if not self.contexts:
            raise ValueError("Calibration: nothing was added, so there is no error; leave the row out")
        return float(np.abs(self.sums_3S[2]).sum()) / (2 * self.contexts)

    def table(self) -> list[dict[str, float]]:
        """A row a bin that holds anything: its bounds, weight of tokens, mean predicted and mean oracle probability."""
        bounds = (0.0, *self.edges, math.inf)
        return [
            {"low": bounds[s], "high": bounds[s + 1], "tokens": n, "predicted": q / n, "oracle": (q - gap) / n}
            for s, (n, q, gap) in enumerate(self.sums_3S.T.tolist())
            if n > 0
        ]


@dataclass
class Summary:
    """Weighted mean, exact up to rounding, and quantiles of a stream of numbers, signed or infinite.

    Quantiles come from logarithmic bins, `resolution` to a doubling: a quantile is its bin's mean, so it is off by a
    factor of at most 2^(1/resolution), and exact for whole numbers up to `resolution`.
    """

    resolution: int = 64
    count: int = field(default=0, init=False)
    bins: dict[int, tuple[float, float]] = field(default_factory=dict, init=False)  # weight, weighted sum

    def update(self, values_B: Tensor | np.ndarray, weight_B: Tensor | np.ndarray | None = None) -> None:
        """Adds a chunk. Raises ValueError for nan and for negative weights; weight 0 leaves a value out."""
        values = np.asarray(values_B, dtype=np.float64).ravel()
        weights = np.ones_like(values) if weight_B is None else np.asarray(weight_B, dtype=np.float64).ravel()
        if len(values) != len(weights) or np.isnan(weights).any() or (weights < 0).any():
            raise ValueError(
                f"Summary.update: wanted a weight >= 0 for each of {len(values)} values, got {len(weights)} weights, "
                f"smallest {weights.min(initial=math.inf):g}"
            )
        values, weights = values[weights > 0], weights[weights > 0]
        if np.isnan(values).any():
            raise ValueError(
                f"Summary.update: value {int(np.isnan(values).argmax())} of this chunk is nan; a value that could not "
                "be measured is left out: give it weight 0"
            )
        keys, where = np.unique(self._bin(values), return_inverse=True)
        chunk = zip(keys.tolist(), np.bincount(where, weights), np.bincount(where, weights * values), strict=True)
        for key, weight, total in chunk:
            held = self.bins.get(key, (0.0, 0.0))
            self.bins[key] = (held[0] + float(weight), held[1] + float(total))
        self.count += len(values)

    @property
    def weight(self) -> float:
        """Sum of the weights."""
        return math.fsum(weight for weight, _ in self.bins.values())

    @property
    def mean(self) -> float:
        """Weighted mean. Raises ValueError if nothing was added."""
        self._require_something()
        return sum(total for _, total in self.bins.values()) / self.weight

    def quantile(self, q: float) -> float:
        """The smallest value up to which at least a share q of the weight lies. Raises ValueError as `mean` does."""
        self._require_something()
        weights, totals = np.array([self.bins[key] for key in sorted(self.bins)]).T
        upto = np.cumsum(weights)
        at = int(np.searchsorted(upto, q * upto[-1]))
        return float(totals[at] / weights[at])

    def _bin(self, values: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            octave = np.clip(np.log2(np.abs(values)), -OCTAVES, OCTAVES)
        return (np.sign(values) * (1 + np.floor((octave + OCTAVES) * self.resolution))).astype(np.int64)

    def _require_something(self) -> None:
        if not self.bins:
            raise ValueError("Summary: nothing was added, so there is no mean; leave the row out")

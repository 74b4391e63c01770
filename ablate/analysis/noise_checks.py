"""Blocks without a training signal: closed forms held against quadrature and against the objectives' own masks.

Masks are drawn by `BlockDiffusion`'s own code, levels independent of each other, so that counts of empty blocks are
binomial and exact tests apply. Means of weights are tested by z, and only where the weight has a variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest, norm

from ablate.analysis.statistics import holm
from ablate.noise.closed_forms import (
    clean_context_share,
    expectation,
    expected_masked_tokens,
    loss_variance,
    mask_pattern_entropy,
    mean_token_weight,
    no_signal_probability,
    ramp_no_signal_probability,
    weight_tail,
)
from ablate.noise.masking import layout_of
from ablate.noise.options import BatchAddress, Clip, Guard, Strata
from ablate.noise.schedules import named
from ablate.objectives.block_diffusion import BlockDiffusion

__all__ = [
    "clean_context_share",
    "expectation",
    "expected_masked_tokens",
    "loss_variance",
    "mask_pattern_entropy",
    "mean_token_weight",
    "no_signal_probability",
    "ramp_no_signal_probability",
    "validate",
    "validate_weights",
    "weight_tail",
]
SIZES = (1, 2, 4, 8, 16, 32, 64)
DRAWS = 20_000  # blocks a test
TOKENS = 2_000_000  # drawn at once
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One way to draw rates: its name, and the objective of a block size, whose masks are drawn."""

    name: str
    objective: Callable[[int], BlockDiffusion]
    least: int = 1  # block size


def _path(name: str, **parameters: float) -> Callable[[int], BlockDiffusion]:
    return lambda size: BlockDiffusion(size, named(name, **parameters), strata=Strata.none)


CASES = (
    Case("linear", _path("linear")),
    Case("power(p=2)", _path("power", p=2)),
    Case("cos", _path("cos")),
    Case("sin", _path("sin")),
    Case("cos2", _path("cos2")),
    Case("loglinear", _path("loglinear")),
    Case("geometric", _path("geometric")),
    Case("interval(.45,.95)", _path("interval", a=0.45, b=0.95)),
    Case("cap(.1)", _path("cap", u_max=0.1)),
    Case("atom_clip(B)", lambda size: BlockDiffusion(size, clip=Clip.atom, strata=Strata.none)),
    Case("interval(1/B,1)", lambda size: BlockDiffusion(size, clip=Clip.interval, strata=Strata.none), 2),
)


def validate(
    sizes: Iterable[int] = SIZES, cases: Iterable[Case] = CASES, draws: int = DRAWS, seed: int = 0
) -> list[Row]:
    """A row per case and block size: schedule, block_size, closed_form, quadrature, estimate, low, high (95 %
    Clopper-Pearson), p_value (exact binomial, two-sided), p_holm (over all rows), draws, empty."""
    rows = []
    for case in cases:
        for size in (size for size in sizes if size >= case.least):
            objective = case.objective(size)
            exact = no_signal_probability(objective.noise(), size)
            empty = count_empty(objective, draws, seed)
            test = binomtest(empty, draws, min(exact, 1.0))
            low, high = test.proportion_ci(0.95, "exact")
            quadrature = expectation(objective.noise(), lambda u, _, size=size: (1 - u) ** size)
            rows.append(
                {
                    "schedule": case.name,
                    "block_size": size,
                    "closed_form": exact,
                    "quadrature": quadrature,
                    "estimate": empty / draws,
                    "low": low,
                    "high": high,
                    "p_value": float(test.pvalue),
                    "draws": draws,
                    "empty": empty,
                }
            )
    return _with_holm(rows)


WEIGHED = ((Guard.force, "1/t"), (Guard.force, "1/q"), (Guard.resample, "1/q"))


def validate_weights(sizes: Iterable[int] = (2, 4, 8, 32), draws: int = DRAWS, seed: int = 0) -> list[Row]:
    """A row per guard, weight and block size, after the atom clip: the mean weight of a token, exact and estimated, the
    estimate's standard error, and the p-value of z. Their variance is finite, as rates do not fall below 1/B."""
    rows = []
    for guard, weight in WEIGHED:
        for size in sizes:
            objective = BlockDiffusion(size, clip=Clip.atom, guard=guard, weight=weight, strata=Strata.none)
            exact = mean_token_weight(objective.noise(), size, guard, weight)
            values = np.concatenate(
                [part.weight_BL[:, size:].mean(1).numpy() for part in _masks(objective, draws, seed)]
            )
            error = float(values.std(ddof=1)) / math.sqrt(len(values))
            z = (float(values.mean()) - exact) / error
            rows.append(
                {
                    "guard": guard.value,
                    "weight": weight,
                    "block_size": size,
                    "closed_form": exact,
                    "estimate": float(values.mean()),
                    "error": error,
                    "p_value": float(2 * norm.sf(abs(z))),
                    "draws": draws,
                }
            )
    return _with_holm(rows)


def count_empty(objective: BlockDiffusion, draws: int, seed: int) -> int:
    """Blocks without a masked token among so many full ones."""
    hidden = (part.hidden_BL[:, objective.size :] for part in _masks(objective, draws, seed))
    return sum(int((~part.any(1)).sum()) for part in hidden)


def _masks(objective: BlockDiffusion, draws: int, seed: int) -> Iterable[Any]:
    """Masks of two blocks a row, of which the second is full: in the first, position 0 is given."""
    layout = layout_of(objective.size, 2 * objective.size)
    chunk = max(1, TOKENS // layout.length)
    for start in range(0, draws, chunk):
        rows = BatchAddress(seed, 0, np.arange(start, min(start + chunk, draws)), draws)
        with torch.no_grad():
            yield from objective.corruption().masks(layout, rows)


def _with_holm(rows: list[Row]) -> list[Row]:
    for row, p in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def draws_for_power(true: float, claimed: float, level: float, power: float) -> int:
    """Blocks needed to reject at `level` (two-sided) with this power that the probability is `claimed` where it is
    `true`, by the normal approximation. Raises ValueError where they are equal."""
    if true == claimed:
        raise ValueError(f"draws_for_power: wanted two probabilities, got {true} twice: nothing to reject")
    spread = norm.isf(level / 2) * math.sqrt(claimed * (1 - claimed)) + norm.isf(1 - power) * math.sqrt(
        true * (1 - true)
    )
    return math.ceil((spread / (true - claimed)) ** 2)

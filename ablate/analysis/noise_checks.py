"""Blocks without a training signal: closed forms against quadrature and against the objectives' own masks.

Masks are drawn by `BlockDiffusion`'s own code with independent levels. Counts of blocks are then binomial, and exact
tests apply. Means and variances are tested by z, and only where they exist.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.integrate import quad
from scipy.stats import binomtest, norm

from ablate.analysis.statistics import holm
from ablate.core.rng import uniform
from ablate.noise.block_layout import layout_of
from ablate.noise.closed_forms import (
    expectation,
    mean_token_weight,
    no_signal_probability,
    ramp_no_signal_probability,
)
from ablate.noise.masking import Masks, levels
from ablate.noise.options import BatchAddress, Clip, Guard, Strata
from ablate.noise.schedules import Cap, named
from ablate.objectives.block_diffusion import BlockDiffusion

SIZES = (1, 2, 4, 8, 16, 32, 64)
DRAWS = 20_000  # blocks a test
TOKENS = 2_000_000  # drawn at once
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One way to draw rates: its name, and the objective of a block size, whose masks are drawn.

    least: the smallest block size. ramp: the ends of a cap on the level that rises linearly, as in a mask warmup.
    """

    name: str
    objective: Callable[[int], BlockDiffusion]
    least: int = 1
    ramp: tuple[float, float] | None = None

    def closed_form(self, size: int) -> float:
        if self.ramp:
            return ramp_no_signal_probability(*self.ramp, size)
        return no_signal_probability(self.objective(size).noise(), size)

    def quadrature(self, size: int) -> float:
        if self.ramp is None:
            return expectation(self.objective(size).noise(), lambda u, _: (1 - u) ** size)
        low, high = self.ramp
        caps = quad(lambda cap: expectation(Cap(cap), lambda u, _: (1 - u) ** size), low, high, epsabs=1e-12)
        return caps[0] / (high - low)


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
    Case("ramp(.001,1)", _path("linear"), ramp=(1e-3, 1.0)),
)


def validate(
    sizes: Iterable[int] = SIZES, cases: Iterable[Case] = CASES, draws: int = DRAWS, seed: int = 0
) -> list[Row]:
    """A row per case and block size: schedule, block_size, closed_form, quadrature, estimate, low, high (95 %
    Clopper-Pearson), p_value (exact binomial, two-sided), p_holm (over all rows), draws, empty."""
    rows = []
    for case in cases:
        for size in (size for size in sizes if size >= case.least):
            exact = case.closed_form(size)
            empty = count_empty(case.objective(size), draws, seed, case.ramp)
            test = binomtest(empty, draws, min(exact, 1.0))
            low, high = test.proportion_ci(0.95, "exact")
            rows.append(
                {
                    "schedule": case.name,
                    "block_size": size,
                    "closed_form": exact,
                    "quadrature": case.quadrature(size),
                    "estimate": empty / draws,
                    "low": low,
                    "high": high,
                    "p_value": float(test.pvalue),
                    "draws": draws,
                    "empty": empty,
                }
            )
    return with_holm(rows)


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
                [part.weight_BL[:, size:].mean(1).numpy() for part in drawn_masks(objective, draws, seed)]
            )
            error = float(values.std(ddof=1)) / math.sqrt(len(values))
            rows.append(
                {
                    "guard": guard.value,
                    "weight": weight,
                    "block_size": size,
                    "closed_form": exact,
                    "estimate": float(values.mean()),
                    "error": error,
                    "p_value": normal_p(float(values.mean()), exact, error),
                    "draws": draws,
                }
            )
    return with_holm(rows)


def count_empty(objective: BlockDiffusion, draws: int, seed: int, ramp: tuple[float, float] | None = None) -> int:
    """Blocks without a masked token among `draws` full ones; with a ramp, each has a cap of its own, uniform on it."""
    hidden = (part.hidden_BL[:, objective.size :] for part in drawn_masks(objective, draws, seed, ramp))
    return sum(int((~part.any(1)).sum()) for part in hidden)


def drawn_masks(
    objective: BlockDiffusion, draws: int, seed: int, ramp: tuple[float, float] | None = None
) -> Iterable[Masks]:
    """Masks of two blocks a row. Only the second is full, since position 0 is never masked in the first."""
    layout = layout_of(objective.size, 2 * objective.size)
    corruption = objective.corruption()
    chunk = max(1, TOKENS // layout.length)
    for start in range(0, draws, chunk):
        rows = BatchAddress(seed, 0, np.arange(start, min(start + chunk, draws)), draws)
        with torch.no_grad():
            if ramp is None:
                yield from corruption.masks(layout, rows)
            else:
                cap_B1 = ramp[0] + (ramp[1] - ramp[0]) * uniform(seed, "ramp", rows.sample_numbers, (1,))
                yield from corruption.draw(cap_B1 * levels(rows, corruption.strata, layout.blocks), layout, rows)


def normal_p(estimate: float, exact: float, error: float) -> float:
    """Two-sided p-value of a mean with a standard error; 1 where all draws were alike, which says nothing."""
    return float(2 * norm.sf(abs(estimate - exact) / error)) if error else 1.0


def with_holm(rows: list[Row]) -> list[Row]:
    """The rows with `p_holm`: their p-values adjusted together (Holm, 1979)."""
    for row, p in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_holm"] = p
    return rows

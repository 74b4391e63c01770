"""What is drawn in a block against theory: its number of masked tokens, the variance of its loss, its weight's tail.

Shapes: N blocks, S tokens of a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ablate.analysis.noise_checks import DRAWS, Row, drawn_masks, normal_p, with_holm
from ablate.noise.closed_forms import (
    expectation,
    expected_masked_tokens,
    loss_variance,
    no_signal_probability,
    weight_tail,
)
from ablate.noise.options import Clip, Guard, Strata
from ablate.noise.schedules import AtomClip
from ablate.objectives.block_diffusion import BlockDiffusion

TAIL = 8.0  # weight whose exceedance is checked; a power of two, where the quadrature's panels meet


@dataclass(frozen=True)
class Check:
    """One number of a block of `size` tokens: by formula (nan where there is none), by quadrature, and by drawing.

    of: (N,) the sample whose mean estimates it, from the drawn hidden_NS and weight_NS of N blocks.
    """

    quantity: str
    case: str
    options: Callable[[int], dict[str, Any]]
    closed_form: Callable[[int], float]
    quadrature: Callable[[BlockDiffusion], float]
    of: Callable[[np.ndarray, np.ndarray], np.ndarray]


def _masked(objective: BlockDiffusion) -> float:
    return expected_masked_tokens(objective.noise(), objective.size, objective.guard)


def _variance(objective: BlockDiffusion) -> float:
    return loss_variance(objective.noise(), objective.size, objective.guard, objective.weight)


def _exceeds(objective: BlockDiffusion) -> float:
    size = objective.size
    return expectation(objective.noise(), lambda u, _: torch.where(u < 1 / TAIL, 1 - (1 - u) ** size, 0.0))


def _squares(hidden_NS: np.ndarray, weight_NS: np.ndarray) -> np.ndarray:
    """Squared deviations of the block's loss, where each token's cross-entropy is 1."""
    loss_N = weight_NS.mean(1)
    return (loss_N - loss_N.mean()) ** 2 * (len(loss_N) / (len(loss_N) - 1))


def _count(hidden_NS: np.ndarray, weight_NS: np.ndarray) -> np.ndarray:
    return hidden_NS.sum(1).astype(np.float64)


def _atom(size: int) -> dict[str, Any]:
    return {"clip": Clip.atom}


def _atom_masked(size: int) -> float:
    return size * (1 - no_signal_probability(AtomClip(size), 1))


CHECKS = (
    Check("masked_tokens", "linear", lambda size: {}, lambda size: size / 2, _masked, _count),
    Check("masked_tokens", "linear", lambda size: {"guard": "force"}, lambda n: n / 2 + 1 / (n + 1), _masked, _count),
    Check("masked_tokens", "atom_clip(B)", _atom, _atom_masked, _masked, _count),
    Check("loss_variance", "linear", lambda size: {"weight": "1"}, lambda n: (n + 2) / (12 * n), _variance, _squares),
    Check("loss_variance", "atom_clip(B)", _atom, lambda n: math.log(n) / n, _variance, _squares),
    Check(
        "loss_variance",
        "atom_clip(B)",
        lambda size: {"clip": Clip.atom, "guard": Guard.force},
        lambda size: math.nan,
        _variance,
        _squares,
    ),
    Check(
        f"P(weight > {TAIL:g})",
        "linear",
        lambda size: {},
        lambda size: weight_tail(TAIL, size),
        _exceeds,
        lambda hidden_NS, weight_NS: (weight_NS.max(1) > TAIL).astype(np.float64),
    ),
)


def validate_blocks(sizes: Iterable[int] = (2, 4, 8, 32), draws: int = DRAWS, seed: int = 0) -> list[Row]:
    """A row per check and block size: quantity, schedule, guard, weight, block_size, closed_form, quadrature, estimate,
    error (standard error), p_value (z, two-sided, against the quadrature), p_holm (over all rows), draws."""
    rows = []
    for check in CHECKS:
        for size in sizes:
            objective = BlockDiffusion(size, strata=Strata.none, **check.options(size))
            exact = check.quadrature(objective)
            parts = list(drawn_masks(objective, draws, seed))
            hidden_NS, weight_NS = (
                np.concatenate([getattr(part, name)[:, size:].numpy() for part in parts])
                for name in ("hidden_BL", "weight_BL")
            )
            sample_N = check.of(hidden_NS, weight_NS)
            estimate, error = float(sample_N.mean()), float(sample_N.std(ddof=1)) / math.sqrt(len(sample_N))
            rows.append(
                {
                    "quantity": check.quantity,
                    "schedule": check.case,
                    "guard": objective.guard.value,
                    "weight": objective.weight,
                    "block_size": size,
                    "closed_form": check.closed_form(size),
                    "quadrature": exact,
                    "estimate": estimate,
                    "error": error,
                    "p_value": normal_p(estimate, exact, error),
                    "draws": draws,
                }
            )
    return with_holm(rows)

"""Clean-context share: how often a masked token sees all its parents, closed form beside masks drawn as in training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest, norm

from ablate.analysis.statistics import holm
from ablate.noise.block_layout import layout_of
from ablate.noise.closed_forms import clean_context_share
from ablate.noise.options import BatchAddress, Clip, Strata
from ablate.noise.schedules import named
from ablate.objectives.block_diffusion import BlockDiffusion

SIZE = 8  # tokens a block
PARENTS = (1, 2, 3, 5, 7)  # of the token that is asked, in its block
CASES: dict[str, dict[str, Any]] = {
    "linear": {},
    "cap(.1)": {"schedule": named("cap", u_max=0.1)},
    "cap(.5)": {"schedule": named("cap", u_max=0.5)},
    "interval(.45,.95)": {"schedule": named("interval", a=0.45, b=0.95)},
    "atom_clip(B)": {"clip": Clip.atom},
}
ENOUGH = 20  # clean contexts expected, below which the ratio is not tested
HEAVY = ("linear", "cap(.1)", "cap(.5)")  # rates reach down to 0: weights of 1/t have no variance


def shares(draws: int, seed: int) -> list[dict[str, Any]]:
    """A row per case, number of parents and weighting ("loss": as in the loss, "token": each masked token once).

    Columns schedule, block_size, parents, weighting, closed_form, estimate, low, high, p_value, p_holm (over all rows),
    draws, asked (blocks whose token was masked). 95 % intervals and tests: exact binomial token by token; normal in the
    loss (a ratio, linearised), nan where the weight has no variance. The token asked for is a block's first, its
    parents those that follow: masks do not know the order.
    """
    rows = [
        {"schedule": name, "block_size": SIZE, **row, "draws": draws}
        for name, options in CASES.items()
        for row in _of_case(name, options, draws, seed)
    ]
    tested = [row for row in rows if not math.isnan(row["p_value"])]
    for row, p in zip(tested, holm([row["p_value"] for row in tested]), strict=True):
        row["p_holm"] = p
    return rows


def _of_case(name: str, options: dict[str, Any], draws: int, seed: int) -> Iterator[dict[str, Any]]:
    objective = BlockDiffusion(SIZE, strata=Strata.none, **options)
    hidden_BK, weight_B = _drawn(objective, draws, seed)
    asked_B = hidden_BK[:, 0]
    for parents in PARENTS:
        clean_B = asked_B & ~hidden_BK[:, 1 : 1 + parents].any(1)
        for weighting in ("loss", "token"):
            exact = clean_context_share(objective.noise(), parents, weighted=weighting == "loss")
            found = _ratio(clean_B, weight_B, exact) if weighting == "loss" else _share(clean_B, asked_B, exact)
            if weighting == "loss" and name in HEAVY:
                found |= dict.fromkeys(("low", "high", "p_value"), math.nan)
            yield {
                "parents": parents,
                "weighting": weighting,
                "closed_form": exact,
                **found,
                "p_holm": math.nan,
                "asked": int(asked_B.sum()),
            }


def _drawn(objective: BlockDiffusion, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(B, K) which tokens of a block are hidden, and (B,) what its first one weighs, 0 where visible.

    Masks of two blocks a row, of which the second is full: in the first, position 0 is given.
    """
    with torch.no_grad():
        masks = objective.corruption().masks(layout_of(SIZE, 2 * SIZE), BatchAddress(seed, 1, np.arange(draws), draws))[
            0
        ]
    return masks.hidden_BL[:, SIZE:].numpy(), masks.weight_BL[:, SIZE].numpy()


def _share(clean_B: np.ndarray, asked_B: np.ndarray, exact: float) -> dict[str, float]:
    if not asked_B.any():
        return dict.fromkeys(("estimate", "low", "high", "p_value"), math.nan)
    test = binomtest(int(clean_B.sum()), int(asked_B.sum()), exact)
    low, high = test.proportion_ci(0.95, "exact")
    return {"estimate": float(test.statistic), "low": float(low), "high": float(high), "p_value": float(test.pvalue)}


def _ratio(clean_B: np.ndarray, weight_B: np.ndarray, exact: float) -> dict[str, float]:
    total = float(weight_B.sum())
    estimate = float(weight_B @ clean_B) / total if total else math.nan
    error = float(np.linalg.norm(weight_B * (clean_B - estimate))) / total if total else math.nan
    many = exact * np.count_nonzero(weight_B) >= ENOUGH  # a normal distribution of fewer would cry wolf
    p = float(2 * norm.sf(abs(estimate - exact) / error)) if many and error else math.nan
    half = float(norm.isf(0.025)) * error
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half, "p_value": p}

"""The atlas as a table: of every world what was measured, what theories expected, and whether it counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from ablate.studies.outcomes import Outcome

Frame = Any  # a pandas frame, whose columns no type checker knows
# key: hash of all that the values follow from but the code.
EXPECTED = {"world": "str", "family": "str", "key": "str", "arm": "str", "quantity": "str", "value": "float64"}
# log_ratio: natural logarithm of BiDLLM's mean excess bits over AR's, mean over seeds; spread: its standard deviation.
# The others are what may predict it: log ratios of expected costs and of K_1, a difference of entropies in bits, and
# what a world is. why: a world is left out, else "".
WORLDS = {
    "world": "str",
    "family": "str",
    "seeds": "int64",
    "log_ratio": "float64",
    "spread": "float64",
    "table": "float64",
    "known": "float64",
    "visits": "float64",
    "k": "float64",
    "entropy": "float64",
    "hops": "float64",
    "log_length": "float64",
    "log_vocabulary": "float64",
    "why": "str",
}
# given: "" of a correlation, "visits" of a partial one, "left out" of the variance of a family that the others explain.
PREDICTORS = {
    "predictor": "str",
    "given": "str",
    "family": "str",
    "value": "float64",
    "low": "float64",
    "high": "float64",
    "p": "float64",
}
CEILING = "ceiling"
RIVALS = ("known", "visits", "k", "entropy", "hops", "log_length", "log_vocabulary")
ARMS = ("bidllm", "ar")
OUTCOME = Outcome(contexts="ar", block_size=None, split="train")  # of every token, mean over training
LEARNED = 0.5  # of the excess bits at the start, below which one arm must fall on development seeds


def table(expected: Frame, measured: Frame, development: Frame, outcome: Outcome, seeds: int) -> Frame:
    """A row of `WORLDS` for every world that is expected; `log_ratio` is nan where it was not measured in both arms.

    expected: rows of `EXPECTED`. measured, development: rows of studies whose conditions are worlds. seeds: on which a
    world must have been measured to count.
    """
    costs, learned = log_ratios(measured, outcome), falls(development, outcome)
    rows = []
    for (world, family), part in expected.groupby(["world", "family"], sort=False):
        known = {(row.arm, row.quantity): row.value for row in part.itertuples()}
        ratios = costs.get(str(world), np.array([]))
        fallen = learned.get(str(world), math.nan)
        rows.append(
            {
                "world": world,
                "family": family,
                "seeds": len(ratios),
                "log_ratio": float(ratios.mean()) if len(ratios) else math.nan,
                "spread": float(ratios.std(ddof=1)) if len(ratios) > 1 else math.nan,
                "table": _log_ratio(known, "cost"),
                "known": _log_ratio(known, "known"),
                "visits": _log_ratio(known, "visits"),
                "k": _log_ratio(known, "k"),
                "entropy": known["bidllm", "entropy"] - known["ar", "entropy"],
                "hops": known["", "hops"],
                "log_length": math.log(known["", "length"]),
                "log_vocabulary": math.log(known["", "vocabulary"]),
                "why": _why(fallen, len(ratios), seeds),
            }
        )
    return pd.DataFrame(rows, columns=list(WORLDS)).astype(WORLDS)


def _log_ratio(known: dict[tuple[str, str], float], quantity: str) -> float:
    return math.log(known["bidllm", quantity] / known["ar", quantity])


def _why(fallen: float, measured: int, seeds: int) -> str:
    if math.isnan(fallen):
        return "not tried on development seeds"
    if fallen > LEARNED:
        return f"no arm fell below half: {fallen:.2f} of its start"
    return "" if measured == seeds else f"measured on {measured} of {seeds} seeds"


def log_ratios(rows: Frame, outcome: Outcome) -> dict[str, np.ndarray]:
    """By world the log ratio of the two arms' outcomes, a value a seed that both have, seeds in order."""
    values: dict[str, dict[int, dict[str, float]]] = {}
    for (world, arm, seed), run in rows.groupby(["condition", "arm", "seed"]):
        if (value := outcome.of(run)) is not None:
            values.setdefault(str(world), {}).setdefault(int(seed), {})[str(arm)] = value
    return {
        world: np.array(
            [math.log(arms["bidllm"] / arms["ar"]) for _, arms in sorted(seeds.items()) if set(ARMS) <= set(arms)]
        )
        for world, seeds in values.items()
    }


def falls(rows: Frame, outcome: Outcome) -> dict[str, float]:
    """By world how far the better arm came: its least value over its first, of mean curves over seeds."""
    curves = outcome.curve(rows)
    means = curves.groupby(["condition", "arm", "step"])["value"].mean()
    found: dict[str, float] = {}
    for (world, _), curve in means.groupby(level=["condition", "arm"]):
        found[str(world)] = min(found.get(str(world), math.inf), float(curve.min() / curve.iloc[0]))
    return found

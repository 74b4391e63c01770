"""Trends: how far an outcome changes over a dial, a number a seed."""

from __future__ import annotations

import dataclasses
import re
from enum import StrEnum

import numpy as np

from ablate.studies.outcomes import Frame, Outcome

NUMBERED = re.compile(r"(?P<dial>.+)_(?P<setting>[0-9.]+)")  # a condition: the dial's name and where it stands


class Trend(StrEnum):
    """What the settings of a dial are: conditions, named DIAL_<number>; or block sizes at which one run is asked."""

    condition = "condition"
    block_size = "block_size"


def settings(conditions: list[str], dial: str) -> dict[float, str]:
    """Conditions of a dial by where it stands, in order."""
    found = {name: NUMBERED.fullmatch(name) for name in conditions}
    at = {float(match["setting"]): name for name, match in found.items() if match and match["dial"] == dial}
    return dict(sorted(at.items()))


def changes(rows: Frame, dial: str, trend: Trend, outcome: Outcome) -> dict[int, float]:
    """By seed the change of one arm's outcome from the first to the last setting: the slope of a line through all of
    them, evenly spaced, over the whole dial. Of seeds that have every setting; none below three settings.

    dial: the name that conditions begin with, or the one condition whose runs are asked at several block sizes.
    """
    if trend is Trend.condition:
        conditions = settings(rows["condition"].unique().tolist(), dial)
        parts = [(rows[rows["condition"] == name], outcome) for name in conditions.values()]
    else:
        own = rows[rows["condition"] == dial]
        asked = own[(own["contexts"] == outcome.contexts) & (own["metric"] == outcome.metric)]
        sizes = sorted(int(size) for size in asked["block_size"].dropna().unique())
        parts = [(own, dataclasses.replace(outcome, block_size=size)) for size in sizes]
    if len(parts) < 3:
        return {}
    values = [{int(seed): how.of(run) for seed, run in part.groupby("seed")} for part, how in parts]
    whole = [seed for seed in sorted(values[0]) if all(at.get(seed) is not None for at in values)]
    place = np.arange(len(parts)) - (len(parts) - 1) / 2
    line = place / (place @ place) * (len(parts) - 1)
    return {seed: float(line @ np.array([at[seed] for at in values], dtype=float)) for seed in whole}

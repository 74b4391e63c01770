"""What a warmup's two ingredients do to norms, spikes and knowledge: a 2x2 per seed, intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from ablate.analysis.spikes import LEAST, spike_statistics
from figures.drawing.arms import interval
from figures.learning.warmup_dynamics import ingredient

Frame = Any  # a pandas frame, whose columns no type checker knows
ARMS = ("none", "cap", "drop", "both")
COLUMNS = ("condition", "steps", "end", "quantity", "name", "ratio", "value", "low", "high", "seeds")
FIRST = 20  # steps whose norms are the first ones
NORMS = {"grad_norm": "norm", "grad_norm_scored": "norm per scored token"}
# Sign of each arm in each effect: mean over the other ingredient's levels, and what both do beyond their sum.
EFFECTS = {
    "cap effect": {"none": -0.5, "cap": 0.5, "drop": -0.5, "both": 0.5},
    "drop effect": {"none": -0.5, "cap": -0.5, "drop": 0.5, "both": 0.5},
    "interaction": {"none": 1.0, "cap": -1.0, "drop": -1.0, "both": 1.0},
}
# Measured in contexts of a sampler; the excess bits are differences of bits, all else is compared by factors.
BITS = {("block", 1, "test"): "block 1", ("random", 0, "train"): "random masks"}


def of_study(rows: Frame) -> Frame:
    """Effects in every condition of the study and for every length of the warmup.

    Columns as of `effects`, and before them condition, steps (of the stage) and end (the warmup's last step). Raises
    ValueError where no length has the arms with cap, with dropped weight, with both and without.
    """
    found = []
    for condition, part in rows.groupby("condition"):
        last = last_stage(part)
        steps = int(last["step"].max())
        for share in sorted(last["share"].dropna().unique()):
            chosen = last[(last["share"] == share) | (last["regime"] == "none")]
            if set(ARMS) <= set(chosen["regime"]):
                end = round(share * steps)
                about = {"condition": condition, "steps": steps, "end": end}
                found.append(effects(outcomes(chosen, end)).assign(**about))
    if not found:
        raise ValueError(
            "rows: wanted the arms none, cap_S, drop_S and both_S of the study warmup, S a share of the steps, got "
            f"{', '.join(sorted(rows['arm'].unique()))}; type python experiments/study.py study=warmup"
        )
    return pd.concat(found, ignore_index=True)[list(COLUMNS)]


def last_stage(rows: Frame) -> Frame:
    """Rows of the last stage, whose steps are counted from its start. regime: what of the warmup an arm has; share: for
    which share of the stage's steps, nan where for none."""
    last = rows[rows["stage"] == rows.groupby("run")["stage"].transform("max")]
    starts = rows[(rows["stage"] >= 0) & (rows["stage"] < last["stage"].max())].groupby("run")["step"].max()
    known = {arm: ingredient(arm) for arm in last["arm"].unique()}
    counted = last["step"] - last["run"].map(starts).fillna(0).astype("int64")
    arms, shares = ({arm: told[i] for arm, told in known.items()} for i in (0, 1))
    return last.assign(step=counted, regime=last["arm"].map(arms), share=last["arm"].map(shares).astype("float64"))


def outcomes(rows: Frame, end: int) -> Frame:
    """A row per arm, seed and quantity: columns regime, seed, quantity, ratio (compared by factors?), value.

    end: the warmup's last step. A statistic that a run has too few values for has no row.
    """
    found = []
    for (regime, seed), run in rows.groupby(["regime", "seed"]):
        measured = [*_norms(run, end), *_knowledge(run)]
        found += [
            {"regime": regime, "seed": seed, "quantity": quantity, "ratio": ratio, "value": value}
            for quantity, ratio, value in measured
        ]
    return pd.DataFrame(found)


def _norms(run: Frame, end: int) -> Iterator[tuple[str, bool, float]]:
    for metric, words in NORMS.items():
        series = run[run["metric"] == metric].set_index("step")["value"].sort_index()
        series = series[series > 0]  # a batch without a masked token has no gradient
        first = series[series.index <= min(FIRST, end)]
        if len(first):
            yield f"first {words}, median", True, float(first.median())
        for window, part in {"in warmup": series[series.index <= end], "after": series[series.index > end]}.items():
            if len(part) < LEAST:
                continue
            spikes = spike_statistics(part.to_numpy())
            yield f"{words} {window}, median", True, spikes.median
            yield f"{words} {window}, q99/q50", True, spikes.ratio
            yield f"{words} {window}, spikes", False, float(spikes.count)
            yield f"{words} {window}, tail index", True, spikes.tail_index


def _knowledge(run: Frame) -> Iterator[tuple[str, bool, float]]:
    chosen = run[(run["metric"] == "excess_bits") & (run["domain"] == "new") & (run["stage"] >= 0)]
    sizes = chosen["block_size"].fillna(0).astype("int64")
    for (contexts, size, split), words in BITS.items():
        part = chosen[(chosen["contexts"] == contexts) & (sizes == size) & (chosen["split"] == split)]
        series = part.set_index("step")["value"].sort_index()
        if len(series):
            yield f"excess bits, {words}, end", False, float(series.iloc[-1])
        if len(series) > 1:
            length = series.index[-1] - series.index[0]
            yield f"excess bits, {words}, mean", False, float(np.trapezoid(series, series.index) / length)


def effects(measured: Frame) -> Frame:
    """A row per quantity and arm or effect: columns quantity, name, ratio, value, low, high, seeds.

    Where arms are compared by factors the means are geometric. Intervals are 95 % t over seeds, nan below three.
    """
    found = []
    for quantity, part in measured.groupby("quantity", sort=False):
        ratio = bool(part["ratio"].iloc[0])
        values = part.pivot_table(index="seed", columns="regime", values="value")
        scaled: Frame = np.log(values) if ratio else values
        named = {str(arm): scaled[arm].dropna() for arm in scaled}
        for effect, signs in EFFECTS.items():
            if set(signs) <= set(scaled):
                named[effect] = scaled[list(signs)].mul(pd.Series(signs)).sum(axis=1, skipna=False).dropna()
        for name, numbers in named.items():
            if not len(numbers):
                continue
            mean, half = interval(numbers.to_numpy())
            bounds = [mean, mean - half, mean + half]
            value, low, high = (math.exp(b) for b in bounds) if ratio else bounds
            found.append(
                {
                    "quantity": quantity,
                    "name": name,
                    "ratio": ratio,
                    "value": value,
                    "low": low,
                    "high": high,
                    "seeds": len(numbers),
                }
            )
    return pd.DataFrame(found)

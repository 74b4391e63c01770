"""Claim under test: AR first, then diffusion, ends knowing more. What every arm knows after the switch, for several
lengths of the second stage, whose learning rate ends at 0."""

import re
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.drawing import arms, style

CONDITION = re.compile(r"(?P<group>.+)_(?P<length>\d+)x")  # as the study `order` names them
DOTTED = (0, (1, 1.1))


@dataclass(frozen=True)
class Curve:
    """One arm under one length: mean excess bits by steps after the switch, and half its last point's interval."""

    steps: np.ndarray
    means: np.ndarray
    half: float
    seeds: int


def draw(rows: pd.DataFrame) -> Figure:
    """A line of panels for each world and base model, a panel per decoding block size, a curve per arm and length.

    ValueError where no condition is named GROUP_<length>x, or the rows hold no excess bits.
    """
    named = rows["condition"].str.extract(CONDITION.pattern)
    rows = rows.assign(group=named["group"], length=pd.to_numeric(named["length"]))
    rows = rows[rows["group"].notna()]
    if rows.empty:
        raise ValueError("rows: wanted conditions such as trace_mixed_4x, a world and a length; came none")
    groups = list(dict.fromkeys(rows["group"]))
    chosen = {
        key: arms.select(part, "excess_bits", "new", "test")
        for key, part in rows.groupby(["group", "length"], sort=False)
    }
    shown = pd.concat(chosen.values())
    sizes = sorted(int(size) for size in shown.loc[shown["contexts"] == "block", "block_size"].unique())
    looks = style.looks(shown["regime"])
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(7.2, 1.85 * len(groups) + 0.55, _caption(shown))
        grid = body.subplots(len(groups), len(sizes), sharex="row", sharey="row", squeeze=False)
        for line, group in zip(grid, groups, strict=True):
            lengths = {length: part for (name, length), part in chosen.items() if name == group}
            for axis, size in zip(line, sizes, strict=True):
                _draw_panel(axis, lengths, size, looks)
                world, _, base = group.rpartition("_")
                axis.set_title(f"{world}, {style.label(base)} base; block size {size}")
            line[0].set_ylabel("Excess bits a token")
        for axis in grid[-1]:
            axis.set_xlabel("Steps after the switch")
        handles = [Line2D([], [], color=c, marker=m, label=style.label(name)) for name, (c, m) in looks.items()]
        body.legend(handles=handles, ncols=len(handles), loc="outside lower center")
    return drawing


def _draw_panel(axis: Axes, lengths: dict[int, pd.DataFrame], size: int, looks: dict[str, tuple[str, str]]) -> None:
    """Before the switch dotted, once, of the longest; after it a line for each length, its end marked."""
    axis.axvline(0, color=style.NEUTRAL, linewidth=0.6, zorder=1, gid="switch")
    for length, rows in sorted(lengths.items()):
        switch = max(arms.switches(rows))
        part = rows[(rows["contexts"] == "block") & (rows["block_size"] == size)]
        for name, (colour, marker) in looks.items():
            mine = part[part["regime"] == name]
            if mine.empty:
                continue
            before, after = _sides(mine, switch)
            if length == max(lengths):
                axis.plot(before.steps, before.means, color=colour, linestyle=DOTTED, zorder=2, gid="before")
            axis.plot(after.steps, after.means, color=colour, linewidth=1.0, zorder=3, gid="after")
            end = after.steps[-1], after.means[-1]
            axis.errorbar(*end, yerr=after.half, color=colour, marker=marker, capsize=1.5, zorder=4, gid="end")
    axis.set_ylim(bottom=0)


def _sides(rows: pd.DataFrame, switch: int) -> tuple[Curve, Curve]:
    """Before and after the switch, with the reading there in both, as each stage has it."""
    trained = rows[rows["stage"] >= 0].sort_values(["step", "stage"])
    once = {"subset": ["run", "step"]}
    early = trained[trained["step"] <= switch].drop_duplicates(**once, keep="first")
    late = trained[trained["step"] >= switch].drop_duplicates(**once, keep="last")
    return _curve(early, switch), _curve(late, switch)


def _curve(rows: pd.DataFrame, switch: int) -> Curve:
    """Over the steps at which all seeds were measured."""
    values = rows.pivot_table(index="step", columns="seed", values="value").dropna()
    _, half = arms.interval(values.iloc[-1].to_numpy())
    return Curve(values.index.to_numpy() - switch, values.mean(axis=1).to_numpy(), half, values.shape[1])


def _caption(rows: pd.DataFrame) -> str:
    return (
        f"Mean over n = {arms.seed_count(rows)} seeds; marks: where a second stage ends and its learning rate is 0, "
        "with the 95 % t-interval; dotted: before the switch. Excess bits: divergence from the exact posterior on "
        "held-out questions, every revealed token being the true one. Arms are paired by seed, so intervals that "
        "overlap may still differ: see the verdicts."
    )

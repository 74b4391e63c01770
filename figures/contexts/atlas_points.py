"""Claim under test: K(c) and visits, known before training, predict how much more masked diffusion pays than AR."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.drawing import style

NAMES = {
    "table": "table over the vocabulary",
    "known": "table that knows C(c)",
    "visits": "visits alone",
    "k": "K alone, of training",
    "entropy": "entropy of training",
    "hops": "steps of computation",
    "log_length": "length",
    "log_vocabulary": "vocabulary",
}
MARKS = ("o", "s", "^", "D", "v", "P", "X")


def draw(worlds: pd.DataFrame, predictors: pd.DataFrame) -> Figure:
    """Left: measured against expected log ratio of costs, a point a world, a panel for each table. Right: each
    predictor's correlation, its interval and the ceiling.

    worlds: columns of the table worlds.parquet. predictors: of predictors.parquet. ValueError where no world was
    measured.
    """
    shown = worlds[worlds["seeds"] > 0]
    if shown.empty:
        raise ValueError("worlds: wanted measured ones; came none; type python experiments/study.py study=atlas")
    families = sorted(worlds["family"].unique())
    colours = list(style.PALETTE.values())
    looks = {family: (colours[i], MARKS[i % len(MARKS)]) for i, family in enumerate(families)}
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(7.2, 2.9, _caption(shown))
        table, known, ranks = body.subplots(1, 3, width_ratios=(1, 1, 0.9))
        for axis, name in ((table, "table"), (known, "known")):
            _draw_worlds(axis, shown, name, looks)
        known.sharey(table)
        known.tick_params(labelleft=False)
        table.set_ylabel("Measured: ln of BiDLLM's\nexcess bits over AR's")
        _draw_predictors(ranks, predictors)
        handles = [Line2D([], [], linestyle="", color=c, marker=m, label=f) for f, (c, m) in looks.items()]
        body.legend(handles=handles, ncols=len(handles), loc="outside lower center")
    return drawing


def _draw_worlds(axis: Axes, rows: pd.DataFrame, name: str, looks: dict[str, tuple[str, str]]) -> None:
    axis.set_xlabel(f"Expected by {NAMES[name]}")
    ends = [rows[name].min(), rows[name].max()]
    axis.plot(ends, ends, color=style.NEUTRAL, linewidth=0.6, linestyle=(0, (5, 3)), zorder=1, gid="equal")
    for row in rows.itertuples():
        colour, marker = looks[str(row.family)]
        x, counts = getattr(row, name), row.why == ""
        face = colour if counts else "white"
        axis.errorbar(x, row.log_ratio, yerr=row.spread, color=colour, linewidth=0.5, alpha=0.6, zorder=2, gid="spread")
        axis.plot(x, row.log_ratio, marker, color=colour, markerfacecolor=face, markersize=4, zorder=3, gid="world")


def _draw_predictors(axis: Axes, rows: pd.DataFrame) -> None:
    """Filled: within families; hollow: given visits alone, where that is another thing."""
    names = [name for name in NAMES if name in set(rows["predictor"])]
    for given, colour, lift in (("", style.PALETTE["blue"], -0.14), ("visits", style.PALETTE["vermillion"], 0.14)):
        part = rows[rows["given"] == given].set_index("predictor")
        for line, name in enumerate(names):
            if name in part.index:
                value, low, high = part.loc[name, ["value", "low", "high"]].astype(float)
                axis.plot([low, high], [line + lift] * 2, color=colour, linewidth=1.2, gid="interval")
                face = "white" if given else colour
                axis.plot(value, line + lift, "o", color=colour, markerfacecolor=face, markersize=4, gid="correlation")
    top = rows.loc[rows["predictor"] == "ceiling", "value"]
    for value in top:
        axis.axvline(value, color=style.NEUTRAL, linewidth=0.8, linestyle=(0, (1, 1.1)), gid="ceiling")
    axis.axvline(0, color=style.NEUTRAL, linewidth=0.6)
    axis.set_yticks(range(len(names)), [NAMES[name] for name in names])
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.yaxis.tick_right()
    axis.set_xlim(float(np.nanmin([-0.6, *rows["low"] - 0.03])), 1.03)
    axis.set_xlabel("Rank correlation within families")


def _caption(shown: pd.DataFrame) -> str:
    counted, seeds = int((shown["why"] == "").sum()), int(shown["seeds"].max())
    return (
        f"{counted} worlds that count of {len(shown)} measured, {seeds} seeds each; bars: standard deviation over "
        "seeds; hollow: no arm learned half of it on development seeds. Excess bits: of every token read from left to "
        "right, mean over training. Expected: what a table pays that adds 1/2 to its counts and shares nothing between "
        "contexts; dashed: as much as expected. Right, blue: correlation; red: given what visits alone expect; lines: "
        "95 % intervals; dotted: what a perfect predictor would reach."
    )

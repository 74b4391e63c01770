"""Claim under test: arms that differ in one thing end differently. What every arm of a study reached, seed by seed."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from figures.drawing import arms, style

COLUMNS = ["study", "condition", "arm", "seed", "outcome", "value"]
LINE = 0.24  # inches an arm takes
LOG = 30.0  # times the smallest that the largest value is, from which on an axis is logarithmic
FLOOR = 1e-3  # lowest value on a logarithmic axis


def draw(rows: pd.DataFrame) -> Figure:
    """A row of panels per condition, a panel per outcome, a line per arm: each seed small, the mean large.

    Columns `COLUMNS`; outcome: what its axis says. ValueError where there are none, or several studies'.
    """
    studies = sorted(rows["study"].unique())
    if len(studies) != 1:
        raise ValueError(f"rows: wanted outcomes of one study; came {', '.join(studies) or 'no rows at all'}; name one")
    looks = style.looks(rows["arm"])
    conditions = {str(name): part for name, part in rows.groupby("condition", sort=False)}
    panels = max(part["outcome"].nunique() for part in conditions.values())
    heights = [LINE * part["arm"].nunique() + 0.65 for part in conditions.values()]
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(max(4.6, 1.0 + 1.6 * panels), sum(heights) + 0.1, _caption(rows))
        grid = body.subplots(len(conditions), panels, sharey="row", squeeze=False, height_ratios=heights)
        for axes, (name, part) in zip(grid, conditions.items(), strict=True):
            _draw_condition(axes, part, looks)
            axes[0].set_title(name, loc="left", weight="bold")
    return drawing


def _draw_condition(axes: np.ndarray, rows: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> None:
    """Panels of one condition, arms in the order of the first outcome; axes that are left over are taken away."""
    outcomes = list(dict.fromkeys(rows["outcome"]))
    order = rows[rows["outcome"] == outcomes[0]].groupby("arm")["value"].mean().sort_values(kind="stable")
    names = [*order.index, *sorted(set(rows["arm"]) - set(order.index))]
    for axis, outcome in zip(axes, outcomes, strict=False):
        part = rows[rows["outcome"] == outcome]
        log = bool(part["value"].min() > 0 and part["value"].max() > LOG * part["value"].min())
        axis.set_xlabel(outcome)
        if log:
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
        for line, name in enumerate(names):
            values = part.loc[part["arm"] == name, "value"].to_numpy()
            if len(values):
                _draw_arm(axis, np.maximum(values, FLOOR) if log else values, line, *looks[name], log)
        if outcome.startswith("Score"):  # a share: where an interval reaches beyond it says nothing
            axis.set_xlim(-0.03, 1.03)
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
    for axis in axes[len(outcomes) :]:
        axis.set_axis_off()
    axes[0].set_yticks(range(len(names)), [style.label(name) for name in names])
    axes[0].set_ylim(len(names) - 0.4, -0.6)


def _draw_arm(axis: Axes, values: np.ndarray, line: int, colour: str, marker: str, log: bool) -> None:
    """Mean and interval, geometric on a logarithmic axis, over the values of the seeds."""
    small = {"color": colour, "markersize": 4, "markeredgewidth": 0.7, "alpha": 0.8, "gid": "seed"}
    axis.plot(values, np.full(len(values), line + 0.22), "|", **small)
    mean, half = arms.interval(np.log(values) if log else values)
    low, middle, high = np.exp([mean - half, mean, mean + half]) if log else (mean - half, mean, mean + half)
    if not np.isnan(half):
        axis.plot([low, high], [line, line], color=colour, linewidth=1.2, zorder=2, gid="interval")
    axis.plot(middle, line, marker, color=colour, markersize=4.5, zorder=3, gid="mean")


def _caption(rows: pd.DataFrame) -> str:
    study = f"Study {rows['study'].iloc[0]}; " if rows["study"].iloc[0] else ""
    return (
        f"{study}n = {arms.seed_count(rows)} seeds an arm, which are in the order of the left panel. Large: mean "
        "over seeds (geometric on a logarithmic axis), line: its 95 % t-interval, from three seeds on; small: each "
        "seed. Arms are paired by seed, so intervals that overlap may still differ: see the verdicts."
    )

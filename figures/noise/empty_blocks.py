"""Claim: how often a block gets no training signal depends on the schedule's formula, by orders of magnitude."""

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from figures.drawing import style

# Colour, marker and formula of every law of the mask rate u; t is uniform on (0, 1].
LAWS = {
    "linear": ("black", "o", "$u = t$ (linear)"),
    "power(p=2)": ("blue", "D", "$u = t^2$"),
    "cos": ("sky", "s", r"$u = 1 - \cos(\pi t/2)$"),
    "sin": ("vermillion", "^", r"$u = \sin(\pi t/2)$"),
    "cos2": ("orange", "v", r"$u = 1 - \cos^2(\pi t/2)$"),
    "loglinear": ("olive", "P", r"$u = (1 - \epsilon)\,t$ (log-linear)"),
    "geometric": ("teal", "X", r"$u = 1 - \exp(-s_0^{1-t} s_1^t)$"),
    "interval(.45,.95)": ("wine", "*", "$u$ ~ U(.45, .95)"),
    "cap(.1)": ("pink", "p", "$u$ ~ U(0, .1)"),
    "cap(.5)": ("teal", "D", "$u$ ~ U(0, .5)"),
    "atom_clip(B)": ("green", "h", r"$u = \max(t, 1/B)$, the paper's"),
    "ramp(.001,1)": ("grey", ".", "$u$ ~ U(0, c), c ~ U(.001, 1)"),
    "interval(1/B,1)": ("indigo", "o", "$u$ ~ U(1/$B$, 1)"),
}
FLOOR = 1e-4  # lowest probability shown


def draw(rows: pd.DataFrame) -> Figure:
    """Probability against block size, log axes: closed forms as lines, drawn masks as points with 95 % intervals.

    ValueError where there are no rows.
    """
    if rows.empty:
        raise ValueError("rows: wanted those of experiments/no_signal.py, got none; run it again")
    caption = (
        "Lines: closed forms (points joined). Points: share of empty blocks among masks drawn by the training code, "
        f"n = {rows['draws'].iloc[0]:,} blocks each, with 95 % Clopper-Pearson intervals; none where no block was "
        "empty. Legend in the order of the right ends; log-linear lies under linear."
    )
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(6.4, 3.7, caption)
        axis = body.subplots()
        for name in _by_last_value(rows):
            _draw_schedule(axis, rows[rows["schedule"] == name].sort_values("block_size"), name)
        sizes = sorted(rows["block_size"].unique())
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_ylim(FLOOR, 1.3)
        axis.xaxis.set_major_locator(FixedLocator(sizes))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
        axis.set_xlabel("Block size $B$ (tokens)")
        axis.set_ylabel("P(no token of a block is masked), before any guard")
        body.legend(*axis.get_legend_handles_labels(), loc="outside right center", title="Mask rate $u$")
    return drawing


def look(name: str) -> tuple[str, str, str]:
    """Colour, marker and label of a law of the mask rate; of one that is not listed, grey and its name."""
    colour, marker, label = LAWS.get(name, ("grey", ".", name))
    return style.PALETTE[colour], marker, label


def _by_last_value(rows: pd.DataFrame) -> list[str]:
    """Schedules from high to low at their largest block, so that the legend lists lines as they end."""
    last = rows.sort_values("block_size").groupby("schedule", sort=False)["closed_form"].last()
    return list(last.sort_values(ascending=False, kind="stable").index)


def _draw_schedule(axis: Axes, part: pd.DataFrame, name: str) -> None:
    colour, marker, label = look(name)
    known = part[part["closed_form"] > 0]
    axis.plot(known["block_size"], known["closed_form"], color=colour, linewidth=1.0, zorder=2)
    seen = part[part["empty"] > 0]
    reach = [seen["estimate"] - seen["low"], seen["high"] - seen["estimate"]]
    axis.errorbar(
        seen["block_size"],
        seen["estimate"],
        yerr=reach,
        fmt=marker,
        color=colour,
        markersize=3.0,
        elinewidth=0.8,
        capsize=1.5,
        label=label,
        zorder=3,
    )

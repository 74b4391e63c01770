"""Claim: how often a block gets no training signal depends on the schedule's formula, by orders of magnitude."""

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from figures import style

COLOURS = ["#000000", "#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#999933", "#44AA99", "#882255", "#CC79A7", "#009E73",
           "#332288"]  # fmt: skip
MARKERS = "oDs^vPX*pho"
FLOOR = 1e-4  # lowest probability shown


def draw(rows: pd.DataFrame) -> Figure:
    """Probability against block size, log axes: closed forms as lines, drawn masks as points with 95 % intervals.

    ValueError where there are no rows.
    """
    if rows.empty:
        raise ValueError("rows: wanted those of experiments/no_signal.py, got none; run it again")
    with matplotlib.rc_context(style.RC):
        drawing = Figure(figsize=(5.6, 3.9), layout="constrained")
        axis = drawing.subplots()
        for (name, part), colour, marker in zip(rows.groupby("schedule", sort=False), COLOURS, MARKERS, strict=False):
            _draw_schedule(axis, part.sort_values("block_size"), str(name), colour, marker)
        sizes = sorted(rows["block_size"].unique())
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_ylim(FLOOR, 1.3)
        axis.xaxis.set_major_locator(FixedLocator(sizes))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
        axis.set_xlabel("Block size B (tokens)")
        axis.set_ylabel("P(no masked token), before any guard")
        drawing.legend(*axis.get_legend_handles_labels(), loc="outside right center")
        drawing.supxlabel(
            f"Lines: closed forms. Points: masks drawn as in training, {rows['draws'].iloc[0]:,} blocks each,\n"
            "with 95 % Clopper-Pearson intervals; none where no block was empty.",
            fontsize=style.RC["legend.title_fontsize"],
        )
    return drawing


def _draw_schedule(axis: Axes, part: pd.DataFrame, name: str, colour: str, marker: str) -> None:
    known = part[part["closed_form"] > 0]
    axis.plot(known["block_size"], known["closed_form"], color=colour, linewidth=1.0, zorder=2)
    seen = part[part["empty"] > 0]
    reach = [seen["estimate"] - seen["low"], seen["high"] - seen["estimate"]]
    axis.errorbar(seen["block_size"], seen["estimate"], yerr=reach, fmt=marker, color=colour, markersize=3.0,
                  elinewidth=0.8, capsize=1.5, label=name, zorder=3)  # fmt: skip

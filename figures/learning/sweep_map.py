"""Claim under test: small blocks and a warmup of the mask rate help. What a sweep found, by block size and warmup."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from figures.drawing import arms, sampler_labels, style

# Of trials.parquet, a row per trial and seed, what is drawn; it has a column for every parameter besides.
COLUMNS = {
    "sweep": "str",
    "trial": "int64",
    "seed": "int64",
    "state": "str",
    "value": "float64",
    "block_size": "int64",
    "warmup": "float64",
}
VALUES = 6  # different warmups that are shown as they are; more are put into bins
BINS = 5


def draw(rows: pd.DataFrame) -> Figure:
    """Left a heat map of mean values with intervals over trials, right every trial with the range over its seeds.

    ValueError where no trial is complete.
    """
    complete = rows[rows["state"] == "complete"]
    if complete.empty:
        raise ValueError("rows: wanted complete trials of a sweep, came none; type python experiments/sweep.py again")
    trials = complete.groupby(["trial", "block_size", "warmup"], as_index=False)["value"].agg(["mean", "min", "max"])
    edges, names = bins(trials["warmup"].to_numpy())
    cells = summary(trials.assign(bin=np.clip(np.digitize(trials["warmup"], edges) - 1, 0, len(names) - 1)))
    sizes = sorted(trials["block_size"].unique())
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(7.2, 0.42 * len(sizes) + 1.4, _caption(rows, trials))
        left, right = body.subplots(1, 2, width_ratios=(1.25, 1))
        _draw_map(left, body, cells, sizes, names)
        body.legend(
            handles=_draw_trials(right, trials, sizes, len(names)),
            ncols=len(sizes),
            loc="outside lower right",
            handletextpad=0.1,
            columnspacing=1.0,
        )
    return drawing


def bins(warmup: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Lower edges and names of the columns: the warmups themselves where they are few, else parts of their range."""
    found = np.unique(warmup)
    if len(found) <= VALUES:
        return found, [f"{value:g}" for value in found]
    step = max(np.ceil(20 * found.max() / BINS) / 20, 0.05)  # whole twentieths
    edges = step * np.arange(max(1, int(np.ceil(found.max() / step - 1e-9))))
    return edges, [f"{edge:.2g}–{edge + step:.2g}" for edge in edges]


def summary(trials: pd.DataFrame) -> pd.DataFrame:
    """Mean over the trials of a cell, half its 95 % t-interval (nan below three trials) and their number, by block
    size and column."""
    found = {}
    for key, part in trials.groupby(["block_size", "bin"]):
        found[key] = (*arms.interval(part["mean"].to_numpy()), len(part))
    return pd.DataFrame(found, index=["mean", "half", "trials"]).T


def _draw_map(axis: Axes, body: SubFigure, cells: pd.DataFrame, sizes: list[int], names: list[str]) -> None:
    grid = np.full((len(sizes), len(names)), np.nan)
    for (size, column), cell in cells.iterrows():
        grid[sizes.index(size), int(column)] = cell["mean"]
    low, high = np.nanmin(grid), np.nanmax(grid)
    norm = LogNorm(max(low, 1e-6), max(high, low * 1.001, 2e-6))
    image = axis.pcolormesh(np.ma.masked_invalid(grid), cmap=style.MAP, norm=norm, edgecolors="white", linewidth=1.0)
    for line in range(len(sizes)):
        for column in range(len(names)):
            _write_cell(axis, cells, (sizes[line], column), (column + 0.5, line + 0.5), norm)
    axis.set_xticks(np.arange(len(names)) + 0.5, names)
    axis.set_yticks(np.arange(len(sizes)) + 0.5, [f"{size:g}" for size in sizes])
    axis.tick_params(length=0)
    axis.grid(False)
    for side in axis.spines.values():
        side.set_visible(False)
    axis.set_xlabel("Warmup, share of the second stage's steps")
    axis.set_ylabel("Block size $B$ (tokens)")
    axis.set_title("Mean over trials ± half a 95 % interval")
    bar = body.colorbar(image, ax=axis, shrink=0.9, pad=0.02, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(FixedLocator(np.geomspace(norm.vmin, norm.vmax, 5)))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.tick_params(labelsize=6)


def _write_cell(axis: Axes, cells: pd.DataFrame, key: tuple[int, int], at: tuple[float, float], norm: LogNorm) -> None:
    """What a cell holds: its mean, half an interval where there is one, and how many trials."""
    look = {"ha": "center", "va": "center", "gid": "cell"}
    if key not in cells.index:
        axis.text(*at, "no trial", color=style.NEUTRAL, fontsize=6, **look)
        return
    cell = cells.loc[key]
    half = "" if np.isnan(cell["half"]) else f" ± {cell['half']:.2g}"
    colour = "white" if norm(cell["mean"]) > style.DARK else "black"
    axis.text(*at, f"{cell['mean']:.2f}{half}\nn = {int(cell['trials'])}", color=colour, fontsize=6, **look)


def _draw_trials(axis: Axes, trials: pd.DataFrame, sizes: list[int], columns: int) -> list[Line2D]:
    """Every trial at its own warmup, moved a little aside by block size so that none hides another; the legend."""
    aside = (trials["warmup"].max() or 1.0) / max(1, 12 * columns)
    handles = []
    for index, (size, (colour, marker)) in enumerate(zip(sizes, _looks(len(sizes)), strict=True)):
        part = trials[trials["block_size"] == size]
        at = part["warmup"] + aside * (index - (len(sizes) - 1) / 2)
        error = [part["mean"] - part["min"], part["max"] - part["mean"]]
        axis.errorbar(
            at, part["mean"], yerr=error, fmt=marker, color=colour, markersize=3.4, elinewidth=0.6, gid=f"trials {size}"
        )
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="", label=f"B = {size:g}"))
    axis.set_yscale("log")
    sampler_labels.dress_log(axis, "y", axis.get_ylim())
    axis.set_xlabel("Warmup, share of the second stage's steps")
    axis.set_ylabel("Excess bits")
    axis.set_title("Every trial, range over its seeds")
    return handles


def _looks(count: int) -> list[tuple[str, str]]:
    """A colour and a marker for each size in order."""
    names = ("indigo", "blue", "teal", "olive", "orange", "vermillion", "wine", "pink", "black", "grey")
    return [(style.PALETTE[names[i % len(names)]], "os^DvPX*hp"[i % 10]) for i in range(count)]


def _caption(rows: pd.DataFrame, trials: pd.DataFrame) -> str:
    states = rows.drop_duplicates("trial")["state"].value_counts()
    lost = ", ".join(f"{states[state]} {state}" for state in ("failed", "pruned") if state in states)
    seeds = rows.groupby("trial")["seed"].nunique().max()
    return (
        f"Sweep {rows['sweep'].iloc[0]}: n = {len(trials)} complete trials{f' ({lost})' if lost else ''}, {seeds} "
        "seed(s) each. Value: the sweep's objective, less is better: unless it was set otherwise, bits a token above "
        "the oracle at block size 1, mean over training. A trial is the mean over its seeds; intervals: t over the "
        "trials of a cell, from three on. Trials of a cell differ in the other parameters too, as the sampler chose "
        "them: cells describe the search and are no controlled comparison."
    )

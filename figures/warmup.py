"""Claim of the paper: a warmup of the mask rate tames the first gradients. Loss and gradient norm by step, without and
with it, as its Figure 4; beside them the same per scored token, which takes out what is only scale."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import style

LABELS = {"none": "no warmup", "cap": "cap only", "drop": "weight dropped only", "cap_drop": "both: the paper's",
          "ar": "AR"}  # fmt: skip
COLOURS = {"none": "#D55E00", "cap": "#E69F00", "drop": "#CC79A7", "cap_drop": "#0072B2", "ar": style.NEUTRAL}
METRICS = {
    "loss": "Loss as trained\n(nats / all tokens)",
    "scored_nats": "Cross-entropy\n(nats / scored token)",
    "grad_norm": "Gradient norm\n(all tokens)",
    "grad_norm_scored": "Gradient norm\n(scored tokens)",
}
COLUMNS = {"Without warmup": ["ar", "none"], "One ingredient": ["ar", "cap", "drop"],
           "With warmup": ["ar", "cap_drop"]}  # fmt: skip
BINS = 48  # a line is the median within steps that are neighbours on a log axis


def draw(rows: pd.DataFrame, end: int) -> Figure:
    """A row of panels per measurement, log axes; thin: every step of every seed, thick: medians over both.

    end: the warmup's last step. ValueError where no run has logged a loss.
    """
    logged = rows[rows["metric"].isin(METRICS) & (rows["value"] > 0)]
    if logged.empty:
        raise ValueError("runs: wanted logged losses and gradient norms; came none; name the runs of a warmup study")
    shown = [arm for arm in COLOURS if (logged["regime"] == arm).any()]
    with matplotlib.rc_context(style.RC):
        drawing = Figure(figsize=(7.2, 1.45 * len(METRICS) + 0.8), layout="constrained")
        grid = drawing.subplots(len(METRICS), len(COLUMNS), sharex=True, sharey="row")
        for line, (metric, label) in zip(grid, METRICS.items(), strict=True):
            line[0].set_ylabel(label)
            for axis, arms in zip(line, COLUMNS.values(), strict=True):
                for arm in (arm for arm in arms if arm in shown):
                    part = logged[(logged["metric"] == metric) & (logged["regime"] == arm)]
                    draw_series(axis, part[["seed", "step", "value"]], COLOURS[arm])
                axis.axvline(end, color=style.NEUTRAL, linewidth=0.6, zorder=1, gid="end of warmup")
        dress(grid, list(COLUMNS))
        seeds = logged["seed"].nunique()
        handles = [Line2D([], [], color=COLOURS[arm], label=LABELS[arm]) for arm in shown]
        drawing.legend(handles=handles, ncols=len(handles), loc="outside lower center",
                       title=f"Thin: each step of {seeds} seed(s); thick: their median; vertical: end of warmup. Norms "
                             "before clipping.")  # fmt: skip
    return drawing


def draw_series(axis: Axes, points: pd.DataFrame, colour: str) -> None:
    """Columns seed, step, value: each seed thin, the median of seeds and neighbouring steps thick."""
    for _, run in points.groupby("seed"):
        run = run.sort_values("step")
        axis.plot(run["step"], run["value"], color=colour, linewidth=0.3, alpha=0.35, zorder=2)
    edges = np.geomspace(1, points["step"].max() + 1, BINS)
    bins = np.digitize(points["step"], edges)
    middle = points.groupby(bins)[["step", "value"]].median()
    axis.plot(middle["step"], middle["value"], color=colour, linewidth=1.3, zorder=3)


def dress(grid: np.ndarray, titles: list[str]) -> None:
    """Log axes, titles above, steps below."""
    for axis in grid.flat:
        axis.set_xscale("log")
        axis.set_yscale("log")
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title)
    for axis in grid[-1]:
        axis.set_xlabel("Training step")

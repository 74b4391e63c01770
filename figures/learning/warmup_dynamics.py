"""Claim of the paper: a warmup of the mask rate tames the first gradients. Loss and gradient norm by step, without and
with each of its ingredients; beside them the same per scored token, which takes out what is only scale."""

import re

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.drawing import sampler_labels, style

LABELS = {
    "none": "no warmup",
    "cap": "cap on mask rates only",
    "drop": "weight dropped only",
    "both": "both: the paper's warmup",
    "ar": "AR",
}
COLOURS = {
    "none": style.PALETTE["vermillion"],
    "cap": style.PALETTE["orange"],
    "drop": style.PALETTE["pink"],
    "both": style.PALETTE["blue"],
    "ar": style.NEUTRAL,
}
METRICS = {
    "loss": "Loss as trained\n(nats / all tokens)",
    "scored_nats": "Cross-entropy\n(nats / scored token)",
    "grad_norm": "Gradient norm\n(all tokens)",
    "grad_norm_scored": "Gradient norm\n(scored tokens)",
}
COLUMNS = {
    "Without warmup": ["ar", "none"],
    "Cap only": ["ar", "cap"],
    "Weight dropped only": ["ar", "drop"],
    "With warmup": ["ar", "both"],
}
STROKES = ("-", (0, (3, 1.2)), (0, (1, 1)))  # by length of the warmup, the shortest first
BINS = 48  # a line is the median within steps that are neighbours on a log axis


def draw(rows: pd.DataFrame, end: int | None = None) -> Figure:
    """A row of panels per measurement, log axes; thin: every logged step of every seed, thick: medians over both.

    end: the warmup's last step, where the arms' names do not say its length. ValueError where no run has logged a loss.
    """
    logged = select(rows, end)
    shown = [name for name in COLOURS if (logged["ingredient"] == name).any()]
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(7.2, 1.4 * len(METRICS) + 0.6, caption(logged))
        grid = body.subplots(len(METRICS), len(COLUMNS), sharex=True, sharey="row")
        for line, (metric, label) in zip(grid, METRICS.items(), strict=True):
            line[0].set_ylabel(label)
            for axis, names in zip(line, COLUMNS.values(), strict=True):
                draw_panel(axis, logged, metric, names)
        dress(grid, list(COLUMNS))
        handles = [*entries({name: LABELS[name] for name in shown}), *lengths(logged, style.NEUTRAL)]
        body.legend(handles=handles, ncols=min(len(handles), 3), loc="outside lower center")
    return drawing


def ingredient(arm: str) -> tuple[str, float]:
    """What of the warmup an arm has, and for which share of its stage: "" for another arm, nan where not said."""
    found = re.fullmatch(r"(none|cap_drop|cap|drop|both|ar)(?:_(\d*\.?\d+))?", arm)
    if not found:
        return "", float("nan")
    name = "both" if found[1] == "cap_drop" else found[1]
    return name, float(found[2]) if found[2] else float("nan")


def select(rows: pd.DataFrame, end: int | None = None) -> pd.DataFrame:
    """What was logged in the last stage, whose steps are counted from its start; with columns ingredient and end, the
    warmup's last step (nan for none). ValueError where no run has logged a loss.
    """
    known = {arm: ingredient(arm) for arm in rows["regime"].unique()}
    last = rows.groupby("run")["stage"].transform("max")
    starts = rows[(rows["stage"] < last) & (rows["stage"] >= 0)].groupby("run")["step"].max()
    logged = rows[rows["metric"].isin(METRICS) & (rows["value"] > 0) & (rows["stage"] == last)]
    logged = logged.assign(
        step=logged["step"] - logged["run"].map(starts).fillna(0).astype("int64"),
        ingredient=logged["regime"].map(lambda arm: known[arm][0]),
        share=logged["regime"].map(lambda arm: known[arm][1]).astype("float64"),
    )
    logged = logged[(logged["ingredient"] != "") & (logged["step"] > 0)]
    if logged.empty:
        raise ValueError(
            f"runs: wanted logged losses and gradient norms of the arms {', '.join(COLOURS)}; came none; name the runs "
            "of experiments/warmup.py or of the study warmup"
        )
    ends = (logged["share"] * logged["step"].max()).round()
    warmed = ~logged["ingredient"].isin(["none", "ar"])
    return logged.assign(end=ends.where(ends.notna(), float(end or "nan")).where(warmed))


def caption(logged: pd.DataFrame) -> str:
    """What is thin, thick and vertical."""
    counts = logged.groupby("regime")["seed"].nunique()
    seeds = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
    ends = sorted(logged["end"].dropna().unique())
    last = f"; vertical: end of the warmup, step {' or '.join(f'{e:g}' for e in ends)}" if ends else ""
    return (
        f"{logged['corpus'].iloc[0]}, n = {seeds} seeds an arm. Thin: each seed; thick: median over seeds and "
        f"neighbouring steps{last}. No intervals are drawn: the thin lines show the spread. Steps are counted from "
        "the start of diffusion; norms are before clipping. A warmup caps the mask rate, at first near 0, at its end "
        "1, and drops the weight 1/t meanwhile."
    )


def draw_panel(axis: Axes, logged: pd.DataFrame, metric: str, names: list[str]) -> None:
    """One measurement of some ingredients; of several lengths of warmup each has its stroke."""
    ends = sorted(logged["end"].dropna().unique())
    for name in names:
        chosen = logged[(logged["metric"] == metric) & (logged["ingredient"] == name)]
        for end, part in chosen.groupby("end", dropna=False):
            stroke = STROKES[ends.index(end) % len(STROKES)] if end in ends else "-"
            draw_series(axis, part[["seed", "step", "value"]], COLOURS[name], stroke)
            if end in ends:
                axis.axvline(end, color=style.NEUTRAL, linewidth=0.6, linestyle=stroke, zorder=1, gid="end of warmup")


def entries(labels: dict[str, str]) -> list[Line2D]:
    return [Line2D([], [], color=COLOURS[name], label=label) for name, label in labels.items()]


def lengths(logged: pd.DataFrame, colour: str) -> list[Line2D]:
    """The strokes of the legend, where there are warmups of several lengths."""
    ends = sorted(logged["end"].dropna().unique())
    return (
        [
            Line2D([], [], color=colour, linestyle=stroke, label=f"warmup of {end:g} steps")
            for end, stroke in zip(ends, STROKES, strict=False)
        ]
        if len(ends) > 1
        else []
    )


def draw_series(axis: Axes, points: pd.DataFrame, colour: str, stroke: object = "-") -> None:
    """Columns seed, step, value: each seed thin, the median of seeds and neighbouring steps thick."""
    for _, run in points.groupby("seed"):
        run = run.sort_values("step")
        axis.plot(run["step"], run["value"], color=colour, linewidth=0.3, alpha=0.35, zorder=2, gid="seed")
    edges = np.geomspace(points["step"].min(), points["step"].max() + 1, BINS)
    bins = np.digitize(points["step"], edges)
    middle = points.groupby(bins)[["step", "value"]].median()
    axis.plot(middle["step"], middle["value"], color=colour, linewidth=1.3, linestyle=stroke, zorder=3, gid="median")


def dress(grid: np.ndarray, titles: list[str]) -> None:
    """Log axes with plain numbers, titles above, steps below."""
    for axis in grid.flat:
        axis.set_xscale("log")
        axis.set_yscale("log")
    for axis in grid.flat:
        sampler_labels.dress_log(axis, "x", axis.get_xlim())
        sampler_labels.dress_log(axis, "y", axis.get_ylim())
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title)
    for axis in grid[-1]:
        axis.set_xlabel("Training step")

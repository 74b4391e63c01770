"""Curves: the layout of the paper's Figure 2, shared by every figure that follows a measurement through training.

A panel per context sampler and block size; a line per regime, solid in its first stage and dotted after the
switch; dashed, the base model before any step on the new domain; thin and vertical, the switches.
"""

from typing import TypeVar

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from figures.drawing import arms, style

FLOOR = 1e-3  # lowest value on a logarithmic axis
Points = TypeVar("Points", pd.DataFrame, pd.Series)
DOTTED = (0, (1, 1.1))
DASHED = (0, (5, 3))


def figure(
    rows: pd.DataFrame,
    keys: list[tuple[str, int]],
    ylabel: str,
    limits: tuple[float, float] | None = None,
    log: bool = False,
    caption: str | None = None,
    note: str = "",
) -> Figure:
    """Figure of selected rows, one panel per key; the caption defaults to what the lines and bands mean, and `note`."""
    lines = _layout(keys)
    columns = max(map(len, lines))
    entries = _entries(rows, counted=caption is None, wide=columns == 3)
    with matplotlib.rc_context(style.RC):
        size = (max(4.6, 2.4 * columns), 1.95 * len(lines) + 0.15 * len(entries[0]) + 0.3)
        drawing, body = style.sheet(*size, caption or f"{about(rows, log)} {note}".strip())
        grid = body.subplots(len(lines), columns, sharex=True, sharey=True, squeeze=False)
        for axes, line in zip(grid, lines, strict=True):
            draw_panels(axes, rows, line, ylabel, log)
        dress(grid, rows, limits, log)
        _legend(body, entries)
    return drawing


def draw_panels(
    axes: np.ndarray, rows: pd.DataFrame, keys: list[tuple[str, int]], ylabel: str, log: bool = False
) -> None:
    """A panel per key from left to right, those without rows left white; the axes without a key are taken away."""
    panels = arms.panels(rows)
    axes[0].set_ylabel(ylabel)
    for axis, key in zip(axes, keys, strict=False):
        axis.set_title(arms.title(key))
        if key in panels:
            _draw_panel(axis, panels[key], log)
    for axis in axes[len(keys) :]:
        axis.set_axis_off()


def legend(body: SubFigure, rows: pd.DataFrame) -> None:
    """UncertaintyBands, with their number of seeds, and strokes, below a wide grid of panels."""
    _legend(body, _entries(rows, counted=True, wide=True))


def _legend(body: SubFigure, entries: list[list[Line2D]]) -> None:
    handles = [handle for column in entries for handle in column]
    body.legend(handles=handles, ncols=len(entries), loc="outside lower center")


def _layout(keys: list[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    """Keys line by line, three at most; block sizes open a line of their own where one line cannot hold all."""
    if len(keys) <= 3:
        return [keys]
    groups = [[key for key in keys if not key[1]], [key for key in keys if key[1]]]
    return [group[start : start + 3] for group in groups for start in range(0, len(group), 3)]


def _draw_panel(axis: Axes, rows: pd.DataFrame, log: bool) -> None:
    shown = rows.assign(value=rows["value"].clip(lower=FLOOR)) if log else rows
    looks = style.looks(rows["regime"])
    for step in arms.switches(rows):
        axis.axvline(step, color=style.NEUTRAL, linewidth=0.6, zorder=1, gid="switch")
    for regime, height in arms.baselines(shown).items():
        colour = looks[regime][0] if regime else style.NEUTRAL
        axis.axhline(height, color=colour, linewidth=1.0, linestyle=DASHED, zorder=1.5, gid="baseline")
    for regime, (colour, marker) in looks.items():
        values = arms.seeds(shown[shown["regime"] == regime])
        if not values.empty:
            _draw_arm(axis, values, colour, marker, log)


def _draw_arm(axis: Axes, values: pd.DataFrame, colour: str, marker: str, log: bool) -> None:
    """Thin, every seed; thick, their mean where all of them were measured; a band where an interval is no guess."""
    if values.shape[1] == 1:
        _draw_line(axis, values.iloc[:, 0], colour, marker=marker, gid="seed")
        return
    shared = values.dropna()
    middle = spread(shared, log)
    for seed in values:
        _draw_line(axis, values[seed].dropna(), colour, linewidth=0.45, alpha=0.5, gid="seed")
    if values.shape[1] >= arms.SEEDS_FOR_INTERVAL and len(shared) > 1:
        for _, part, _ in _stages(middle):
            steps = part.index.get_level_values("step")
            band = {"alpha": 0.13, "linewidth": 0, "zorder": 2, "gid": "interval"}
            axis.fill_between(steps, part["low"], part["high"], color=colour, **band)
    if len(shared) > 1:
        _draw_line(axis, middle["mean"], colour, marker=marker, gid="mean")


def spread(values: pd.DataFrame, log: bool) -> pd.DataFrame:
    """Mean over seeds and the ends of its interval, geometric on a logarithmic axis."""
    found = [arms.interval(row) for row in (np.log(values) if log else values).to_numpy()]
    ends = [(mean, mean - half, mean + half) for mean, half in found]
    frame = pd.DataFrame(ends, index=values.index, columns=["mean", "low", "high"], dtype=float)
    return np.exp(frame) if log else frame


def _draw_line(axis: Axes, values: pd.Series, colour: str, **look: object) -> None:
    """Curve of one seed or mean: filled marks on a solid line, hollow ones on a dotted line after the switch."""
    every = max(1, -(-len(values) // 8))
    for stage, part, start in _stages(values):
        axis.plot(
            part.index.get_level_values("step"),
            part.to_numpy(),
            color=colour,
            linestyle=DOTTED if stage else "-",
            markerfacecolor="white" if stage else colour,
            markevery=(start, every),
            zorder=3,
            **look,
        )


def _stages(values: Points) -> list[tuple[int, Points, int]]:
    """Stage, points and index of the stage's first own point, each stage joined to the last point before it.

    So the jump at the switch is part of the curve.
    """
    stage = values.index.get_level_values("stage")
    parts = []
    for now in sorted(set(stage)):
        before = np.flatnonzero(stage < now)[-1:]
        own = np.flatnonzero(stage == now)
        parts.append((now, values.iloc[np.concatenate([before, own])], len(before)))
    return parts


def dress(grid: np.ndarray, rows: pd.DataFrame, limits: tuple[float, float] | None, log: bool) -> None:
    """Axes of a grid of panels: scales and limits, steps in thousands where long, labels below the lowest panels."""
    thousands = rows["step"].max() >= 10_000
    short = rows["value"].max() < 100 * max(rows["value"].min(), FLOOR)
    for (line, column), axis in np.ndenumerate(grid):
        lowest = not any(below.axison for below in grid[line + 1 :, column])
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if thousands:
            axis.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step / 1000:g}k" if step else "0"))
        axis.tick_params(labelbottom=lowest, labelleft=column == 0)
        if lowest:
            axis.set_xlabel("Training steps on the new domain")
        if log:
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1,)))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.yaxis.set_minor_formatter(NullFormatter())
            limits = (0.7 * FLOOR, 1.5 * max(rows["value"].max(), FLOOR))  # a band may reach far beyond the data
        if limits:
            axis.set_ylim(limits)


def about(rows: pd.DataFrame, log: bool) -> str:
    """What the lines and bands mean, and which measurements they show."""
    first = rows.iloc[0]
    counts = rows.groupby("regime")["seed"].nunique()
    mean = "geometric mean" if log else "mean"
    parts = []
    if (counts >= arms.SEEDS_FOR_INTERVAL).any():
        parts.append(f"Thick: {mean} over n seeds, where all were measured; band: its 95% t-interval; thin: each seed")
    if (counts == 2).any():
        parts.append(f"two seeds: {mean} and, thin, each seed")
    if (counts == 1).any():
        parts.append("one seed: that run")
    if log and (rows["value"] < FLOOR).any():
        parts.append(f"values below {FLOOR:g} are drawn there")
    text = "; ".join(parts)
    splits = [
        f"{split} split" + f" ({', '.join(sorted(part['contexts'].unique()))} contexts)" * (rows["split"].nunique() > 1)
        for split, part in rows.groupby("split")
    ]
    return f"{first['corpus']}, {first['domain']} domain, {', '.join(splits)}. {text[0].upper()}{text[1:]}."


def _entries(rows: pd.DataFrame, counted: bool, wide: bool) -> list[list[Line2D]]:
    """Legend in columns of equal length: the regimes, with their number of seeds if counted, then the strokes.

    Only a wide figure holds two columns of regimes.
    """
    counts = rows.groupby("regime")["seed"].nunique()
    names = [
        Line2D([], [], color=colour, marker=marker, label=style.label(name) + f" (n = {counts[name]})" * counted)
        for name, (colour, marker) in style.looks(rows["regime"]).items()
    ]
    strokes = [Line2D([], [], color=style.NEUTRAL, label="first stage")]
    if (rows["stage"] > 0).any():
        strokes.append(Line2D([], [], color=style.NEUTRAL, linestyle=DOTTED, label="after the switch"))
    if (rows["stage"] < 0).any():
        strokes.append(
            Line2D([], [], color=style.NEUTRAL, linestyle=DASHED, linewidth=1.0, label="base model, 0 steps")
        )
    if (rows["stage"] > 0).any():
        rule = {"marker": "|", "markersize": 9, "markeredgewidth": 0.6}
        strokes.append(Line2D([], [], color=style.NEUTRAL, linestyle="", label="switch", **rule))
    halved = wide and len(names) > 3 and max(len(str(name.get_label())) for name in names) <= 32
    length = max(2 if wide else len(strokes), -(-len(names) // 2) if halved else len(names))
    columns = []
    for group in (names, strokes):
        for start in range(0, len(group), length):
            column = group[start : start + length]
            columns.append(column + [Line2D([], [], linestyle="", label=" ")] * (length - len(column)))
    return columns

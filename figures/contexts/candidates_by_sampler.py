"""Claim: how many tokens are valid in a context depends on how contexts arise."""

from dataclasses import dataclass

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablate.core.records import FIXED_RATE, INFERENCE
from figures.drawing import sampler_labels, style

DASHED = (0, (4, 2.5))
GAP = 0.075  # share of a panel's height that a line of text needs
# One fits into the other: a mark with a centre is a law whose two values are equal.
FILLED = {"markersize": 3.0, "markeredgewidth": 0.0}
OPEN = {"markersize": 5.6, "markeredgewidth": 0.8, "markerfacecolor": "white"}


@dataclass(frozen=True)
class Measure:
    """A metric and its axis."""

    metric: str
    label: str
    log: bool

    def limits(self, rows: pd.DataFrame) -> tuple[float, float]:
        """Ends of its axis: from 1 where logarithmic, 0 to 1 else, with room for a whole mark."""
        largest = rows.loc[rows["metric"] == self.metric, "value"].max()
        return (0.9, max(1.2 * largest, 2.0)) if self.log else (-0.04, 1.04)


@dataclass(frozen=True)
class Asked:
    """Which tokens are asked for, and how they are drawn. shift: of their dots off a law's line, in lines."""

    key: str
    label: str
    colour: str
    marker: str
    shift: float


MEASURES = (Measure("k1", "Mean $K_1$, valid tokens", True), Measure("certain", "P($K$ = 1)", False))
ASKED = (
    Asked("all", "all scored tokens", style.PALETTE["indigo"], "o", -0.2),
    Asked("answers", "answers", style.PALETTE["pink"], "s", 0.2),
)


def draw(rows: pd.DataFrame) -> Figure:
    """Mean K_1 (tokens) and P(K = 1), against the mask rate and by context sampler.

    ValueError where the rows lack either, or are not those of one survey.
    """
    whose = sampler_labels.about(rows)
    sampler_labels.require(rows, *(measure.metric for measure in MEASURES))
    names = sampler_labels.ordered(rows)
    heights = (1.75, sampler_labels.LINE * len(names) + 0.15)
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(6.8, sum(heights) + 1.45, _caption(rows, whose))
        grid = body.subplots(2, 2, height_ratios=heights)
        for column, measure in enumerate(MEASURES):
            _draw_rates(grid[0, column], rows, measure)
            _draw_laws(grid[1, column], rows, names, measure)
            sampler_labels.dress_laws(grid[1, column], names, named=not column)
        body.legend(handles=_entries(), ncols=3, loc="outside lower center")
    return drawing


def _draw_rates(axis: Axes, rows: pd.DataFrame, measure: Measure) -> None:
    """The measure against the fixed mask rate, and what AR's contexts have."""
    axis.set_xlim(0, 1)
    axis.set_xlabel("Mask rate $t$, the same for every token")
    axis.set_ylabel(measure.label)
    axis.set_ylim(measure.limits(rows))
    if measure.log:
        sampler_labels.dress_log(axis, "y", measure.limits(rows))
    fixed = rows[
        (rows["context_sampler"] == FIXED_RATE) & (rows["weight"] == "loss") & (rows["metric"] == measure.metric)
    ]
    for asked in ASKED:
        points = fixed[fixed["asked"] == asked.key].sort_values("rate")
        look = {"color": asked.colour, "marker": asked.marker, "gid": f"rate {asked.key}"}
        axis.plot(points["rate"], points["value"], zorder=3, clip_on=False, **look)
    found = [(asked, _reference(rows, measure, asked)) for asked in ASKED]
    held = [(asked, height) for asked, height in found if height is not None]
    middles = _apart([_share(axis, height) for _, height in held])
    for (asked, height), middle in zip(held, middles, strict=True):
        axis.axhline(height, color=asked.colour, linestyle=DASHED, linewidth=0.8, zorder=2, gid=f"AR {asked.key}")
        axis.annotate(
            f"AR, {asked.key}",
            (1, middle),
            xycoords="axes fraction",
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=asked.colour,
            fontsize=6.5,
        )


def _draw_laws(axis: Axes, rows: pd.DataFrame, names: list[str], measure: Measure) -> None:
    """A line for each law: filled, weighted as in the loss; open, token by token."""
    axis.set_xlabel(measure.label)
    axis.set_xlim(measure.limits(rows))
    if measure.log:
        sampler_labels.dress_log(axis, "x", measure.limits(rows))
    for asked in ASKED:
        look = {"color": asked.colour, "marker": asked.marker, "linestyle": "", "clip_on": False}
        loss, token = (
            sampler_labels.values(rows, metric=measure.metric, asked=asked.key, weight=weight)
            for weight in ("loss", "token")
        )
        for line, name in enumerate(names):
            height = line + asked.shift
            if name in token:
                axis.plot(token[name], height, gid=f"token {asked.key}", **OPEN, **look)
            if name in loss:
                axis.plot(loss[name], height, gid=f"loss {asked.key}", **FILLED, **look)
            if name in loss and name in token:
                axis.plot([loss[name], token[name]], [height] * 2, color=asked.colour, linewidth=0.7, zorder=1.5)
        reference = _reference(rows, measure, asked)
        if reference is not None:
            axis.axvline(reference, color=asked.colour, linestyle=DASHED, linewidth=0.8, zorder=1)


def _reference(rows: pd.DataFrame, measure: Measure, asked: Asked) -> float | None:
    return sampler_labels.values(rows, metric=measure.metric, asked=asked.key, weight="loss").get(INFERENCE)


def _share(axis: Axes, height: float) -> float:
    """Share of the axis, from the bottom, at which a value lies."""
    return float(axis.transLimits.transform(axis.transScale.transform((0.5, height)))[1])


def _apart(middles: list[float]) -> list[float]:
    """The middles of at most two labels, moved apart as far as text needs."""
    if len(middles) < 2 or abs(middles[0] - middles[1]) >= GAP:
        return middles
    up = 1 if middles[0] >= middles[1] else -1
    centre = sum(middles) / 2
    return [centre + up * GAP / 2, centre - up * GAP / 2]


def _caption(rows: pd.DataFrame, whose: str) -> str:
    return (
        f"{whose}; exact oracle, before any training. $K_1 = 2^H$, with $H$ (bits) the entropy of the token in its "
        "context; $K$ = 1: only one is valid. Top: masks of a fixed rate. Bottom: by context sampler, which says what "
        f"is visible when a token is predicted. {_sample(rows)}"
    )


def _sample(rows: pd.DataFrame) -> str:
    sequences = sampler_labels.sequences_of(rows)
    return f"Means over one sample{f' of n = {sequences:,} sequences a law' if sequences else ''}; no intervals."


def _entries() -> list[Line2D]:
    """Legend in columns: whose tokens, how they are weighted, what AR has."""
    tokens = [Line2D([], [], color=asked.colour, marker=asked.marker, label=asked.label) for asked in ASKED]
    dot = {"color": style.NEUTRAL, "marker": "o", "linestyle": ""}
    weights = [
        Line2D([], [], **FILLED, label="weighted as in the loss", **dot),
        Line2D([], [], **OPEN, label="each asked token counts once", **dot),
    ]
    line = {"color": style.NEUTRAL, "linestyle": DASHED, "linewidth": 0.8}
    return [*tokens, *weights, Line2D([], [], label="AR's value, weighted as in the loss", **line)]

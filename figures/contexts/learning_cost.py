"""Claim: the null theory predicts what learning a law's contexts costs, and what of it serves decoding as AR does."""

from dataclasses import dataclass

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablate.core.records import INFERENCE
from figures.drawing import sampler_labels, style

FLOOR = 1e-3  # bits a token: the left edge of the axis
NONE = 1e-9  # bits a token: less than this is rounding
EDGE = 0.75  # left end of the axis, as a share of its first number


@dataclass(frozen=True)
class TrainingModule:
    """A table, the metric of its cost, and how it is drawn. shift: of its dots off a law's line, in lines. column: of
    its ratios, in points right of the panel."""

    metric: str
    label: str
    heading: str
    colour: str
    marker: str
    shift: float
    column: float


WINE, TEAL = style.PALETTE["wine"], style.PALETTE["teal"]
LEARNERS = (
    TrainingModule("cost_known", "table that knows which tokens are valid, $C(c)$", "$C(c)$", WINE, "o", -0.18, 6),
    TrainingModule("cost_vocabulary", "table over the whole vocabulary", "$V$", TEAL, "s", 0.18, 36),
)
ASKED = {"all": "All scored tokens", "answers": "Answers"}
INFER = {"own": "own contexts", INFERENCE: "AR contexts"}


def draw(rows: pd.DataFrame) -> Figure:
    """Predicted cost in bits a token by law, log axis: of all tokens and of answers, in own contexts and in AR's.

    ValueError where the rows lack either table's cost, or are not those of one survey.
    """
    whose = sampler_labels.about(rows)
    sampler_labels.require(rows, *(learner.metric for learner in LEARNERS))
    names = sampler_labels.ordered(rows)
    costs = rows[rows["metric"].isin([learner.metric for learner in LEARNERS])]
    limits = (EDGE * FLOOR, 1.6 * max(costs["value"].max(), 1.0))
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(6.8, 2 * sampler_labels.LINE * len(names) + 1.7, _caption(rows, whose))
        grid = body.subplots(2, 2, sharex=True)
        for line, (asked, tokens) in zip(grid, ASKED.items(), strict=True):
            for axis, (infer, contexts) in zip(line, INFER.items(), strict=True):
                sampler_labels.dress_log(axis, "x", limits)
                sampler_labels.dress_laws(axis, names, named=infer == "own")
                _draw_panel(axis, paid(rows, asked, infer), names)
                axis.set_title(f"{tokens}, {contexts}")
        for axis in grid[1]:
            axis.set_xlabel("Predicted cost, bits a token")
        body.legend(handles=_entries(costs), ncols=2, loc="outside lower center")
    return drawing


def paid(rows: pd.DataFrame, asked: str, infer: str) -> dict[str, dict[str, float]]:
    """Cost by metric and law, in each law's "own" contexts or in those of one law for all."""
    chosen = rows[rows["infer"] == (rows["context_sampler"] if infer == "own" else infer)]
    return {learner.metric: sampler_labels.values(chosen, metric=learner.metric, asked=asked) for learner in LEARNERS}


def _draw_panel(axis: Axes, costs: dict[str, dict[str, float]], names: list[str]) -> None:
    for learner in LEARNERS:
        found = costs[learner.metric]
        for line, name in enumerate(names):
            if name in found:
                _draw_dot(axis, found[name], line, learner)
                ratio = sampler_labels.times(found[name], _cleared(found.get(INFERENCE, 0.0)))
                _write(axis, line, ratio.replace("x", "×"), learner)
        if _cleared(found.get(INFERENCE, 0.0)):
            _write(axis, -1, learner.heading, learner)


def _draw_dot(axis: Axes, value: float, line: int, learner: TrainingModule) -> None:
    """A dot; where the axis does not reach, an open mark at its left edge with the number beside it."""
    look = {"color": learner.colour, "marker": learner.marker, "linestyle": "", "clip_on": False, "zorder": 3}
    height = line + learner.shift
    if value >= FLOOR:
        axis.plot(value, height, markersize=3.8, gid=learner.metric, **look)
        return
    axis.plot(EDGE * FLOOR, height, markersize=3.8, markerfacecolor="white", gid=f"{learner.metric} low", **look)
    beside = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 5.5}
    axis.annotate(
        f"{_cleared(value):.0e}" if _cleared(value) else "0",
        (EDGE * FLOOR, height),
        color=learner.colour,
        gid=f"{learner.metric} low",
        **beside,
    )


def _cleared(value: float) -> float:
    return value if value >= NONE else 0.0


def _write(axis: Axes, line: int, text: str, learner: TrainingModule) -> None:
    """A word in the learner's column, right of the panel."""
    place = {"xycoords": axis.get_yaxis_transform(), "textcoords": "offset points", "annotation_clip": False}
    axis.annotate(
        text,
        (1, line),
        xytext=(learner.column, 0),
        va="center",
        color=learner.colour,
        fontsize=6.5,
        gid=f"ratio {learner.metric}",
        **place,
    )


def _caption(rows: pd.DataFrame, whose: str) -> str:
    questions = sampler_labels.questions_of(rows)
    counted = f", n = {questions // 2:,} questions a half" if questions else ""
    return (
        f"{whose}; null theory, no training. Bits a token above the exact oracle that a table which shares nothing "
        "between contexts pays, which has learned from half the questions of a law: left, asked the other half, right, "
        "asked AR's. The table that knows $C(c)$ guesses evenly in a context that it never met, which may "
        "cost less than few visits do. Beside a panel: times AR's cost in it; none where AR's is 0. One sample"
        f"{counted}; no intervals."
    )


def _entries(costs: pd.DataFrame) -> list[Line2D]:
    entries = [
        Line2D([], [], color=learner.colour, marker=learner.marker, markersize=3.8, linestyle="", label=learner.label)
        for learner in LEARNERS
    ]
    low = Line2D(
        [],
        [],
        color=style.NEUTRAL,
        marker="o",
        markersize=3.8,
        markerfacecolor="white",
        linestyle="",
        label=f"below {FLOOR:g}: the number beside it",
    )
    return [*entries, low] if (costs["value"] < FLOOR).any() else entries

"""Claim: under random masks the same context seldom comes back, and what training shows is not what decoding meets."""

from dataclasses import dataclass

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablate.core.records import INFERENCE
from figures.drawing import sampler_labels, style

FILLED = {"markersize": 3.2, "markeredgewidth": 0.0}
OPEN = {"markersize": 4.8, "markeredgewidth": 0.8, "markerfacecolor": "white"}


@dataclass(frozen=True)
class Measure:
    """Metrics of a panel, its title and axis. raw: drawn open. upper: the end of a bar. infer: law that they refer to,
    where they refer to one."""

    metric: str
    title: str
    label: str
    raw: str = ""
    upper: str = ""
    infer: str = ""
    log: bool = False


MEASURES = (
    Measure(
        "canonical_visits",
        "How often a context comes back",
        "Mean visits of a context that was met",
        raw="raw_visits",
        log=True,
    ),
    Measure(
        "canonical_unseen",
        "What a sample has not shown",
        "Share of the law's contexts not met",
        upper="canonical_unseen_upper",
    ),
    Measure("coverage", "What serves decoding", "Share of AR's contexts that were met", infer=INFERENCE),
    Measure(
        "jsd_bits", "How far training is from decoding", "Jensen-Shannon divergence from AR's (bits)", infer=INFERENCE
    ),
)
ASKED = {"all": ("all scored tokens", "indigo", "o", -0.18), "answers": ("answers", "pink", "s", 0.18)}


def draw(rows: pd.DataFrame) -> Figure:
    """Visits, unseen mass, coverage and divergence by context sampler, of all tokens and of answers.

    ValueError where the rows lack one of them, or are not those of one survey.
    """
    whose = sampler_labels.about(rows)
    sampler_labels.require(rows, *(measure.metric for measure in MEASURES))
    names = sampler_labels.ordered(rows)
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(6.8, 2 * sampler_labels.LINE * len(names) + 1.7, _caption(rows, whose))
        grid = body.subplots(2, 2)
        for axis, measure in zip(grid.flat, MEASURES, strict=True):
            _draw_panel(axis, rows, names, measure)
        for line in grid:
            for axis, named in zip(line, (True, False), strict=True):
                sampler_labels.dress_laws(axis, names, named)
        body.legend(handles=_entries(), ncols=2, loc="outside lower center")
    return drawing


def _draw_panel(axis: Axes, rows: pd.DataFrame, names: list[str], measure: Measure) -> None:
    axis.set_title(measure.title)
    axis.set_xlabel(measure.label)
    if measure.log:
        largest = rows.loc[rows["metric"].isin([measure.metric, measure.raw]), "value"].max()
        sampler_labels.dress_log(axis, "x", (0.9, max(1.3 * largest, 3.0)))
    else:
        axis.set_xlim(-0.03, 1.03)
    for kind, (_, colour, marker, shift) in ASKED.items():
        value, raw, upper = (
            sampler_labels.values(rows, metric=metric, asked=kind, infer=measure.infer)
            for metric in (measure.metric, measure.raw, measure.upper)
        )
        look = {"color": style.PALETTE[colour], "marker": marker, "linestyle": "", "clip_on": False, "zorder": 3}
        for line, name in enumerate(names):
            height = line + shift
            if name in raw:
                axis.plot(raw[name], height, gid=f"raw {kind}", **OPEN, **look)
            if name in value:
                axis.plot(value[name], height, gid=f"{measure.metric} {kind}", **FILLED, **look)
            for other in (found[name] for found in (raw, upper) if name in found and name in value):
                axis.plot([value[name], other], [height] * 2, color=look["color"], linewidth=0.7, zorder=1.5)


def _caption(rows: pd.DataFrame, whose: str) -> str:
    questions = sampler_labels.questions_of(rows)
    return (
        f"{whose}; exact oracle, before any training. One sample of n = {questions:,} asked tokens a law; visits and "
        "unseen share over all of them, the lower panels from one half (what training shows) to the other half of AR's "
        "(what decoding token by token meets). Contexts count as equal after deleting whatever does not change the "
        "answer; open marks: before deleting. Bars: to the upper bound that holds with 95 % (Good-Turing); the rest "
        "has no intervals."
    )


def _entries() -> list[Line2D]:
    tokens = [
        Line2D([], [], color=style.PALETTE[colour], marker=marker, linestyle="", label=label)
        for label, colour, marker, _ in ASKED.values()
    ]
    dot = {"color": style.NEUTRAL, "marker": "o", "linestyle": ""}
    kinds = [
        Line2D([], [], **FILLED, label="equal but for what does not matter", **dot),
        Line2D([], [], **OPEN, label="equal token for token", **dot),
    ]
    return [*tokens, *kinds]

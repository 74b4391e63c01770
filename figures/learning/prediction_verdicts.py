"""Claim: what the studies say of every prediction. A table with the differences drawn in units of what would matter."""

import textwrap
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from figures.drawing import style

LOOKS = {"supported": ("blue", "o"), "refuted": ("vermillion", "X"), "undecided": ("grey", "s")}
EDGE = 30.0  # thresholds at which the axis ends; what lies beyond is an arrow
CLAIM, OUTCOME = 60, 66  # characters of a line
STEP = 0.125  # inches of a line of text
COLUMNS = {"difference": 0.0, "p": 0.52, "n": 0.69, "verdict": 0.76}  # left ends, shares of the right panel


@dataclass(frozen=True)
class Line:
    """A verdict and where it stands: `middle` and `high` in inches, from the top."""

    row: pd.Series
    words: list[str]
    small: list[str]
    middle: float
    high: float


def draw(rows: pd.DataFrame) -> Figure:
    """A line per prediction, primaries first: the claim, the difference with its interval, p, n and the verdict.

    ValueError where there are no rows.
    """
    if rows.empty:
        raise ValueError("rows: wanted verdicts, came none; type python experiments/verdicts.py")
    groups = {"Primary predictions": rows[rows["primary"]], "Secondary, exploratory": rows[~rows["primary"]]}
    lines, headings, depth = _arranged({name: part for name, part in groups.items() if len(part)})
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(7.2, depth + 0.55, _caption(rows))
        claims, forest, numbers = body.subplots(1, 3, width_ratios=(3.0, 1.4, 2.7), sharey=True)
        for axis in (claims, numbers):
            axis.set_axis_off()
            axis.set_xlim(0, 1)
        claims.set_ylim(depth, 0)
        _dress(forest)
        for name, height in headings.items():
            claims.text(0, height, name, va="center", weight="bold", fontsize=7)
            forest.axhline(height + 0.6 * STEP, color=style.PALE, linewidth=0.6, zorder=0)
        for name, left in COLUMNS.items():
            title = {"difference": "difference [95 %]", "p": "p", "n": "n", "verdict": "verdict"}[name]
            numbers.text(left, min(headings.values()), title, va="center", fontsize=6.5, color=style.NEUTRAL)
        for line in lines:
            _write(claims, numbers, line)
            _draw(forest, line)
    return drawing


def _arranged(groups: dict[str, pd.DataFrame]) -> tuple[list[Line], dict[str, float], float]:
    """Lines, headings with their places, and the depth of all, in inches."""
    lines, headings, depth = [], {}, 0.0
    for name, part in groups.items():
        headings[name] = depth + STEP
        depth += 2 * STEP
        for _, row in part.sort_values(["study", "id"], key=lambda names: names.map(_natural)).iterrows():
            words = textwrap.wrap(f"{row['id']}  {row['claim'][:1].upper()}{row['claim'][1:]}", CLAIM)
            outcome = row["outcome"].replace(", ,", ",")  # of what was logged in training, under no contexts
            where = f"{row['study']}, {row['condition']}: {outcome}; {row['arm']} − {row['other']}. "
            small = textwrap.wrap(f"{where}From {row['source']}. {row['note'].upper()}", OUTCOME)
            high = STEP * (len(words) + 0.9 * len(small) + 0.6)
            lines.append(Line(row, words, small, depth + high / 2, high))
            depth += high
        depth += STEP
    return lines, headings, depth


def _natural(name: str) -> tuple[str, int]:
    """A name so that H10 comes after H9."""
    letters = name.rstrip("0123456789")
    return letters, int(name[len(letters) :] or 0)


def _number(value: float) -> str:
    """To about two digits, without an exponent."""
    digits = 2 if abs(value) < 1 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}".replace("-", "−")


def _write(claims: Axes, numbers: Axes, line: Line) -> None:
    row, top = line.row, line.middle - line.high / 2 + 0.3 * STEP
    claims.text(0, top, "\n".join(line.words), va="top", fontsize=6.5, linespacing=1.25)
    below = top + STEP * len(line.words)
    claims.text(0, below, "\n".join(line.small), va="top", fontsize=5.8, linespacing=1.25, color=style.NEUTRAL)
    own = "p_equal" if row["direction"] == "equal" else "p"
    p = f"{row['p_holm']:.2g}*" if row["primary"] and not np.isnan(row["p_holm"]) else f"{row[own]:.2g}"
    colour, _ = LOOKS[row["verdict"]]
    texts = {
        "difference": f"{_number(row['difference'])} [{_number(row['low'])}, {_number(row['high'])}]",
        "p": p,
        "n": f"{row['seeds']}",
        "verdict": row["verdict"],
    }
    for name, text in texts.items():
        look = {"color": style.PALETTE[colour], "weight": "bold"} if name == "verdict" else {}
        numbers.text(COLUMNS[name], line.middle, text, va="center", fontsize=6.5, **look)


def _draw(axis: Axes, line: Line) -> None:
    """Difference and interval in thresholds, turned so that what was predicted is to the right; what would matter."""
    row, (name, marker) = line.row, LOOKS[line.row["verdict"]]
    colour, equal = style.PALETTE[name], row["direction"] == "equal"
    turned = (-1.0 if row["direction"] == "lower" else 1.0) / row["threshold"]
    mean, (low, high) = turned * row["difference"], sorted(turned * row[end] for end in ("low", "high"))
    axis.fill_between(
        (-1, 1) if equal else (1, EDGE),
        line.middle - 0.4 * line.high,
        line.middle + 0.4 * line.high,
        color=style.PALETTE["sky"],
        alpha=0.18,
        linewidth=0,
        zorder=0.5,
        gid="predicted",
    )
    found = row["detectable"] / row["threshold"]
    for side in (-found, found)[not equal :]:
        if abs(side) <= EDGE:
            axis.plot(side, line.middle, "|", color=style.NEUTRAL, markersize=7, markeredgewidth=0.8, gid="detectable")
    axis.plot(
        np.clip([low, high], -EDGE, EDGE), [line.middle] * 2, color=colour, linewidth=1.1, zorder=2, gid="interval"
    )
    if low < -EDGE:
        axis.plot(-EDGE, line.middle, "<", color=colour, markersize=3.5, clip_on=False)
    if high > EDGE:
        axis.plot(EDGE, line.middle, ">", color=colour, markersize=3.5, clip_on=False)
    if abs(mean) <= EDGE:
        axis.plot(mean, line.middle, marker, color=colour, markersize=4.2, zorder=3, gid="difference")


def _dress(axis: Axes) -> None:
    axis.set_xscale("symlog", linthresh=1.0, linscale=0.8)
    axis.set_xlim(-EDGE, EDGE)
    axis.tick_params(axis="y", length=0, labelleft=False)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="y", visible=False)
    axis.axvline(0, color=style.NEUTRAL, linewidth=0.7, zorder=1)
    for side in (-1, 1):
        axis.axvline(side, color=style.NEUTRAL, linewidth=0.6, linestyle=(0, (2, 2)), zorder=1)
    axis.xaxis.set_major_locator(FixedLocator([-10, -1, 0, 1, 10]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("Difference, in thresholds;\nto the right: as predicted")


def _caption(rows: pd.DataFrame) -> str:
    counts = rows["verdict"].value_counts()
    said = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in LOOKS)
    return (
        f"{said}. Difference: mean over n seeds of the first arm less the second, in units of the outcome; 95 % "
        "interval by bootstrap over seeds, arms paired by seed. Drawn in thresholds, the smallest difference that "
        "would matter, fixed with the prediction (log beyond 1); shaded: what was predicted; tick: smallest "
        "difference that as many seeds find with power .8, if any. p: exact sign flips "
        "(steps to a level: of log-rank scores), of an equality two one-sided t-tests, * adjusted by Holm over the "
        "primaries of a study. A difference shown to be smaller than its threshold refutes a predicted one."
    )

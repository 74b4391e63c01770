"""Outcomes: one number of a run, from its rows. Rates before last scores, bimodal where learning is sudden."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

import numpy as np

from ablate.core import records
from ablate.core.blocks import Grid
from ablate.core.storage import LATER
from ablate.decoding.protocol import Order, Protocol

Frame = Any  # a pandas DataFrame, whose own annotations are too wide to be checked
LEVEL = 0.8  # score that counts as learned


class How(StrEnum):
    """How a curve over training becomes a number.

    mean: area under it over its length in steps. end: last value. before_switch, after_switch: on the two sides of the
    last change of stage. later_mean: mean over the last stage. steps_to: first step at which it has reached the level;
    of a curve that has not, the last step at which it was asked (right-censored).
    """

    mean = "mean"
    end = "end"
    before_switch = "before_switch"
    after_switch = "after_switch"
    later_mean = "later_mean"
    steps_to = "steps_to"


@dataclass(frozen=True)
class Outcome:
    """A curve of a run, by what was measured where, and what becomes of it; in the units of the metric, or in steps.

    block_size: None where the contexts have none. level: of `steps_to`. grid: where blocks are counted from. order,
    pace: of decoding. None of these three counts where the contexts have no such thing.
    """

    metric: str = "excess_bits"
    contexts: str = "block"
    block_size: int | None = 1
    domain: str = "new"
    split: str = "test"
    how: How = How.mean
    level: float = LEVEL
    grid: str = field(default=str(Grid.answer), metadata=LATER)
    order: str = field(default=str(Order.confidence), metadata=LATER)
    pace: str = field(default="tokens:1", metadata=LATER)

    def __post_init__(self) -> None:
        object.__setattr__(self, "how", How(self.how))
        asked = Protocol(self.block_size or 1, Order(self.order), self.pace, Grid(self.grid))
        object.__setattr__(self, "pace", asked.pace)  # as records have it

    def curve(self, rows: Frame) -> Frame:
        """The rows that it is about, of one run or several, after the base model, in order. Raises ValueError where two
        of a run are of one step."""
        sizes = rows["block_size"].isna() if self.block_size is None else rows["block_size"] == self.block_size
        there = (rows["metric"] == self.metric) & (rows["contexts"] == self.contexts) & sizes
        there &= (rows["domain"] == self.domain) & (rows["split"] == self.split) & (rows["stage"] >= 0)
        found = records.under(rows[there], self.grid, self.order, self.pace)
        records.require_single(found, self.words)
        return found.sort_values(["step", "stage"])

    def of(self, run: Frame) -> float | None:
        """The number of one run; None where it was not measured."""
        return self.of_curve(self.curve(run))

    def of_curve(self, curve: Frame) -> float | None:
        """The same, of its curve alone."""
        return MEASURES[self.how](curve, self.level)

    def reached(self, curve: Frame) -> bool:
        """Whether one run's curve ever reached the level."""
        return bool((curve["value"] >= self.level).any())

    @property
    def words(self) -> str:
        """The outcome in a few words."""
        size = "" if self.block_size is None else f" {self.block_size}"
        contexts = {"decode": "block", "": "training"}.get(self.contexts, self.contexts)
        level = f" {self.level:g}" if self.how is How.steps_to else ""
        own = [getattr(self, f.name) for f in fields(self) if f.metadata and getattr(self, f.name) != f.default]
        under = f" ({', '.join(own)})" if own else ""
        return f"{self.metric.replace('_', ' ')}, {contexts}{size}{under}, {self.how.replace('_', ' ')}{level}"


def mean_over_training(curve: Frame, _: float = LEVEL) -> float | None:
    """Area under the curve by trapezoids over its length in steps: the units of the metric; None below two steps."""
    curve = curve[curve["stage"] >= 0].sort_values(["step", "stage"])
    length = curve["step"].max() - curve["step"].min() if len(curve) else 0
    return float(np.trapezoid(curve["value"], curve["step"]) / length) if length else None


def last(curve: Frame, _: float = LEVEL) -> float | None:
    """The last value."""
    return float(curve.sort_values(["step", "stage"])["value"].iloc[-1]) if len(curve) else None


def before_switch(curve: Frame, _: float = LEVEL) -> float | None:
    """The last value before the last stage; None of a run with one stage."""
    return last(curve[curve["stage"] < curve["stage"].max()])


def _last_stage(curve: Frame) -> Frame:
    return curve[curve["stage"] == curve["stage"].max()]


def _after_switch(curve: Frame, _: float) -> float | None:
    later = _last_stage(curve)
    return float(later["value"].iloc[0]) if len(later) and curve["stage"].nunique() > 1 else None


def _later_mean(curve: Frame, _: float) -> float | None:
    return mean_over_training(_last_stage(curve))


def _steps_to(curve: Frame, level: float) -> float | None:
    there = curve[curve["value"] >= level]
    return float(there["step"].min() if len(there) else curve["step"].max()) if len(curve) else None


MEASURES: dict[How, Callable[[Frame, float], float | None]] = {
    How.mean: mean_over_training,
    How.end: last,
    How.before_switch: before_switch,
    How.after_switch: _after_switch,
    How.later_mean: _later_mean,
    How.steps_to: _steps_to,
}
QUESTIONS = {"study": "str", "condition": "str", "arm": "str", "seed": "int64", "question": "int64", "value": "float64"}


def by_question(run: Frame) -> dict[int, float]:
    """Of every held-out question the mean over training of `question_bits`, whose mean over questions is the outcome
    `Outcome()`."""
    rows = run[(run["metric"] == "question_bits") & (run["stage"] >= 0)]
    rows = rows[rows["grid"] == rows["grid"].min()]  # of blocks of one token, which are the same on every grid
    means = {int(str(q)): mean_over_training(curve) for q, curve in rows.groupby("question")}
    return {question: value for question, value in means.items() if value is not None}

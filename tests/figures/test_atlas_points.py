"""The atlas drawn: a point a world, hollow where it does not count, and how well each theory predicts."""

import numpy as np
import pandas as pd
import pytest

from experiments.reports.atlas_table import PREDICTORS, WORLDS
from figures.contexts import atlas_points

FAMILIES = ["facts"] * 3 + ["trace"] * 3


def worlds(**changes):
    n = len(FAMILIES)
    columns = {name: np.linspace(0.5, 1.5, n) for name, dtype in WORLDS.items() if dtype == "float64"}
    columns |= {"world": [f"{f}_{i}" for i, f in enumerate(FAMILIES)], "family": FAMILIES, "seeds": 3, "why": ""}
    return pd.DataFrame({**columns, **changes})[list(WORLDS)].astype(WORLDS)


def predictors():
    rows = [
        {"predictor": "theory", "given": "", "family": "", "value": 0.7, "low": 0.4, "high": 0.9, "p": 0.01},
        {"predictor": "theory", "given": "visits", "family": "", "value": 0.2, "low": -0.1, "high": 0.5, "p": 0.2},
        {"predictor": "visits", "given": "", "family": "", "value": 0.6, "low": 0.3, "high": 0.8, "p": 0.01},
        {"predictor": "ceiling", "given": "", "family": "", "value": 0.95},
    ]
    return pd.DataFrame(rows, columns=list(PREDICTORS)).astype(PREDICTORS)


def marks(axis, gid):
    return [line for line in axis.get_lines() if line.get_gid() == gid]


def drawn(rows):
    return [axis for part in atlas_points.draw(rows, predictors()).subfigs for axis in part.axes]


def test_every_world_is_where_it_was_expected_and_measured():
    rows = worlds(why=["", "", "no arm", "", "", ""], log_ratio=np.arange(6.0))
    theory, visits, _ = drawn(rows)
    for axis, name in ((theory, "theory"), (visits, "visits")):
        points = marks(axis, "world")
        np.testing.assert_allclose([(p.get_xdata()[0], p.get_ydata()[0]) for p in points], rows[[name, "log_ratio"]])
        assert [p.get_markerfacecolor() == "white" for p in points] == [False, False, True, False, False, False]
        assert len({p.get_marker() for p in points}) == 2, "a mark for each family"


def test_predictors_have_their_intervals_and_the_ceiling_is_drawn():
    *_, ranks = drawn(worlds())
    assert [p.get_xdata()[0] for p in marks(ranks, "correlation")] == [0.7, 0.6, 0.2]
    assert [list(p.get_xdata()) for p in marks(ranks, "interval")] == [[0.4, 0.9], [0.3, 0.8], [-0.1, 0.5]]
    assert [p.get_xdata()[0] for p in marks(ranks, "ceiling")] == [0.95]
    low, high = ranks.get_xlim()
    assert low <= -0.1
    assert high >= 0.95


def test_worlds_that_were_not_measured_are_left_out_and_none_is_refused():
    theory, *_ = drawn(worlds(seeds=[3, 0, 3, 3, 3, 3]))
    assert len(marks(theory, "world")) == 5
    with pytest.raises(ValueError, match="worlds: wanted measured ones; came none"):
        atlas_points.draw(worlds(seeds=0), predictors())

"""The atlas drawn: a point a world, hollow where it does not count, and how well each theory predicts."""

import numpy as np
import pytest

from figures.contexts import atlas_points
from tests.figures.example_rows import atlas_predictors, atlas_worlds


def marks(axis, gid):
    return [line for line in axis.get_lines() if line.get_gid() == gid]


def drawn(rows):
    return [axis for part in atlas_points.draw(rows, atlas_predictors()).subfigs for axis in part.axes]


def test_every_world_is_where_it_was_expected_and_measured():
    rows = atlas_worlds(why=["", "", "no arm", "", "", ""], log_ratio=np.arange(6.0))
    table, known, _ = drawn(rows)
    for axis, name in ((table, "table"), (known, "known")):
        points = marks(axis, "world")
        np.testing.assert_allclose([(p.get_xdata()[0], p.get_ydata()[0]) for p in points], rows[[name, "log_ratio"]])
        assert [p.get_markerfacecolor() == "white" for p in points] == [False, False, True, False, False, False]
        assert len({p.get_marker() for p in points}) == 2, "a mark for each family"


def test_predictors_have_their_intervals_and_the_ceiling_is_drawn():
    *_, ranks = drawn(atlas_worlds())
    assert [p.get_xdata()[0] for p in marks(ranks, "correlation")] == [0.7, 0.6, 0.2]
    assert [list(p.get_xdata()) for p in marks(ranks, "interval")] == [[0.4, 0.9], [0.3, 0.8], [-0.1, 0.5]]
    assert [p.get_xdata()[0] for p in marks(ranks, "ceiling")] == [0.95]
    low, high = ranks.get_xlim()
    assert low <= -0.1
    assert high >= 0.95


def test_worlds_that_were_not_measured_are_left_out_and_none_is_refused():
    table, *_ = drawn(atlas_worlds(seeds=[3, 0, 3, 3, 3, 3]))
    assert len(marks(table, "world")) == 5
    with pytest.raises(ValueError, match="worlds: wanted measured ones; came none"):
        atlas_points.draw(atlas_worlds(seeds=0), atlas_predictors())

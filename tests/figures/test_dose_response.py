"""A dial drawn: settings in their order, the last reading of every run, and intervals over seeds."""

import numpy as np
import pandas as pd
import pytest

from ablate.core import records
from figures.drawing.arms import interval
from figures.learning import dose_response
from tests.studies.test_outcomes import RUN

CURVE = {"metric": "excess_bits", "contexts": "block", "split": "test", "domain": "new", "grid": "answer", "stage": 0}


def rows(condition, level, sizes=(1, 32)):
    found = [
        {
            **RUN,
            **CURVE,
            "study": "dial_k",
            "condition": condition,
            "arm": arm,
            "regime": arm,
            "seed": seed,
            "run": f"{condition}-{arm}-{seed}",
            "step": step,
            "block_size": size,
            "value": (level + seed / 10) * (2 if arm == "ar" else 1) + size + (9 if step < 20 else 0),
        }
        for arm in ("ar", "bidllm")
        for seed in range(4)
        for size in sizes
        for step in (0, 10, 20)
    ]
    return records.table(found, records.STUDY)


DIAL = pd.concat([rows("k_16", 3.0), rows("k_2", 1.0), rows("k_4", 2.0)])


def panels(shown):
    return [axis for part in dose_response.draw(shown).subfigs for axis in part.axes]


def means(axis):
    return [list(bar.lines[0].get_ydata()) for bar in axis.containers]


def test_settings_stand_in_their_order_with_the_last_reading():
    one, block = panels(DIAL)
    assert [axis.get_title() for axis in (one, block)] == ["Block size 1", "Block size 32"]
    assert [text.get_text() for text in one.get_xticklabels()] == ["2", "4", "16"]
    levels = np.array([1.0, 2.0, 3.0]) + np.mean([0, 0.1, 0.2, 0.3])
    np.testing.assert_allclose(means(one), [levels + 1, 2 * levels + 1])
    np.testing.assert_allclose(means(block), [levels + 32, 2 * levels + 32])
    assert len([line for line in one.get_lines() if line.get_gid() == "seed"]) == 8
    _, half = interval(np.array([1 + seed / 10 + 1 for seed in range(4)]))
    low, high = one.containers[0].lines[2][0].get_segments()[0][:, 1]
    assert high - low == pytest.approx(2 * half)


def test_of_one_condition_block_sizes_are_the_dial():
    (axis,) = panels(rows("block", 1.0, sizes=(1, 4, 2)))
    assert [text.get_text() for text in axis.get_xticklabels()] == ["1", "2", "4"]
    assert axis.get_xlabel() == "Decoding block size"
    np.testing.assert_allclose(np.diff(means(axis)), [[1, 2], [1, 2]])


def test_arms_are_a_dial_too_with_a_line_for_each_world():
    """The first setting has the readings of bidllm, the second those of ar, which are twice as high."""
    worlds = [rows(world, level) for world, level in (("facts", 3.0), ("trace", 1.0))]
    shares = {"ar": "ar_share_0.95", "bidllm": "ar_share_0"}
    one, _ = panels(pd.concat(worlds).assign(arm=lambda found: found["arm"].map(shares)))
    assert [text.get_text() for text in one.get_xticklabels()] == ["0", "0.95"]
    assert one.get_xlabel() == "Share of the steps under AR"
    middle = np.mean([0, 0.1, 0.2, 0.3])
    np.testing.assert_allclose(means(one), [[level + middle + 1, 2 * (level + middle) + 1] for level in (3.0, 1.0)])


def test_learning_rates_are_a_dial_with_a_line_for_each_way():
    """Of either way the lower rate has readings of level 1, the higher one of level 2; `ar` is twice as high."""
    ways = {"ar": "both", "bidllm": "none"}
    rates = [
        rows("trace", level).assign(arm=lambda found, rate=rate: found["arm"].map(ways) + f"_lr_{rate:g}")
        for level, rate in ((2.0, 2e-3), (1.0, 2.5e-4))
    ]
    both = pd.concat(rates)
    one, _ = panels(both.assign(run=both["arm"] + both["seed"].astype(str), regime=both["arm"]))
    assert [text.get_text() for text in one.get_xticklabels()] == ["0.25", "2"]
    levels = np.array([1.0, 2.0]) + np.mean([0, 0.1, 0.2, 0.3])
    np.testing.assert_allclose(means(one), [2 * levels + 1, levels + 1])


def test_blocks_are_those_of_training_where_they_are_recorded():
    answer = rows("block", 1.0, sizes=(1, 4, 2))
    trained = answer.assign(grid="sequence", value=answer["value"] + 5)
    (axis,) = panels(pd.concat([answer, trained]))
    (alone,) = panels(answer)
    np.testing.assert_allclose(means(axis), np.array(means(alone)) + 5)


def test_sizes_that_agree_have_one_panel():
    """As answers of one token have it: value is then the same in blocks of any size."""
    one, _ = panels(DIAL)
    (alone,) = panels(DIAL.assign(value=(DIAL["value"] - DIAL["block_size"] + 1).round(6)))
    np.testing.assert_allclose(means(alone), means(one))
    assert alone.get_title() == ""


def test_two_dials_are_not_one():
    with pytest.raises(ValueError, match="wanted the settings of one dial, DIAL_<number>; came k_2, other_3"):
        dose_response.draw(pd.concat([rows("k_2", 1.0), rows("other_3", 1.0)]))

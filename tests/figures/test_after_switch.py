"""What arms know after the switch: each length its own curve, the switch in both stages, ends with their intervals."""

import numpy as np
import pandas as pd
import pytest

from ablate.core import records
from figures.drawing.arms import interval
from figures.learning import after_switch
from tests.studies.test_outcomes import RUN

CURVE = {"metric": "excess_bits", "contexts": "block", "split": "test", "domain": "new", "grid": "answer"}
LEVELS = {"ar_to_bidllm": 1.0, "bidllm": 2.0}
FIRST = 10  # steps of the first stage


def rows(condition, length):
    """Falls by a half in each stage; at the switch the second stage begins at 3 times what the first one ended with."""
    points = [(0, 0, 1.0), (0, FIRST, 0.5), (1, FIRST, 1.5), (1, FIRST + 5 * length, 0.25)]
    found = [
        {
            **RUN,
            **CURVE,
            "study": "order",
            "condition": condition,
            "arm": arm,
            "regime": arm,
            "seed": seed,
            "run": f"{condition}-{arm}-{seed}",
            "stage": stage,
            "step": step,
            "block_size": size,
            "value": level * value * (1 + seed / 10) + size,
        }
        for arm, level in LEVELS.items()
        for seed in range(4)
        for size in (1, 32)
        for stage, step, value in points
    ]
    return records.table(found, records.STUDY)


STUDY = pd.concat([rows("trace_mixed_1x", 1), rows("trace_mixed_4x", 4), rows("facts_ar_4x", 4)])


def panels(shown):
    return [axis for part in after_switch.draw(shown).subfigs for axis in part.axes]


def lines(axis, gid):
    return [line for line in axis.get_lines() if line.get_gid() == gid]


def test_each_length_is_a_curve_from_the_switch_on():
    one, block, *facts = panels(STUDY)
    assert [axis.get_title() for axis in (one, block)] == [f"trace, mixed base; block size {size}" for size in (1, 32)]
    mean = np.mean([1 + seed / 10 for seed in range(4)])
    for axis, size in ((one, 1), (block, 32)):
        found = [(list(line.get_xdata()), line.get_ydata()) for line in lines(axis, "after")]
        assert [x for x, _ in found] == [[0, 5], [0, 5], [0, 20], [0, 20]], "lengths, then arms"
        for (_, y), level in zip(found, [1, 2, 1, 2], strict=True):
            np.testing.assert_allclose(y, [1.5 * level * mean + size, 0.25 * level * mean + size])
        before = lines(axis, "before")
        assert [list(line.get_xdata()) for line in before] == [[-FIRST, 0]] * 2, "once an arm"
        np.testing.assert_allclose(before[0].get_ydata(), [mean + size, 0.5 * mean + size])
    assert len(facts) == 2
    assert len(lines(facts[0], "after")) == 2


def test_ends_have_the_interval_over_seeds():
    one, *_ = panels(STUDY)
    _, half = interval(np.array([0.25 * (1 + seed / 10) + 1 for seed in range(4)]))
    bars = [container for container in one.containers if len(container.lines[0].get_xdata())]
    (low, high) = bars[0].lines[2][0].get_segments()[0][:, 1]
    assert high - low == pytest.approx(2 * half)
    assert [bar.lines[0].get_xdata()[0] for bar in bars] == [5, 5, 20, 20]


def test_other_studies_are_refused():
    with pytest.raises(ValueError, match="wanted conditions such as trace_mixed_4x"):
        after_switch.draw(STUDY.assign(condition="trace"))

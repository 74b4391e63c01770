"""Laws of spike statistics."""

import numpy as np
import pytest

from ablate.analysis.spikes import spike_statistics, tail_index


@pytest.mark.parametrize("index", [0.8, 2.0, 5.0])
def test_a_power_law_gives_its_index(index):
    """Hill's estimate has a relative error of 1/sqrt(k), k the values of the tail."""
    values = np.random.default_rng(0).pareto(index, 40_000) + 1
    assert tail_index(values) == pytest.approx(index, rel=5 / np.sqrt(2000))


def test_scale_changes_the_median_alone():
    values = np.random.default_rng(1).lognormal(0, 1, 500)
    one, other = spike_statistics(values), spike_statistics(7 * values)
    assert other.median == pytest.approx(7 * one.median)
    assert (other.ratio, other.tail_index) == pytest.approx((one.ratio, one.tail_index))
    assert other.count == one.count


def test_spikes_are_counted_by_hand():
    """Median 2, deviations 0 or 1 with median 1: more than 8 is a spike."""
    values = [1.0] * 10 + [2.0] * 9 + [3.0] * 11 + [8.0, 8.5, 9.0]
    found = spike_statistics(values)
    assert found.median == 2.0
    assert found.count == 2
    assert found.ratio == pytest.approx(np.quantile(values, 0.99) / 2)
    assert spike_statistics([4.0] * 30).tail_index == np.inf


@pytest.mark.parametrize("values", [[1.0] * 19, [1.0] * 30 + [np.nan], [0.0] + [1.0] * 30, [[1.0] * 30]], ids=str)
def test_what_says_nothing_is_refused(values):
    with pytest.raises(ValueError, match="spike_statistics: wanted"):
        spike_statistics(values)

"""pass@k against every choice of k samples; the interval against what is known of proportions."""

import itertools
import math

import numpy as np
import pytest

from ablate.code_tasks.pass_at_k import interval, pass_at_k


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_it_is_the_share_of_choices_in_which_one_passes(n):
    for passed in range(n + 1):
        results = [True] * passed + [False] * (n - passed)
        for k in range(1, n + 1):
            choices = [any(chosen) for chosen in itertools.combinations(results, k)]
            assert pass_at_k(n, passed, k) == pytest.approx(sum(choices) / len(choices), abs=1e-15)


def test_it_is_right_where_factorials_are_large():
    assert pass_at_k(2000, 1, 100) == pytest.approx(0.05)


@pytest.mark.parametrize("words", [(3, 1, 4), (3, 1, 0), (3, 4, 1)])
def test_others_are_refused(words):
    with pytest.raises(ValueError, match="wanted k in 1"):
        pass_at_k(*words)


def test_the_interval_is_that_of_a_proportion():
    values = np.repeat([1.0, 0.0], [120, 280])
    low, high = interval(values, 0, 1)
    spread = 1.96 * math.sqrt(0.3 * 0.7 / 400)
    assert (low, high) == pytest.approx((0.3 - spread, 0.3 + spread), abs=0.005)
    assert interval(values, 0, 1) == (low, high), "addressed, not consumed"
    assert interval(values[:99] + 0.1 * np.arange(99), 1, 1) != interval(values[:99] + 0.1 * np.arange(99), 0, 1)
    assert interval([1.0, 1.0], 0, 1) == (1.0, 1.0)
    assert all(map(math.isnan, interval([1.0], 0, 1)))

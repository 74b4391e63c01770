"""Rank correlation within families: laws, and what chance gives."""

import numpy as np
import pytest
from scipy.stats import binomtest, spearmanr

from ablate.analysis.family_ranks import (
    ceiling,
    centred_ranks,
    correlation,
    estimate,
    left_out,
    partial_correlation,
    shuffled_errors,
)

FAMILIES = np.repeat(["a", "b", "c", "d", "e"], 10)


def numbers(seed):
    return np.random.default_rng(seed).normal(size=len(FAMILIES))


LEVEL = 5.0 * np.repeat(range(5), 10)  # of a family


def test_of_one_family_it_is_spearmans():
    x, y = numbers(1)[:10], numbers(2)[:10]
    assert correlation(["a"] * 10, x, y) == pytest.approx(spearmanr(x, y).statistic)


def test_ranks_are_centred_in_each_family_and_ties_share():
    ranks = centred_ranks([1, 2, 2, 5, 9, 8, 7], list("aaaabbb"))
    np.testing.assert_allclose(ranks, [-1.5 / 4, 0, 0, 1.5 / 4, 1 / 3, 0, -1 / 3])


def test_levels_of_families_and_monotone_maps_change_nothing():
    x, y = numbers(1), numbers(2) + numbers(1)
    value = correlation(FAMILIES, x, y)
    assert correlation(FAMILIES, np.exp(x) + LEVEL, y - 3 * LEVEL) == pytest.approx(value)
    assert abs(spearmanr(x + LEVEL, y + LEVEL).statistic - value) > 0.1, "pooled ranks are another matter"
    assert correlation(FAMILIES, x, -x) == pytest.approx(-1)


def test_what_only_comes_through_the_given_is_taken_out():
    given = numbers(3)
    x, y = given + 0.3 * numbers(4), given + 0.3 * numbers(5)
    assert correlation(FAMILIES, x, y) > 0.7
    assert abs(partial_correlation(FAMILIES, x, y, given)) < 0.3
    assert partial_correlation(FAMILIES, x, x, given) == pytest.approx(1)
    assert partial_correlation(FAMILIES, given, y, given) == 0


def test_an_estimate_finds_what_is_there_and_nothing_else():
    x = numbers(1)
    found = estimate(correlation, FAMILIES, x, x + 0.5 * numbers(2), draws=300)
    assert found.low <= found.value <= found.high
    assert found.low > 0.4
    assert found.p == pytest.approx(1 / 301)
    none = estimate(correlation, FAMILIES, x + LEVEL, numbers(7) + LEVEL, draws=300)
    assert none.low < 0 < none.high
    assert none.p > 0.05


def test_shuffles_err_at_their_level_where_families_differ_in_level():
    studies = 120
    errors = shuffled_errors(correlation, FAMILIES, numbers(1) + LEVEL, numbers(2) + LEVEL, studies=studies, draws=99)
    within = binomtest(errors, studies).proportion_ci(0.99)
    assert within.low <= 0.05 <= within.high


def test_the_ceiling_is_what_a_perfect_predictor_reaches():
    truth = numbers(1)
    values = np.stack([truth + 0.7 * numbers(i) for i in (11, 12, 13)], axis=1)
    assert ceiling(FAMILIES, values) == pytest.approx(correlation(FAMILIES, truth, values.mean(1)), abs=0.07)
    assert ceiling(FAMILIES, np.stack([truth, truth], axis=1)) == pytest.approx(1)
    with pytest.raises(ValueError, match="wanted two seeds or more, got 1"):
        ceiling(FAMILIES, truth[:, None])


def test_a_left_out_family_is_predicted_by_the_slope_of_the_others():
    x = numbers(1)
    assert left_out(FAMILIES, x, 2 * x + LEVEL) == pytest.approx(dict.fromkeys("abcde", 1.0))
    y = np.where(FAMILIES == "e", -2 * x, 2 * x)
    assert left_out(FAMILIES, x, y)["e"] == pytest.approx(1 - 4)
    assert left_out(FAMILIES, LEVEL, x) == dict.fromkeys("abcde", 0.0), "what does not vary explains nothing"
    assert np.isnan(left_out(FAMILIES, x, LEVEL)["a"])


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(ValueError, match="wanted 3 worlds or more of b, got 2"):
        centred_ranks([1, 2, 3, 4, 5], list("aaabb"))
    with pytest.raises(ValueError, match="wanted finite values"):
        centred_ranks([1, np.nan, 3], list("aaa"))

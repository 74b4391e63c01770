"""Statistics: exact p-values by enumeration, intervals by their variance, errors of both kinds by simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.power import TTestPower

from ablate.analysis import statistics
from ablate.analysis.statistics import Direction, Verdict

RNG = np.random.default_rng(2026)


def within(count, n, rate):
    """Is a simulated count compatible with this rate (exact binomial test at 1e-4)?"""
    return scipy_stats.binomtest(count, n, rate).pvalue > 1e-4


@pytest.mark.parametrize("n", [2, 5, 8])
def test_sign_flip_is_the_enumeration_of_signs(n):
    values = RNG.normal(0.4, 1, n)
    far = [abs(np.dot(s, values)) >= abs(values.sum()) - 1e-12 for s in itertools.product((1, -1), repeat=n)]
    assert statistics.sign_flip(values) == pytest.approx(np.mean(far), abs=1e-12)
    assert statistics.sign_flip(-values) == pytest.approx(statistics.sign_flip(values))


@pytest.mark.parametrize(("n", "p", "family"), [(4, 0.125, 0), (5, 0.0625, 0), (8, 0.0078125, 6)])
def test_what_n_seeds_allow(n, p, family):
    assert statistics.sign_flip(np.arange(1.0, n + 1)) == statistics.least_p(n) == p
    assert statistics.primaries(n) == family
    held = statistics.holm([p] * max(family, 1))
    assert (max(held) <= statistics.ALPHA) == (family > 0)
    assert max(statistics.holm([p] * (family + 1))) > statistics.ALPHA


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert statistics.holm([]) == []


def test_identical_arms_and_single_seeds_show_nothing():
    assert statistics.sign_flip([0.0] * 8) == 1.0
    assert statistics.sign_flip([3.0]) == 1.0


def test_more_seeds_than_can_be_enumerated():
    values = RNG.normal(0.35, 1, statistics.EXACT + 14)
    exact = scipy_stats.ttest_1samp(values, 0).pvalue
    assert statistics.sign_flip(values) == pytest.approx(exact, abs=0.02)
    assert statistics.sign_flip(values) == statistics.sign_flip(values)


@pytest.mark.slow
def test_errors_of_both_kinds_by_simulation():
    """Eight seeds: 12 of 256 patterns lie below .05; the stated effect is found at the stated power."""
    n, simulated = 8, 2000
    null = RNG.normal(size=(simulated, n))
    assert within(sum(statistics.sign_flip(row) <= statistics.ALPHA for row in null), simulated, 12 / 256)
    found = sum(statistics.sign_flip(row) <= statistics.ALPHA for row in null + statistics.detectable(n, power=0.8))
    assert within(found, simulated, 0.8)
    assert not within(found, simulated, 0.75)


def test_the_simulated_power_goes_over_into_the_t_tests():
    t_test = TTestPower().solve_power(nobs=statistics.SIMULATED, alpha=statistics.ALPHA, power=0.8)
    assert statistics.detectable(statistics.SIMULATED) == pytest.approx(t_test, rel=0.05)
    assert statistics.detectable(statistics.SIMULATED + 1) < statistics.detectable(statistics.SIMULATED)


def test_too_few_seeds_detect_nothing():
    assert statistics.detectable(5) == np.inf
    assert statistics.detectable(16) < statistics.detectable(8) < np.inf


def test_bootstrap_varies_by_seed_and_by_question():
    values = [RNG.normal(mean, 1 + mean, 12) for mean in (0.0, 0.5, 2.0, 1.0)]
    means = np.array([v.mean() for v in values])
    variance = (means.var() + np.mean([v.var() / len(v) for v in values])) / len(values)
    draws = 40_000
    drawn = statistics.resampled(values, draws)
    assert drawn.mean() == pytest.approx(means.mean(), abs=5 * np.sqrt(variance / draws))
    assert drawn.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / draws))
    interval = statistics.bootstrap(values)
    assert interval.low < interval.mean < interval.high
    assert interval.mean == pytest.approx(means.mean())


def test_equivalence_is_a_half_at_the_margin_and_symmetric():
    values = RNG.normal(0.2, 1, 10)
    assert statistics.equivalence(values, abs(values.mean())) == pytest.approx(0.5)
    assert statistics.equivalence(values, 2) == pytest.approx(statistics.equivalence(-values, 2))
    assert statistics.equivalence(values, 3) < statistics.equivalence(values, 2)
    by_hand = max(
        scipy_stats.ttest_1samp(values, -2, alternative="greater").pvalue,
        scipy_stats.ttest_1samp(values, 2, alternative="less").pvalue,
    )
    assert statistics.equivalence(values, 2) == pytest.approx(by_hand)
    assert (statistics.equivalence([1.0] * 3, 0.5), statistics.equivalence([0.1] * 3, 0.5)) == (1.0, 0.0)


def test_log_rank_scores_are_arrivals_observed_less_expected():
    from statsmodels.duration.survfunc import survdiff

    steps, reached = RNG.exponential(100, 20).round(1), RNG.random(20) < 0.7
    group = np.repeat([0, 1], 10)
    scores = statistics.log_rank_scores(steps, reached)
    assert scores.sum() == pytest.approx(0)
    times = np.unique(steps[reached])
    expected = sum((reached & (steps == t)).sum() * (steps[group == 0] >= t).sum() / (steps >= t).sum() for t in times)
    assert scores[group == 0].sum() == pytest.approx(reached[group == 0].sum() - expected)
    chance = [abs(RNG.permutation(scores)[:10].sum()) >= abs(scores[:10].sum()) - 1e-9 for _ in range(20_000)]
    assert np.mean(chance) == pytest.approx(survdiff(steps, reached.astype(int), group)[1], abs=0.03)  # asymptotic


def test_earlier_arrivals_score_higher_and_none_score_alike():
    scores = statistics.log_rank_scores([5, 10, 20, 30, 30], [True, True, True, True, False])
    assert (np.diff(scores) < 0).all()
    assert not statistics.log_rank_scores([30.0] * 4, [False] * 4).any()


@pytest.mark.parametrize("n", [4, 8])
def test_intervals_of_few_seeds_cover(n):
    """Percentiles as they are drawn would cover 80 % of means of four normal values and 87 % of eight."""
    simulated = 1000
    found = [statistics.bootstrap([[v] for v in row], draws=1000) for row in RNG.normal(size=(simulated, n))]
    covered = sum(interval.low <= 0 <= interval.high for interval in found)
    assert 0.92 * simulated <= covered <= 0.98 * simulated


SPREAD = np.array([-0.1, 0.1, -0.05, 0.05, -0.02, 0.02, 0.08, -0.08])


@pytest.mark.parametrize(
    ("mean", "direction", "p", "verdict"),
    [
        (1.0, Direction.higher, 0.01, Verdict.supported),
        (1.0, Direction.lower, 0.01, Verdict.refuted),
        (-1.0, Direction.lower, 0.01, Verdict.supported),
        (-1.0, Direction.higher, 0.01, Verdict.refuted),
        (1.0, Direction.higher, 0.06, Verdict.undecided),
        (0.0, Direction.higher, 0.9, Verdict.refuted),  # a difference of .5 was predicted, and is not there
        (0.05, Direction.higher, 0.01, Verdict.refuted),  # there, but smaller than was meant
        (0.0, Direction.equal, 0.9, Verdict.supported),
        (1.0, Direction.equal, 0.01, Verdict.refuted),
        (1.0, Direction.equal, 0.06, Verdict.undecided),
    ],
)
def test_verdicts(mean, direction, p, verdict):
    negligible = statistics.equivalence(mean + SPREAD, 0.5)
    assert statistics.judge(direction, mean > 0, p, negligible) is verdict


def test_what_can_but_refute_is_held_to_its_own_level():
    assert statistics.judge(Direction.higher, True, 0.9, 0.03, level=0.05 / 6) is Verdict.undecided
    assert statistics.judge(Direction.equal, True, 0.03, 0.9, level=0.05 / 6) is Verdict.undecided
    assert statistics.judge(Direction.equal, True, 0.03, 0.04, level=0.05 / 6) is Verdict.supported


@pytest.mark.parametrize(
    "call",
    [
        lambda: statistics.sign_flip([]),
        lambda: statistics.sign_flip([1.0, np.nan]),
        lambda: statistics.equivalence([1.0], 1.0),
        lambda: statistics.equivalence([1.0, 2.0], 0.0),
        lambda: statistics.resampled([[1.0, 2.0]], 10),
        lambda: statistics.resampled([[1.0], []], 10),
        lambda: statistics.log_rank_scores([1.0, 2.0], [True]),
        lambda: statistics.detectable(8, power=0.01),
        lambda: statistics.least_p(0),
    ],
)
def test_what_cannot_be_computed_is_refused(call):
    with pytest.raises(ValueError, match="wanted"):
        call()

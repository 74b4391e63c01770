"""The null theory against tables: exact expectations, simulated fits, and the table that does not obey it."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from ablate.analysis.tabular_learner import (
    Tabular,
    cost,
    expected_excess,
    good_turing_unseen,
    parameters,
    worst_excess,
)
from ablate.core.rng import generator
from ablate.evaluation.metrics import excess_bits

LN2 = math.log(2)
SIZES = (1, 2, 3, 4, 8, 16)


def second_order(p_K, visits):
    """The next term of the expected KL of the add-1/2 table over the support p_K > 0, in bits.

    With N ~ Binomial(n, p), E ln(N + 1/2) = ln np + 1/(2n) - (1/24 + p^2/12) / (np)^2 + O((np)^-3), and the total is
    ln(n + K/2) = ln n + K/(2n) - K^2 / (8 n^2). Summed up: [sum 1/p / 24 + 1/12 - K^2/8] / n^2 nats, which is
    -(K^2-1) / (12 n^2) for the uniform law, so that at n = 10 K the first order is (K+1)/(60 K) too large.
    """
    p = np.asarray(p_K, dtype=np.float64)
    p = p[p > 0]
    return float(((1 / p).sum() / 24 + 1 / 12 - len(p) ** 2 / 8) / visits**2 / LN2)


def third_order(p, visits):
    """The term after `second_order`, in bits, every cell's part taken as positive; by the same expansion of E ln."""
    q = 1 - p
    quartic = 1.5 * q + 2 * q * (q - p) + q * (1 - 6 * p * q)
    cell = 1 / 24 - quartic / 4 + 1.5 * q**2 + 2 * q**2 * (q - p) - 2.5 * q**3
    return ((np.abs(cell) / p**2).sum() + len(p) ** 3 / 24) / visits**3 / LN2


def skewed(k, stream):
    """A Dirichlet law on k tokens and the visits at which its rarest token is expected ten times."""
    p = generator(0, stream, k).dirichlet(np.ones(k))
    return p, math.ceil(10 / p.min())


def simulated(p_V, possible_V, visits, fits, index):
    """KL in bits of each of `fits` tables."""
    counts_NV = generator(0, "fits", index).multinomial(visits, p_V, size=fits)
    table = Tabular(np.broadcast_to(possible_V, counts_NV.shape))
    return excess_bits(torch.from_numpy(np.tile(p_V, (fits, 1))), table.fit(counts_NV)).numpy()


def test_known_support_obeys_the_theory_exactly():
    """Uniform laws at n >= 10 K: between the first order and the first two, which differ by 2 %; equal at K = 1."""
    for k in SIZES:
        p = np.full((1, k), 1 / k)
        for visits in (10 * k, 20 * k, 100 * k):
            excess, first = float(Tabular(p > 0).excess(p, visits)[0]), expected_excess(k, visits)
            assert first + second_order(p[0], visits) - 1e-12 <= excess <= first + 1e-12
            assert second_order(p[0], visits) == pytest.approx(-(k**2 - 1) / (12 * visits**2 * LN2), abs=1e-15)


def test_second_order_leaves_third_order():
    """Any law whose rarest token is expected ten times: what is left is the next term, doubled for all later ones."""
    for k in SIZES[1:]:
        for draw in range(4):
            p, enough = skewed(k, f"law/{draw}")
            for visits in (enough, 2 * enough, 8 * enough):
                excess = float(Tabular(np.ones((1, k), bool)).excess(p[None], visits)[0])
                left = excess - expected_excess(k, visits) - second_order(p, visits)
                assert abs(left) <= 2 * third_order(p, visits) + 1e-12


def test_fitted_tables_obey_the_theory_at_ten_visits_a_candidate():
    """Simulation against theory: off by no more than the derived terms and 4.5 standard errors."""
    for k in SIZES:
        for name, (p, visits) in {"uniform": (np.full(k, 1 / k), 10 * k), "skewed": skewed(k, "fitted")}.items():
            sample = simulated(p, np.ones(k, bool), visits, 1500, 2 * k + (name == "skewed"))
            error = abs(second_order(p, visits)) + 2 * third_order(p, visits)
            noise = 4.5 * sample.std(ddof=1) / math.sqrt(len(sample))
            assert abs(sample.mean() - expected_excess(k, visits)) <= error + noise + 1e-12
            exact = float(Tabular(np.ones((1, k), bool)).excess(p[None], visits)[0])
            assert abs(sample.mean() - exact) <= noise + 1e-12


def test_full_vocabulary_does_not_obey_it():
    """V = 20, n = 50: a quarter of a bit at K = 1 and at K = 4 alike, where the theory says 0 and 0.04."""
    everything, visits = np.ones(20, bool), 50
    for k in (1, 4):
        p = np.zeros(20)
        p[:k] = 1 / k
        excess = float(Tabular(everything[None]).excess(p[None], visits)[0])
        known = float(Tabular(p[None] > 0).excess(p[None], visits)[0])
        # the counts are the same, only the total has V/2 more instead of K/2
        assert excess - known == pytest.approx(math.log2((visits + 10) / (visits + k / 2)), abs=1e-12)
        assert round(excess, 2) == 0.25
        sample = simulated(p, everything, visits, 2000, 100 + k)
        assert abs(sample.mean() - excess) <= 4.5 * sample.std(ddof=1) / math.sqrt(2000) + 1e-12
        assert sample.mean() > 5 * (expected_excess(k, visits) + abs(second_order(p, visits)))


@pytest.mark.slow
def test_no_table_pays_more_than_the_worst():
    for k in SIZES:
        for draw, alpha in enumerate((0.05, 0.3, 1.0, 30.0)):
            p = generator(0, f"worst/{draw}", k).dirichlet(np.full(k, alpha), 50)
            entropy = -np.where(p > 0, p * np.log2(np.where(p > 0, p, 1)), 0).sum(-1)
            for visits in (0, 1, 2, 5, 20, 100):
                excess = Tabular(np.ones_like(p, bool)).excess(p, visits)
                assert (excess <= worst_excess(k, entropy, visits) + 1e-12).all()
                if visits == 0:
                    assert excess == pytest.approx(np.log2(k) - entropy, abs=1e-12)
                    assert worst_excess(k, entropy, visits) == pytest.approx(np.log2(k) - entropy, abs=1e-12)


def test_the_worst_is_what_the_least_likely_token_costs():
    for k, visits in ((4, 1), (4, 3), (16, 10)):
        one_sided = np.array([[visits] + [0] * (k - 1)])
        least = float(Tabular(one_sided >= 0).fit(one_sided).min()) / LN2
        assert worst_excess(k, math.log2(k), visits) == pytest.approx(-least - math.log2(k), abs=1e-12)


def laws(contexts=12, k=4):
    """(infer, train, K, H, p) of unlike laws over contexts with uniform and skewed answers."""
    rng = generator(0, "laws")
    infer, train = rng.dirichlet(np.ones(contexts)), rng.dirichlet(np.full(contexts, 5.0))
    k_C = rng.integers(1, k + 1, contexts)
    weights = np.where(np.arange(k) < k_C[:, None], rng.uniform(0.5, 1, (contexts, k)), 0)
    p_CV = weights / weights.sum(-1, keepdims=True)
    entropy = -np.where(p_CV > 0, p_CV * np.log2(np.where(p_CV > 0, p_CV, 1)), 0).sum(-1)
    return infer, train, k_C, entropy, p_CV


def test_cost_is_the_formula_where_training_visits_everything():
    infer, train, k, entropy, _ = laws()
    visits = math.ceil(60 / train.min())
    formula = (infer * (k - 1) / train).sum() / (2 * visits * LN2)
    assert cost(infer, train, k, entropy, visits).bits == pytest.approx(formula, rel=1e-12)
    matched = cost(train, train, k, entropy, visits).bits
    assert matched == pytest.approx(parameters(k) / (2 * visits * LN2), rel=1e-12)
    alike = cost(infer, train, np.full(len(k), 4), entropy, visits).bits  # equal K: the mismatch alone decides
    assert alike == pytest.approx((infer / train).sum() * expected_excess(4, visits), rel=1e-12)


def test_cost_agrees_with_tables_up_to_the_next_order():
    """E[1/N] exceeds 1/m by a factor of at most 1 + 2/m + O(1/m^2), the table's own error is `second_order`."""
    infer, train, k, entropy, p_CV = laws()
    visits = math.ceil(100 / train.min())
    exact = Tabular(p_CV > 0).excess(p_CV, visits, train)
    m = visits * train
    terms = [
        expected_excess(k_c, m_c) * 2 / m_c + 2 * abs(second_order(p, m_c))
        for k_c, m_c, p in zip(k, m, p_CV, strict=True)
    ]
    assert abs(cost(infer, train, k, entropy, visits).bits - infer @ exact) <= infer @ np.array(terms)


def test_a_context_never_visited_costs_a_uniform_guess():
    infer, train, k, entropy, p_CV = laws()
    train = np.where(np.arange(len(train)) < 6, 0, train)
    train /= train.sum()
    exact = Tabular(p_CV > 0).excess(p_CV, 1000, train)[:6]
    assert exact == pytest.approx((np.log2(k) - entropy)[:6], abs=1e-12)
    for visits in (1, 1000, 10**9):
        gone = cost(np.where(np.arange(12) < 6, 1 / 6, 0), train, k, entropy, visits)
        assert gone.unseen == pytest.approx(float(exact.mean()), abs=1e-12)
        assert gone.visited == 0
    nothing = cost(infer, train, k, entropy, 0)
    assert nothing.bits == nothing.unseen == pytest.approx(float(infer @ (np.log2(k) - entropy)), abs=1e-12)
    with pytest.raises(ValueError, match="pi_train to be a distribution"):
        cost(infer, 2 * train, k, entropy, 10)


def test_exact_excess_is_the_mean_over_whole_training_runs():
    """Contexts and tokens drawn together, unvisited contexts included."""
    infer, train, _, _, p_CV = laws()
    table, visits, runs = Tabular(p_CV > 0), 40, 1500
    counts = generator(0, "runs").multinomial(visits, (train[:, None] * p_CV).ravel(), size=runs)
    each = [excess_bits(torch.from_numpy(p_CV), table.fit(c.reshape(p_CV.shape))).numpy() @ infer for c in counts]
    exact = table.excess(p_CV, visits, train) @ infer
    assert abs(np.mean(each) - exact) <= 4.5 * np.std(each, ddof=1) / math.sqrt(runs)


def test_excess_at_k_2_is_the_sum_over_outcomes():
    for p, visits in ((0.3, 7), (0.02, 3), (0.5, 1)):
        total = 0.0
        for n in range(visits + 1):
            q = (n + 0.5) / (visits + 1)
            kl = p * math.log2(p / q) + (1 - p) * math.log2((1 - p) / (1 - q))
            total += stats.binom.pmf(n, visits, p) * kl
        assert float(Tabular(np.ones((1, 2), bool)).excess([[p, 1 - p]], visits)[0]) == pytest.approx(total, abs=1e-12)


def test_a_table_refuses_what_it_holds_impossible():
    table = Tabular(np.array([[True, False, True]]))
    with pytest.raises(ValueError, match=r"token 1 in context \[0\]"):
        table.fit([[1, 1, 0]])
    assert table.fit([[1, 0, 0]]).exp().tolist() == [pytest.approx([0.75, 0, 0.25])]
    with pytest.raises(ValueError, match="p has token 1"):
        table.excess([[0.5, 0.5, 0]], 10)


@pytest.mark.parametrize("p_C", [np.full(300, 1 / 300), 1 / np.arange(1, 301) / (1 / np.arange(1, 301)).sum()])
def test_good_turing_is_unbiased_and_its_bound_holds(p_C):
    visits, runs = 500, 2000
    counts = generator(0, "good-turing", int(1e6 * p_C[0])).multinomial(visits, p_C, size=runs)
    estimates = [good_turing_unseen(c) for c in counts]
    mass = np.array([e.mass for e in estimates])
    truth = np.array([p_C[c == 0].sum() for c in counts])
    expected = (p_C * (1 - p_C) ** (visits - 1)).sum()  # unseen mass after one draw fewer (Good, 1953)
    assert abs(mass.mean() - expected) <= 4.5 * mass.std(ddof=1) / math.sqrt(runs)
    assert np.mean([e.upper < t for e, t in zip(estimates, truth, strict=True)]) <= 0.05


def test_good_turing_counts_singletons():
    unseen = good_turing_unseen([1, 1, 3, 5, 0, 0])
    assert unseen.mass == pytest.approx(0.2)
    bounds = [good_turing_unseen([1, 9999], delta).upper for delta in (0.5, 0.05, 1e-6)]
    assert bounds == sorted(bounds)
    with pytest.raises(ValueError, match="at least one draw"):
        good_turing_unseen([])

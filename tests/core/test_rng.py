import numpy as np
import pytest
import torch
from scipy import stats

from ablate.core.rng import address, generator, permuted, uniform


def test_row_depends_on_its_own_address_alone():
    whole = uniform(3, "mask", range(100), (7,))
    assert torch.equal(uniform(3, "mask", [41, 5], (7,)), whole[[41, 5]])
    assert torch.equal(uniform(3, "mask", [41], (3,)), whole[[41], :3])


def test_addresses_differ_in_every_part():
    keys = {address(s, stream, i) for s in range(5) for stream in ("a", "b") for i in range(5)}
    assert len(keys) == 50
    draws = {float(uniform(s, stream, [i])[0]) for s in range(5) for stream in ("a", "b") for i in range(5)}
    assert len(draws) == 50


def test_neighbouring_addresses_are_uniform_and_independent():
    u = uniform(0, "test", range(4000), (25,)).numpy()
    assert u.min() >= 0
    assert u.max() < 1
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3
    for a, b in ((u[:-1], u[1:]), (u[:, :-1], u[:, 1:]), (u, uniform(1, "test", range(4000), (25,)).numpy())):
        n = a.size
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(n)


def test_generator_is_repeatable():
    assert generator(1, "x", 2).random() == generator(1, "x", 2).random()
    assert generator(1, "x", 2).random() != generator(1, "x", 3).random()


@pytest.mark.parametrize("n", [1, 2, 3, 64, 1000, 4097])
def test_a_lazy_order_has_every_number_once_and_is_another_in_every_epoch(n):
    orders = [permuted(0, "epoch", epoch, n, np.arange(n)) for epoch in range(2)]
    for order in orders:
        assert np.sort(order).tolist() == list(range(n))
    if n >= 64:
        assert (orders[0] == orders[1]).mean() < 0.1
        assert (orders[0] == np.arange(n)).mean() < 0.1


def test_a_lazy_order_has_no_trend_and_takes_any_place_alone():
    n = 10**9
    places = np.arange(20_000)
    order = permuted(3, "epoch", 1, n, places)
    assert len(set(order.tolist())) == len(places)
    assert order.mean() / n == pytest.approx(0.5, abs=0.01)
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.03
    assert abs(np.corrcoef(order, places)[0, 1]) < 0.03
    assert permuted(3, "epoch", 1, n, places[777:778]) == order[777]
    assert permuted(3, "epoch", 1, n, np.array([n - 1]))[0] < n

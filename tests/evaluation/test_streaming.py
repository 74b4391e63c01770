"""A stream reduced chunk by chunk equals the whole; a perfect model is calibrated to the last bit."""

import math

import numpy as np
import pytest
import torch

from ablate.core.rng import generator
from ablate.evaluation.streaming import LOG_ODDS, Calibration, Summary

V = 5


def laws(n=400):
    rng = generator(0, "summary")
    p_NV = torch.from_numpy(rng.dirichlet(np.full(V, 0.5), n))
    p_NV[: n // 4, 0] = 0
    return p_NV / p_NV.sum(-1, keepdim=True), torch.from_numpy(rng.dirichlet(np.ones(V), n)).log()


def test_a_perfect_model_has_no_calibration_error():
    p_NV, _ = laws()
    perfect = Calibration()
    perfect.update(p_NV, p_NV.log())
    assert perfect.error == 0
    assert sum(row["tokens"] for row in perfect.table()) == p_NV.numel()
    for row in perfect.table():
        assert row["predicted"] == row["oracle"]
        assert row["low"] <= row["predicted"] <= row["high"]


def test_calibration_error_is_below_total_variation_and_reaches_it():
    p_NV, logp_NV = laws()
    calibration = Calibration()
    calibration.update(p_NV, logp_NV)
    distance = float((p_NV - logp_NV.exp()).abs().sum(-1).mean() / 2)
    assert 0 < calibration.error < distance
    apart = Calibration(edges=(0.1, 0.3, 0.5))
    p, q = torch.tensor([[[0.3, 0.15, 0.5, 0.05]], [[0.05, 0.2, 0.35, 0.4]]], dtype=torch.float64)
    apart.update(p, q.log())
    assert apart.error == pytest.approx(0.5 * (0.25 + 0.15 + 0.1), abs=1e-15)  # .35 and .4 share a bin: .15 - .35


def test_table_shows_overconfidence_where_it_is():
    """0.9 claimed where the law says 0.7: predicted above the oracle's in the bin of 0.9, below in that of 0.1."""
    calibration = Calibration()
    claimed, law = torch.tensor([[[0.9, 0.1]], [[0.7, 0.3]]], dtype=torch.float64)
    calibration.update(law.repeat(3, 1), claimed.log().repeat(3, 1), torch.tensor([1.0, 2.0, 0.0]))
    low, high = calibration.table()
    assert (low["predicted"], low["oracle"], low["tokens"]) == pytest.approx((0.1, 0.3, 3))
    assert (high["predicted"], high["oracle"]) == pytest.approx((0.9, 0.7))
    assert calibration.error == pytest.approx(0.2)


def test_calibration_of_chunks_is_that_of_the_whole():
    p_NV, logp_NV = laws()
    weight_N = torch.from_numpy(generator(0, "weights").random(len(p_NV)))
    whole, chunked = Calibration(), Calibration()
    whole.update(p_NV, logp_NV, weight_N)
    for part in torch.arange(len(p_NV)).split(37):
        chunked.update(p_NV[part], logp_NV[part], weight_N[part])
    assert chunked.error == pytest.approx(whole.error, rel=1e-12)
    assert chunked.sums_3S == pytest.approx(whole.sums_3S, abs=1e-11)
    assert list(LOG_ODDS) == sorted(set(LOG_ODDS))


def test_summary_of_chunks_has_the_mean_and_quantiles_of_the_whole():
    rng = generator(0, "values")
    values, weights = rng.standard_normal(5000) * np.exp(3 * rng.standard_normal(5000)), rng.random(5000)
    summary = Summary()
    for part in np.array_split(np.arange(5000), 13):
        summary.update(values[part], weights[part])
    assert summary.count == 5000
    assert summary.weight == pytest.approx(weights.sum(), rel=1e-12)
    scale = np.average(np.abs(values), weights=weights)
    assert summary.mean == pytest.approx(np.average(values, weights=weights), abs=1e-12 * scale)
    order = np.argsort(values)
    upto = np.cumsum(weights[order]) / weights.sum()
    for q in (0.01, 0.1, 0.5, 0.9, 0.99):
        exact = values[order][np.searchsorted(upto, q)]
        ratio = summary.quantile(q) / exact
        assert 2 ** (-1 / summary.resolution) <= ratio <= 2 ** (1 / summary.resolution)


def test_summary_counts_whole_numbers_exactly():
    summary, values = Summary(), generator(0, "integers").integers(0, 65, 999)
    summary.update(torch.from_numpy(values))
    for q in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0):
        assert summary.quantile(q) == np.quantile(values, q, method="inverted_cdf")
    assert summary.mean == pytest.approx(values.mean(), rel=1e-12)


def test_summary_takes_signs_and_infinities_and_refuses_nan():
    summary = Summary()
    summary.update([-math.inf, -2.0, 0.0, 3.0, math.nan], [1, 1, 1, 1, 0])
    assert [summary.quantile(q) for q in (0.25, 0.5, 0.75, 1)] == [-math.inf, -2, 0, 3]
    assert summary.mean == -math.inf
    tiny = Summary()
    tiny.update([1e-300, 0.0, -1e-300])
    assert [tiny.quantile(q) for q in (0.3, 0.6, 1)] == [-1e-300, 0, 1e-300]
    with pytest.raises(ValueError, match="value 1 of this chunk is nan"):
        summary.update([0.0, math.nan])
    with pytest.raises(ValueError, match="weight >= 0 for each of 1 values"):
        summary.update([0.0], [-1.0])
    with pytest.raises(ValueError, match="nothing was added"):
        _ = Summary().mean


def test_summary_stays_small():
    summary, rng = Summary(resolution=8), generator(0, "many")
    for _ in range(20):
        summary.update(rng.standard_normal(10_000) * 10.0 ** rng.integers(-300, 300, 10_000))
    assert len(summary.bins) <= 2 * (2 * 40 * 8 + 1) + 1

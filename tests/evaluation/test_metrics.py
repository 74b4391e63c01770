"""Laws of what there is to know in a context and of what a model knows of it."""

import math

import pytest
import torch
from scipy import stats

import synthetic_data
from ablate.core.rng import uniform
from ablate.evaluation.metrics import (
    UncertaintyBands,
    candidate_count,
    candidate_set,
    cross_entropy_bits,
    entropy_bits,
    excess_bits,
    hill_numbers,
    memorisation_index,
    regimes,
    set_fit,
    set_mass,
    spurious_binding,
)

V = 7
ROUNDING = 1e-12  # sums of V terms of order 1 in float64


def laws(n=200):
    """(p_NV with zeros, support, logp_NV positive everywhere), addressed."""
    u_N2V = uniform(0, "knowledge", range(n), (2, V))
    support_NV = uniform(0, "support", range(n), (V,)) < 0.5
    support_NV[:, 0] = True
    weights_NV = torch.where(support_NV, -u_N2V[:, 0].log1p() + 1e-3 + u_N2V[:, 0], 0.0)
    return weights_NV / weights_NV.sum(-1, keepdim=True), support_NV, (4 * u_N2V[:, 1]).log_softmax(-1)


def test_candidate_set_holds_what_reaches_eps():
    p = torch.tensor([0.5, 0.25, 0.125, 0.125, 0.0]).double()
    assert candidate_set(p, 0.25).tolist() == [True, True, False, False, False]
    assert [int(candidate_count(p, eps)) for eps in (1.0, 0.5, 0.125, 1e-300)] == [0, 1, 4, 4]
    for eps in (0.0, 1.5, -1.0):
        with pytest.raises(ValueError, match=r"eps in \(0, 1\].*support_BLV"):
            candidate_set(p, eps)


def test_hill_numbers_of_a_uniform_law_are_its_size_and_fall_with_the_order():
    for k in range(1, V + 1):
        p = torch.zeros(V).double()
        p[V - k :] = 1 / k
        hill = hill_numbers(p)
        assert float(hill.k0) == k
        assert float(hill.k1) == pytest.approx(k, rel=ROUNDING)
        assert float(hill.kinf) == pytest.approx(k, rel=ROUNDING)
    p_NV, support_NV, _ = laws()
    hill = hill_numbers(p_NV, support_NV)
    assert bool((hill.k0 > hill.k1 - ROUNDING * V).all())
    assert bool((hill.k1 > hill.kinf - ROUNDING * V).all())
    assert entropy_bits(p_NV).numpy() == pytest.approx(stats.entropy(p_NV.numpy(), axis=-1, base=2), abs=ROUNDING)


def test_support_size_is_taken_from_the_exact_support():
    p = torch.tensor([1.0, 0.0, 0.0]).double()
    assert float(hill_numbers(p, torch.tensor([True, True, False])).k0) == 2


def test_excess_is_the_divergence():
    p_NV, _, logp_NV = laws()
    expected = stats.entropy(p_NV.numpy(), logp_NV.exp().numpy(), axis=-1, base=2)
    assert excess_bits(p_NV, logp_NV).numpy() == pytest.approx(expected, abs=ROUNDING)
    difference_N = cross_entropy_bits(p_NV, logp_NV) - entropy_bits(p_NV)
    assert excess_bits(p_NV, logp_NV).numpy() == pytest.approx(difference_N.numpy(), abs=ROUNDING)
    assert float(excess_bits(torch.tensor([0.5, 0.5]), torch.tensor([0.0, -math.inf]))) == math.inf
    assert float(excess_bits(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]).log())) == pytest.approx(1)


def test_divergence_splits_into_what_is_outside_and_what_is_within():
    p_NV, support_NV, logp_NV = laws()
    fit = set_fit(p_NV, logp_NV, support_NV)
    whole_N = fit.kl_within - fit.mass.log2()
    assert excess_bits(p_NV, logp_NV).numpy() == pytest.approx(whole_N.numpy(), abs=ROUNDING)
    assert (fit.mass + fit.invalid).numpy() == pytest.approx(1, abs=ROUNDING)
    assert fit.target.numpy() == pytest.approx(1, abs=ROUNDING)
    assert torch.equal(fit.mass, set_mass(logp_NV, support_NV))


def test_mass_alone_rewards_a_uniform_guess():
    p_NV, support_NV, _ = laws()
    guess_NV = (support_NV.double() / support_NV.sum(-1, keepdim=True)).log()
    fit = set_fit(p_NV, guess_NV, support_NV)
    ignorance_N = support_NV.sum(-1).double().log2() - entropy_bits(p_NV)
    assert fit.mass.numpy() == pytest.approx(1, abs=ROUNDING)
    assert float(fit.invalid.abs().max()) == 0
    assert fit.kl_within.numpy() == pytest.approx(ignorance_N.numpy(), abs=ROUNDING)
    assert float(ignorance_N.mean()) > 0.01


def test_a_set_below_the_support_splits_three_ways():
    """KL = KL of (C, not C) + p_0(C) KL within C + p_0(not C) KL within not C."""
    p_NV, _, logp_NV = laws()
    c_NV = candidate_set(p_NV, 0.2)
    keep_N = c_NV.any(-1) & ((p_NV > 0) & ~c_NV).any(-1)
    p_NV, logp_NV, c_NV = p_NV[keep_N], logp_NV[keep_N], c_NV[keep_N]
    inside, outside = set_fit(p_NV, logp_NV, c_NV), set_fit(p_NV, logp_NV, ~c_NV)
    p_N2, q_N2 = (torch.stack(pair, -1) for pair in ((inside.target, outside.target), (inside.mass, outside.mass)))
    parts_N = excess_bits(p_N2, q_N2.log()) + inside.target * inside.kl_within + outside.target * outside.kl_within
    assert excess_bits(p_NV, logp_NV).numpy() == pytest.approx(parts_N.numpy(), abs=ROUNDING)


def test_a_set_without_mass_is_not_scored_as_a_fit():
    p, none = torch.tensor([1.0, 0.0]), torch.zeros(2, dtype=torch.bool)
    assert math.isnan(float(set_fit(p, torch.zeros(2) - 1, none).kl_within))
    ruled_out = torch.tensor([-math.inf, 0.0])
    assert float(set_fit(p, ruled_out, p > 0).kl_within) == math.inf


def test_regimes_split_the_contexts_and_include_their_bounds():
    p_KV = torch.tril(torch.ones(20, 20)).double()
    k1 = hill_numbers(p_KV / p_KV.sum(-1, keepdim=True)).k1  # 1, 2, .. 20, each up to rounding
    for reasoning, share, wanted in ((1.5, 0.5, (1, 8, 11)), (3.0, 0.55, (3, 7, 10)), (7.0, 1.0, (7, 12, 1))):
        out = regimes(k1, UncertaintyBands(reasoning, share), alphabet=20)
        assert list(out) == ["reasoning", "correlation", "noise"]
        assert tuple(int(found.sum()) for found in out.values()) == wanted
    with pytest.raises(ValueError, match="noise begins at 1"):
        regimes(k1, UncertaintyBands(), alphabet=2)
    with pytest.raises(ValueError, match="noise_share"):
        UncertaintyBands(noise_share=0)


def test_spurious_binding_is_a_log_ratio():
    p = torch.tensor([[0.5, 0.25, 0.25, 0.0]]).double()
    logp = torch.tensor([[0.125, 0.5, 0.125, 0.25]]).double().log()
    scores = [float(spurious_binding(p, logp, torch.tensor([v])).nats) for v in range(4)]
    assert scores == pytest.approx([-math.log(4), math.log(2), -math.log(2), math.inf])
    floored = spurious_binding(p, logp, torch.tensor([3]), floor=0.001)
    assert float(floored.nats) == pytest.approx(math.log(250))
    assert floored.floor == 0.001
    for floor in (0.0, 0.01):
        for v in range(4):
            assert float(spurious_binding(p, p.log(), torch.tensor([v]), floor).nats) == pytest.approx(0, abs=ROUNDING)


def test_memorisation_index_has_the_sign_of_what_the_model_is_near_to():
    p_NV, support_NV, _ = laws()
    shown_NV = torch.nn.functional.one_hot(p_NV.argmax(-1), V).double()
    smooth_NV = 0.9 * shown_NV + 0.1 * support_NV.double() / support_NV.sum(-1, keepdim=True)
    of_sampler = memorisation_index(p_NV, shown_NV, p_NV.log(), smoothing=0.1)
    of_shown = memorisation_index(p_NV, shown_NV, smooth_NV.log(), smoothing=0.1)
    assert of_sampler.bits.numpy() == pytest.approx(-excess_bits(smooth_NV, p_NV.log()).numpy(), abs=ROUNDING)
    assert of_shown.bits.numpy() == pytest.approx(excess_bits(p_NV, smooth_NV.log()).numpy(), abs=ROUNDING)
    assert torch.equal(of_sampler.differs, support_NV.sum(-1) > 1)
    assert of_sampler.smoothing == 0.1
    assert not bool(memorisation_index(p_NV, p_NV, p_NV.log()).differs.any())
    assert bool(memorisation_index(p_NV, shown_NV, p_NV.log(), apart=1.0).differs.logical_not().all())
    with pytest.raises(ValueError, match="smoothing"):
        memorisation_index(p_NV, shown_NV, p_NV.log(), smoothing=0)


def test_swapped_arguments_are_refused():
    p_NV, _, logp_NV = laws()
    with pytest.raises(ValueError, match="wanted log probabilities"):
        excess_bits(logp_NV, p_NV)
    with pytest.raises(ValueError, match=r"one shape, got \(200, 7\) and \(7,\)"):
        excess_bits(p_NV, logp_NV[0])


def test_an_oracle_put_in_the_models_place_has_nothing_left_to_learn():
    corpus = synthetic_data.make("trace")
    tokens_BL = corpus.batch(range(8), seed=0)
    hidden_BL = uniform(0, "hidden", range(8), (corpus.length,)) < 0.5
    answer = corpus.oracle.posterior(tokens_BL.masked_fill(hidden_BL, corpus.vocabulary.mask_id))
    fit = set_fit(answer.p_BLV, answer.p_BLV.log(), answer.support_BLV)
    assert float(excess_bits(answer.p_BLV, answer.p_BLV.log()).abs().max()) == 0
    assert float(fit.invalid.max()) == 0
    assert float(fit.kl_within.abs().max()) <= ROUNDING

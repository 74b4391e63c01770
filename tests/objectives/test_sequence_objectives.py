"""Laws of the objectives and of the network under them."""

import math

import numpy as np
import pytest
import torch

import synthetic_data
from ablate.model.attention import CAUSAL, FULL, Attention
from ablate.model.config import ModelConfig
from ablate.model.transformer import Transformer
from ablate.noise.block_layout import Layout
from ablate.noise.masking import levels
from ablate.noise.options import Strata
from ablate.noise.schedules import Linear, NoiseSchedule
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.loss import loss_of
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.training.data_feed import DataFeed
from tests.builders import SHAPE, VOCABULARY, address, network

ONE_SEQUENCE = [Attention.causal, Attention.full, Attention.anticausal]
OBJECTIVES = [
    Autoregressive(),
    Autoregressive(Attention.anticausal),
    Autoregressive(loss_share=0.5),
    Autoregressive(input_mask=0.3),
    *(MaskedDiffusion(attention, shift) for attention in ONE_SEQUENCE for shift in (True, False)),
]


def ids(o):
    return str(o) if isinstance(o, Autoregressive) else f"{o.label}-{'shift' if o.shift else 'plain'}"


@pytest.mark.parametrize("objective", OBJECTIVES, ids=ids)
def test_mean_token_weight_is_one(objective):
    """Each scorable position is charged a mean weight of 1: within 5 standard errors over steps."""
    tokens = torch.zeros(64, 9, dtype=torch.long)
    means_SL = torch.stack(
        [objective.pose(tokens, address(64, step), VOCABULARY).weight_RL.mean(0) for step in range(1500)]
    )
    scored_SL = means_SL.roll(-objective.offset, dims=1)[:, 1:]  # where outputs predict tokens 1 to 8
    error_L = scored_SL.std(0) / math.sqrt(len(scored_SL))
    assert means_SL.sum(1).mean() == pytest.approx(scored_SL.sum(1).mean())
    assert ((scored_SL.mean(0) - 1).abs() <= 5 * error_L + 1e-6).all()
    assert float(error_L.max()) < 0.03


@pytest.mark.parametrize("objective", OBJECTIVES, ids=ids)
def test_no_output_reads_the_token_it_is_scored_on(objective):
    """Leak test on random heads: the gradient of each scored output with respect to its own clean token is zero.

    The positive control: under the same pattern without masking, an unshifted output does read its token.
    """
    net = network(10.0)
    tokens = torch.randint(0, 11, (8, 10), generator=torch.Generator().manual_seed(0))
    problem = objective.pose(tokens, address(8), VOCABULARY)
    scored = problem.weight_RL > 0
    leaks = _dependence(net, problem.inputs_RL, problem.pattern)
    for b, output in scored.nonzero().tolist():
        own = (output - objective.offset) % 10
        assert int(problem.targets_RL[b, output]) == int(tokens[b, own])
        hidden = int(problem.inputs_RL[b, own]) == 11
        assert hidden or leaks[b, output, own] == 0
        if objective.attention is Attention.causal:
            assert leaks[b, output, output + 1 :].abs().max() == 0 if output + 1 < 10 else True
    control = _dependence(net, tokens, objective.reading)
    assert (control.diagonal(dim1=1, dim2=2) > 0).all()


def _dependence(net, inputs_BL, pattern):
    """(B, L, L): how much output i moves when the input embedding at j does."""
    embedded = net.embedding(inputs_BL).detach().requires_grad_()
    hook = net.embedding.register_forward_hook(lambda *_: embedded)
    logits = net(inputs_BL, pattern)
    hook.remove()
    total = torch.zeros(*inputs_BL.shape, inputs_BL.shape[1])
    for i in range(inputs_BL.shape[1]):
        projection = torch.randn(logits.shape[-1] - 1, generator=torch.Generator().manual_seed(i))
        (g,) = torch.autograd.grad((logits[:, i, :-1] * projection).sum(), embedded, retain_graph=True)
        total[:, i] = g.abs().sum(-1)
    return total


def test_mask_is_read_but_never_predicted():
    logits = network(10.0)(torch.full((1, 4), 11), FULL)
    assert (logits[..., 11] == -math.inf).all()
    assert torch.isfinite(logits[..., :11]).all()


@pytest.mark.parametrize(
    "objective",
    [*OBJECTIVES, BlockDiffusion(4, draws=2, shift=True), BlockDiffusion(4, guard="force", denominator="masked")],
    ids=ids,
)
@pytest.mark.parametrize("accumulate", [2, 8])
def test_micro_batches_add_up(objective, accumulate):
    """1x8 = 2x4 = 8x1: the same noise, the same loss, the same gradient."""
    corpus = synthetic_data.make("trace")
    v = corpus.vocabulary
    net = network(1.0, v)

    def step(parts):
        feed = DataFeed(corpus, seed=1, batch=8, accumulate=parts, first=3, steps=1)
        net.zero_grad()
        posed = [(objective.pose(tokens, r, v), r) for tokens, r, _ in (feed[i] for i in range(parts))]
        losses = [loss_of(net, problem, r.global_batch) for problem, r in posed]
        sum(losses).backward()
        gradient = torch.cat([p.grad.flatten() for p in net.parameters()])
        noisy = [p.inputs_RL[: len(p.inputs_RL) // (p.pattern.draws + 1)] for p, _ in posed]  # the first copy
        return torch.cat(noisy), float(sum(losses).detach()), gradient

    whole, parts = step(1), step(accumulate)
    assert torch.equal(whole[0], parts[0])
    assert whole[1] == pytest.approx(parts[1], rel=1e-6)
    assert torch.allclose(whole[2], parts[2], atol=1e-6, rtol=1e-4)


def test_feeds_of_several_processes_are_the_one_feed():
    corpus = synthetic_data.make("trace")
    whole = DataFeed(corpus, 1, 8, 1, 5, 2)[1]
    parts = [DataFeed(corpus, 1, 8, 2, 5, 2, rank, 2)[2 + part] for part in range(2) for rank in range(2)]
    assert torch.equal(whole.tokens_BL, torch.cat([part.tokens_BL for part in parts]))
    assert np.array_equal(whole.address.sample_numbers, np.concatenate([part.address.sample_numbers for part in parts]))
    assert {part.scorable for part in parts} == {whole.scorable} == {8 * (corpus.length - 1)}


def test_a_finite_list_comes_whole_and_in_another_order_every_epoch():
    corpus, unique = synthetic_data.make("trace"), 12
    feed = DataFeed(corpus, 1, 8, 1, 0, 6, unique=unique)
    numbers = feed.sequences(np.arange(4 * unique)).reshape(4, unique)
    assert (np.sort(numbers, axis=1) == np.arange(unique)).all()
    assert len({tuple(epoch) for epoch in numbers}) == 4
    assert np.array_equal(feed.sequences(np.arange(20, 30)), numbers.ravel()[20:30]), "an address, not a history"
    assert torch.equal(feed[1][0], corpus.batch(numbers.ravel()[8:16], 1))
    assert np.array_equal(feed[1].address.sample_numbers, np.arange(8, 16)), "the noise is anew in every epoch"
    assert torch.equal(DataFeed(corpus, 1, 8, 1, 0, 6)[1][0], corpus.batch(np.arange(8, 16), 1))


def test_times_are_stratified_and_permuted():
    t = np.stack([levels(address(16, step), Strata.permuted)[:, 0].numpy() for step in range(400)])
    assert ((t > 0) & (t <= 1)).all()
    assert (np.sort(np.ceil(t * 16).astype(int), axis=1) == np.arange(1, 17)).all(), "one t a stratum"
    assert np.abs(t.mean(0) - 0.5).max() < 5 * np.sqrt(1 / 12 / 400), "no row is tied to a stratum"


@pytest.mark.parametrize(("batch", "wanted"), [(1, 5.43), (8, 2.1)])
def test_dividing_by_masked_tokens_ties_the_scale_to_the_batch(batch, wanted):
    """At constant cross-entropy 1 the loss is sum(N / t) / sum(N). N is uniform on 0..127 and E[1/t | N] = 128 / N, so
    the mean is batch * sum over n >= 1 of E[1 / (n + the others)]: H_127 for one sequence."""
    for step in range(50):
        (masks,) = (
            MaskedDiffusion(denominator="masked", strata="none")
            .corruption()
            .masks(Layout(128, 128), address(batch, step))
        )
        hidden_B, t_B = masks.hidden_BL.sum(1), levels(address(batch, step), Strata.none)[:, 0]
        loss = float(masks.weight_BL.sum()) / (batch * 127)
        assert loss == pytest.approx(float((hidden_B / t_B).sum() / hidden_B.sum().clamp_min(1)), rel=1e-6)
    others = np.ones(1)
    for _ in range(batch - 1):
        others = np.convolve(others, np.full(128, 1 / 128))
    exact = batch * (others / (np.arange(1, 128)[:, None] + np.arange(len(others)))).sum()
    assert exact == pytest.approx(wanted, abs=0.01)


def test_mask_rate_follows_the_schedule():
    tokens = torch.zeros(64, 33, dtype=torch.long)
    t, share = [], []
    for step in range(200):
        problem = MaskedDiffusion(shift=False).pose(tokens, address(64, step), VOCABULARY)
        t.append(levels(address(64, step), Strata.permuted)[:, 0])
        share.append((problem.inputs_RL == 11)[:, 1:].double().mean(1))
        assert not (problem.inputs_RL[:, 0] == 11).any()
    t, share = torch.cat(t), torch.cat(share)
    z = (share - t) / (t * (1 - t) / 32).sqrt()
    assert abs(float(z.mean())) < 5 / math.sqrt(len(z))
    assert abs(float(z.var()) - 1) < 0.1


def test_weight_is_the_derivative_of_the_rate():
    class Squared(NoiseSchedule):
        def mask_rate(self, t):
            return t**2

    t = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    assert torch.allclose(Linear().weight(t), 1 / t)
    assert torch.allclose(Squared().weight(t), 2 / t)


def test_autoregressive_loss_is_next_token_cross_entropy():
    net, tokens = network(10.0), torch.randint(0, 11, (4, 10), generator=torch.Generator().manual_seed(2))
    logp = net(tokens, CAUSAL).log_softmax(-1)
    expected = -logp[:, :-1].gather(-1, tokens[:, 1:, None]).mean()
    problem = Autoregressive().pose(tokens, address(4), VOCABULARY)
    assert float(loss_of(net, problem, 4)) == pytest.approx(float(expected), rel=1e-6)


def test_illegal_combinations_fail_when_made():
    with pytest.raises(ValueError, match="reads one side only"):
        Autoregressive(attention="full")
    with pytest.raises(ValueError, match="not a valid Attention"):
        MaskedDiffusion(attention="sideways")
    with pytest.raises(ValueError, match=r"model.heads=5.*try model.heads=4"):
        ModelConfig(64, 2, 5, 5)


def test_the_2_5b_shape_has_its_parameters():
    from experiments.presets.registry import MODELS

    shape = MODELS["2.5b"]
    with torch.device("meta"):
        net = Transformer(shape, shape.vocabulary, 0)
    count = sum(p.numel() for p in net.parameters())
    assert abs(count / 2.5e9 - 1) < 0.03
    assert shape.vocabulary == 155_136
    assert count == shape.parameters(shape.vocabulary)
    assert sum(p.numel() for p in network(10.0).parameters()) == SHAPE.parameters(12)
    assert sum(p.numel() for p in Transformer(MODELS["base"], 512, 511).parameters()) == pytest.approx(25e6, rel=0.05)

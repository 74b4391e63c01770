"""Laws of block diffusion: its ends are AR and masked diffusion, nothing leaks, only what is scored is computed."""

import dataclasses

import pytest
import torch

from ablate.decoding.predictor import Predictor
from ablate.model.attention import CAUSAL
from ablate.noise.schedules import Cos, named
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.loss import loss_of, score
from ablate.objectives.masked_diffusion import MaskedDiffusion
from tests.builders import MASK, VOCABULARY, address, network, tokens

RECIPE = {"clip": "atom", "guard": "force"}
OBJECTIVES = [
    BlockDiffusion(4),
    BlockDiffusion(4, shift=True),
    BlockDiffusion(4, draws=2),
    BlockDiffusion(1),
    BlockDiffusion(3, complementary=True, shift=True),
    BlockDiffusion(4, **RECIPE),
    BlockDiffusion(5, mask_sampling="count"),
]


def loss_and_gradient(objective, x_BL, scale=3.0):
    net = network(scale)
    loss = loss_of(net, objective.pose(x_BL, address(len(x_BL), 2), VOCABULARY), len(x_BL))
    loss.backward()
    return float(loss.detach()), torch.cat([p.grad.flatten() for p in net.parameters()])


def same(one, other, x_BL):
    (a, grad_a), (b, grad_b) = (loss_and_gradient(objective, x_BL) for objective in (one, other))
    assert a == pytest.approx(b, abs=1e-6)
    assert float((grad_a - grad_b).abs().max()) < 1e-5


@pytest.mark.parametrize(
    "options",
    [
        {},
        RECIPE,
        {"draws": 2},
        {"mask_sampling": "count"},
        {"complementary": True},
        {"complementary": True, "clip": "atom"},
    ],
    ids=str,
)
def test_blocks_of_one_token_with_shift_are_autoregressive(options):
    same(BlockDiffusion(1, shift=True, **options), Autoregressive(), tokens(6, 13))


def test_blocks_of_one_token_without_shift_are_one_causal_pass_a_position():
    """The dumb reference: x_<i, then MASK at i, causal; output i predicts token i."""
    net, x_BL = network(3.0), tokens(3, 9)
    problem = BlockDiffusion(1, **RECIPE).pose(x_BL, address(3, 2), VOCABULARY)
    assert (problem.weight_RL[:3, 1:] == 1).all()
    noisy = net(problem.inputs_RL, problem.pattern).log_softmax(-1)
    total = 0.0
    for i in range(1, 9):
        seen = torch.cat([x_BL[:, :i], torch.full((3, 1), MASK)], 1)
        logp = net(seen, CAUSAL)[:, i].log_softmax(-1)
        assert float((logp - noisy[:3, i])[:, :-1].detach().abs().max()) < 1e-5
        total -= float(logp.gather(-1, x_BL[:, i : i + 1]).sum().detach())
    assert float(loss_of(net, problem, 3).detach()) == pytest.approx(total / (3 * 8), rel=1e-6)


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"schedule": Cos()}, {"mask_sampling": "count"}, {"denominator": "masked"}], ids=str
)
def test_one_block_of_the_whole_length_is_masked_diffusion(shift, options):
    x_BL = tokens(6, 13)
    block, masked = BlockDiffusion(13, shift=shift, **options), MaskedDiffusion(shift=shift, **options)
    one, other = (objective.pose(x_BL, address(6, 2), VOCABULARY) for objective in (block, masked))
    assert torch.equal(one.inputs_RL[:6], other.inputs_RL), "the same masks"
    assert torch.allclose(one.weight_RL[:6], other.weight_RL)
    same(block, masked, x_BL)


def scored(objective, x_BL):
    """(problem, [(row, output, sequence, token)]) of everything scored."""
    problem = objective.pose(x_BL, address(len(x_BL), 2), VOCABULARY)
    outputs = (problem.weight_RL > 0).nonzero().tolist()
    return problem, [(r, i, r % len(x_BL), i - objective.offset) for r, i in outputs]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_no_scored_output_reads_its_token_or_a_later_block(objective):
    """On real tensors: the clean token of a scored position, and those of every later block, are changed one at a time
    in the clean rows, as their neighbours in the noisy rows would show them; what must not move does not."""
    net, x_BL = network(6.0), tokens(2, 12)
    problem, found = scored(objective, x_BL)
    logits = net(problem.inputs_RL, problem.pattern)
    moved = 0
    for r, i, b, token in found:
        assert int(problem.targets_RL[r, i]) == int(x_BL[b, token])
        forbidden = [token, *range((token // objective.size + 1) * objective.size, 12)]
        for j in forbidden:
            other = x_BL.clone()
            other[b, j] = (other[b, j] + 1) % 11
            changed = objective.pose(other, address(2, 2), VOCABULARY)
            after = net(changed.inputs_RL, changed.pattern)
            assert torch.equal(after[r, i, :-1], logits[r, i, :-1]), (r, i, token, j)
        if token >= objective.size:  # positive control: an earlier block's token does count
            other = x_BL.clone()
            other[b, 0] = (other[b, 0] + 1) % 11
            changed = objective.pose(other, address(2, 2), VOCABULARY)
            after = net(changed.inputs_RL, changed.pattern)
            moved += not torch.equal(after[r, i, :-1], logits[r, i, :-1])
    assert moved > 0


def test_a_leak_would_be_seen():
    """Positive control of the test above: an output that reads its own token moves with it."""
    net, x_BL = network(6.0), tokens(1, 12)
    problem = BlockDiffusion(4, **RECIPE).pose(x_BL, address(1, 2), VOCABULARY)
    leaking = dataclasses.replace(problem, inputs_RL=x_BL.repeat(2, 1))  # nothing masked
    before = net(leaking.inputs_RL, leaking.pattern)
    other = x_BL.clone()
    other[0, 5] = (other[0, 5] + 1) % 11
    assert not torch.equal(net(other.repeat(2, 1), leaking.pattern)[0, 5], before[0, 5])


@pytest.mark.parametrize(
    "objective", [*OBJECTIVES, MaskedDiffusion(), Autoregressive(), Autoregressive(loss_share=0.5)], ids=str
)
def test_the_head_runs_on_scored_positions_alone(objective, monkeypatch):
    import torch.nn.functional as F

    from ablate.model import transformer

    net, x_BL = network(6.0), tokens(4, 12)
    problem = objective.pose(x_BL, address(4, 2), VOCABULARY)
    shapes, heads, plain, head = [], [], F.linear, transformer.scored_loss
    monkeypatch.setattr(F, "linear", lambda x, w, b=None: (shapes.append((x.shape, w)), plain(x, w, b))[1])
    monkeypatch.setattr(transformer, "scored_loss", lambda x, *rest: (heads.append(x.shape), head(x, *rest))[1])
    _, nats, weight = score(net, problem, 1)
    assert [tuple(shape) for shape in heads] == [(int((problem.weight_RL > 0).sum()), 16)]
    assert len(nats) == len(weight) == heads[0][0]
    last = [shape[0] for shape, w in shapes if w is net.layers[-1].down.weight]
    clean = 4 if isinstance(objective, BlockDiffusion) and not objective.shift else 0
    assert last == [len(problem.inputs_RL) - clean], "the last layer makes no outputs that nobody reads"


@pytest.mark.parametrize("objective", [BlockDiffusion(4, **RECIPE), BlockDiffusion(4, shift=True)], ids=str)
def test_predict_reads_what_training_reads(objective):
    """A partly masked block behind clean ones: predict's entry for a token is the training pass's output for it."""
    net, x_BL = network(3.0), tokens(2, 12)
    problem, found = scored(objective, x_BL)
    logits = net(problem.inputs_RL, problem.pattern)[..., :-1].log_softmax(-1)
    for r, i, b, token in found:
        block = token // objective.size
        seen = x_BL[b : b + 1].clone()
        inside = slice(block * objective.size, (block + 1) * objective.size)
        noisy = problem.inputs_RL[r, inside] if r < 2 else torch.full((4,), MASK)
        seen[0, inside], seen[0, inside.stop :] = noisy, MASK
        logp = Predictor(net, objective)(seen)[0, token, :-1]
        assert float((logp - logits[r, i]).abs().max()) < 1e-5


def test_a_batch_without_a_masked_token_has_loss_zero():
    net = network(6.0)
    problem = BlockDiffusion(4, schedule=named("cap", u_max=1e-12), denominator="masked").pose(
        tokens(4, 12), address(4, 2), VOCABULARY
    )
    loss = loss_of(net, problem, 4)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(p.grad is None or (p.grad == 0).all() for p in net.parameters())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 0}, "at least 1 token; try size=4"),
        ({"draws": 0}, "try draws=1"),
        ({"draws": 65}, "1..64 noisy copies"),
        ({"weight": "1/u"}, "1/t, 1/q, 1/realised, 1"),
        ({"mask_sampling": "count", "guard": "force"}, "weight of its own"),
        ({"mask_sampling": "count", "schedule": Cos()}, "leave them out"),
        ({"mask_sampling": "suffix", "clip": "atom"}, "leave them out"),
        ({"mask_sampling": "count", "weight": "1"}, "leave them out"),
        ({"complementary": True, "guard": "force"}, "try guard=complementary"),
        ({"complementary": True, "draws": 3}, "try draws=2"),
        ({"clip": "interval", "schedule": Cos()}, "try clip=atom"),
        ({"clip": "interval", "size": 1}, "empty at size 1"),
        ({"clip": "atom", "schedule": named("atom_clip", size=4)}, "try clip=none"),
        ({"clip": "sometimes"}, "not a valid Clip"),
        ({"weight": "1/realised", "t_per": "sequence", "guard": "force", "shift": True}, "try t_per=block"),
    ],
)
def test_illegal_combinations_fail_when_made(options, said):
    with pytest.raises(ValueError, match=said):
        BlockDiffusion(**options)


def test_two_spellings_of_a_complementary_pair_are_one():
    assert BlockDiffusion(4, complementary=True) == BlockDiffusion(4, guard="complementary")
    assert BlockDiffusion(4, complementary=True).draws == 2


def test_right_to_left_is_autoregressive_on_the_mirrored_sequence():
    """Position 0, then the rest from the end. Without rotary turns, whose distances change sign, it is the same."""
    net, x_BL = network(3.0), tokens(4, 9)
    net.frequencies.zero_()
    found = []
    for objective, read_BL in ((Autoregressive("anticausal"), x_BL), (Autoregressive(), x_BL.flip(1).roll(1, 1))):
        loss = loss_of(net, objective.pose(read_BL, address(4, 2), VOCABULARY), 4)
        found.append((float(loss.detach()), torch.autograd.grad(loss, net.layers[0].q.weight)[0]))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert float((found[0][1] - found[1][1]).abs().max()) < 1e-5


def test_right_to_left_reads_the_right_and_position_0():
    objective = Autoregressive("anticausal")
    net, x_BL = network(6.0), tokens(1, 9)
    problem = objective.pose(x_BL, address(1, 2), VOCABULARY)
    assert float(problem.weight_RL.sum()) == 8
    logits = net(problem.inputs_RL, problem.pattern)
    for j in range(9):
        other = x_BL.clone()
        other[0, j] = (other[0, j] + 1) % 11
        after = net(other, problem.pattern)
        for token in range(1, 9):
            output = (token + 1) % 9
            assert int(problem.targets_RL[0, output]) == int(x_BL[0, token])
            assert torch.equal(after[0, output, :-1], logits[0, output, :-1]) == (0 < j <= token)


def test_half_of_the_loss_and_masked_inputs():
    x_BL = tokens(64, 23)
    half = Autoregressive(loss_share=0.5).pose(x_BL, address(64, 2), VOCABULARY)
    assert ((half.weight_RL > 0).sum(1) == 11).all()
    assert half.weight_RL.sum() == pytest.approx(64 * 22)
    assert torch.equal(half.inputs_RL, x_BL)
    blurred = Autoregressive(input_mask=0.3).pose(x_BL, address(64, 2), VOCABULARY)
    assert (blurred.weight_RL.sum(1) == 22).all()
    hidden = blurred.inputs_RL == MASK
    assert not hidden[:, 0].any()
    assert float(hidden[:, 1:].double().mean()) == pytest.approx(0.3, abs=5 * (0.21 / 1408) ** 0.5)
    assert torch.equal(blurred.targets_RL[:, :-1], x_BL[:, 1:])

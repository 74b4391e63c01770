"""What is kept between the passes is a choice of memory, never of numbers."""

import functools

import pytest
import torch

from ablate.compute.device import Recompute
from ablate.compute.execution import prepare
from ablate.core.corpus import Vocabulary
from ablate.core.rng import generator
from ablate.model.config import ModelConfig
from ablate.model.transformer import Transformer, initialise
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.loss import loss_of
from ablate.objectives.masked_diffusion import MaskedDiffusion
from tests.builders import address

SHAPE = ModelConfig(32, 4, 4, 2, qkv_bias=True, qk_norm=True)
OBJECTIVES = [Autoregressive(), MaskedDiffusion(), BlockDiffusion(4), BlockDiffusion(4, shift=True, draws=2)]


def network(*choices, compiled=False):
    net = Transformer(SHAPE, 64, 63)
    initialise(net, 0)
    return prepare(net, compiled, *choices)


def problem(objective):
    tokens = torch.from_numpy(generator(0, "recompute").integers(0, 63, (3, 24)))
    return objective.pose(tokens, address(3), Vocabulary.unnamed(64))


def passes(net, objective):
    """Loss, gradients and the bytes kept for the backward pass beside the weights."""
    weights, kept = {p.data_ptr() for p in net.parameters()}, {}

    def keep(x):
        if x.data_ptr() not in weights:
            kept[x.data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = loss_of(net, problem(objective), 3)
    loss.backward()
    return float(loss.detach()), [p.grad.clone() for p in net.parameters()], sum(kept.values())


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_recomputing_changes_memory_and_no_number(objective):
    plain = passes(network(), objective)
    kept = {}
    for choice in (Recompute.full, Recompute.selective):
        for every in (1, 2):
            loss, gradients, kept[choice, every] = passes(network(choice, every), objective)
            assert loss == plain[0]
            assert all(torch.equal(a, b) for a, b in zip(gradients, plain[1], strict=True))
    assert kept[Recompute.full, 1] < kept[Recompute.full, 2] < plain[2], "every second layer keeps its own"


def test_nothing_is_made_anew_where_no_gradient_is_taken(monkeypatch):
    from ablate.compute import execution

    calls = []
    monkeypatch.setattr(execution, "checkpoint", lambda work, *a, **k: (calls.append(1), work(*a))[1])
    net, posed = network(Recompute.full), problem(Autoregressive())
    with torch.no_grad():
        net(posed.inputs_RL, posed.pattern)
    assert not calls
    net(posed.inputs_RL, posed.pattern)
    assert len(calls) == SHAPE.layers


@pytest.mark.slow
@pytest.mark.parametrize("choice", list(Recompute))
def test_compiled_layers_give_the_same_gradients(choice, monkeypatch):
    """Traced and differentiated by the compiler, but not turned into machine code, which takes minutes on a CPU."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    for objective in OBJECTIVES[1:3]:
        plain, compiled = passes(network(), objective), passes(network(choice, compiled=True), objective)
        assert compiled[0] == pytest.approx(plain[0], rel=1e-6)
        for a, b in zip(compiled[1], plain[1], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)

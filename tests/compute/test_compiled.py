"""Compiled layers compute what plain ones do, whatever was compiled before them."""

import copy
import itertools

import numpy as np
import pytest
import torch

from ablate.compute.execution import prepare
from ablate.model.attention import Attention, Form
from ablate.model.config import ModelConfig
from ablate.model.transformer import Transformer, initialise
from ablate.noise.options import BatchAddress
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.loss import score
from ablate.objectives.masked_diffusion import MaskedDiffusion
from synthetic_data import Trace

WORLD = Trace(values=5, operations=3)
OBJECTIVES = [
    Autoregressive(),
    MaskedDiffusion(),
    MaskedDiffusion(Attention.causal),
    Autoregressive(Attention.anticausal),
    BlockDiffusion(2),
    BlockDiffusion(4),
    BlockDiffusion(4, draws=2),
]


def gradients(network, objective):
    tokens_BL = WORLD.batch(range(8), 0)
    problem = objective.pose(tokens_BL, BatchAddress(0, 0, np.arange(8), 8), WORLD.vocabulary)
    network.zero_grad()
    score(network, problem, 8 * (WORLD.length - 1)).loss.backward()
    return torch.cat([p.grad.flatten() for p in network.parameters()])


@pytest.mark.slow
@pytest.mark.parametrize("form", [Form.sdpa, Form.matmul, Form.dense])
def test_graphs_of_one_objective_are_never_taken_for_anothers(form):
    """In each order: a stage, or a base model that learns in turn, has others before it in the same process."""
    plain = Transformer(ModelConfig(16, 2, 2, 1), len(WORLD.vocabulary), WORLD.vocabulary.mask_id, form)
    initialise(plain, 0)
    wanted = [gradients(plain, objective) for objective in OBJECTIVES]
    apart = [(a - b).norm() / a.norm() for a, b in itertools.combinations(wanted, 2)]
    assert min(apart) > 1e-2, "each is another problem"
    for order in (OBJECTIVES, OBJECTIVES[::-1]):
        torch.compiler.reset()
        compiled = prepare(copy.deepcopy(plain), compiled=True)
        for objective in order:
            found = gradients(compiled, objective)
            expected = wanted[OBJECTIVES.index(objective)]
            assert (found - expected).norm() <= 1e-4 * expected.norm(), objective.label

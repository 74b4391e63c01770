"""The bound on the grid of training is the loss that training estimates, unclipped; on a moved grid it is another."""

import math

import numpy as np
import pytest
import torch

import synthetic_data
from ablate.core.blocks import Grid
from ablate.decoding.predictor import Predictor
from ablate.evaluation.contexts import Blocks
from ablate.noise.options import BatchAddress
from ablate.objectives.block_diffusion import BlockDiffusion
from tests.builders import ONE_LAYER, network

ROWS, ERRORS = 20_000, 4.5


def mean_and_error(values_B):
    return float(values_B.mean()), float(values_B.std()) / math.sqrt(len(values_B))


def bound(predict, corpus, tokens_BL, size, offset):
    """Nats a token, by contexts."""
    scored_BL = torch.ones_like(tokens_BL, dtype=torch.bool)
    scored_BL[:, 0] = False
    sampler = Blocks(size, grid=Grid.sequence, offset=offset)
    contexts = sampler.draw(tokens_BL, scored_BL, corpus.vocabulary.mask_id, seed=3)
    nats_BL = -predict(contexts.inputs_BL).gather(-1, tokens_BL[..., None])[..., 0].double()
    return mean_and_error(contexts.means(nats_BL))


def loss(net, corpus, tokens_BL, objective):
    """Nats a token, by one pass over noisy and clean blocks."""
    problem = objective.pose(tokens_BL, BatchAddress(5, 0, np.arange(ROWS), ROWS), corpus.vocabulary)
    with torch.no_grad():
        logits_RLV = net(problem.inputs_RL, problem.pattern)
    rows = slice(len(logits_RLV))
    nats_RL = torch.nn.functional.cross_entropy(
        logits_RLV.flatten(0, 1), problem.targets_RL[rows].flatten(), reduction="none"
    ).view(logits_RLV.shape[:2])
    weight_RL = problem.weight_RL[rows]
    weighted_RL = torch.where(weight_RL > 0, nats_RL * weight_RL, 0.0).double()
    return mean_and_error(weighted_RL.view(-1, ROWS, corpus.length).sum((0, 2)) / (corpus.length - 1))


@pytest.mark.slow
@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("size", [2, 4])
def test_the_bound_on_the_grid_of_training_is_its_unclipped_loss(size, shift):
    corpus = synthetic_data.make("trace", values=3, general_operators=3, new_operators=4, operations=3, checksum=3)
    objective = BlockDiffusion(size, mask_sampling="count", shift=shift)
    net = network(4.0, corpus.vocabulary, ONE_LAYER)
    tokens_BL = corpus.batch(range(ROWS), seed=1)
    trained, error = loss(net, corpus, tokens_BL, objective)
    predict = Predictor(net, objective)
    found = [bound(predict, corpus, tokens_BL, size, offset) for offset in range(size)]
    assert abs(found[0][0] - trained) < ERRORS * math.hypot(found[0][1], error)
    moved = max(abs(mean - trained) / math.hypot(e, error) for mean, e in found[1:])
    assert moved > ERRORS, "a positive control: on another grid the same network has another bound"

"""One golden step an objective: loss, gradient norm and loss after the step, so that a refactor shows if it moves them.

The numbers were printed by this very function; they say that nothing changed, not that it is right.
"""

import pytest
import torch

import synthetic_data
from ablate.compute.optimizer import adamw
from ablate.model.attention import Attention
from ablate.model.config import ModelConfig
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.loss import loss_of
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.regime import Stage
from ablate.training.data_feed import DataFeed
from tests.builders import network

GOLDEN = {
    "ar": (Autoregressive(), (3.48074, 0.641433, 3.28786)),
    "ardllm": (MaskedDiffusion(Attention.causal), (3.32816, 1.04428, 3.1231)),
    "bidllm": (MaskedDiffusion(Attention.full), (3.32997, 1.01271, 3.12652)),
    "bidllm without shift": (MaskedDiffusion(Attention.full, shift=False), (3.33916, 1.20239, 3.20427)),
    "block": (BlockDiffusion(4, clip="atom", guard="force"), (3.94183, 1.18292, 3.81491)),
    "block with shift, two draws": (BlockDiffusion(4, shift=True, draws=2), (3.15915, 0.672658, 2.97958)),
    "count law": (BlockDiffusion(4, mask_sampling="count"), (3.46225, 0.896871, 3.3558)),
}


def step(objective):
    corpus = synthetic_data.make("trace")
    v = corpus.vocabulary
    net = network(vocabulary=v, shape=ModelConfig(32, 2, 2, 1))
    stage = Stage(objective, lr=1e-2)
    optimizer = adamw(net, stage)
    tokens, rows, _ = DataFeed(corpus, seed=0, batch=16, accumulate=1, first=0, steps=1)[0]
    problem = objective.pose(tokens, rows, v)
    loss = loss_of(net, problem, 16)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), stage.clip_norm)
    optimizer.step()
    return float(loss.detach()), float(norm), float(loss_of(net, problem, 16).detach())


@pytest.mark.parametrize("name", list(GOLDEN))
def test_golden_step(name):
    objective, expected = GOLDEN[name]
    assert step(objective) == pytest.approx(expected, rel=1e-4)

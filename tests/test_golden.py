"""One golden step an objective: loss, gradient norm and loss after the step, so that a refactor shows if it moves them.

The numbers were printed by this very function; they say that nothing changed, not that it is right.
"""

import pytest
import torch

import synthetic_data
from ablate.attention import Attention
from ablate.learner import Feed, adamw, loss_of
from ablate.model import Transformer, initialise
from ablate.objective import Autoregressive, MaskedDiffusion
from ablate.regime import Stage
from ablate.shape import Shape

GOLDEN = {
    "ar": (Autoregressive(), (3.69272, 0.647839, 3.5017)),
    "ardllm": (MaskedDiffusion(Attention.causal), (3.54078, 1.08283, 3.31635)),
    "bidllm": (MaskedDiffusion(Attention.full), (3.5397, 1.07976, 3.32982)),
    "bidllm without shift": (MaskedDiffusion(Attention.full, shift=False), (3.54389, 1.11344, 3.40081)),
}


def step(objective):
    corpus = synthetic_data.make("trace")
    v = corpus.vocabulary
    net = Transformer(Shape(32, 2, 2, 1), len(v), v.mask_id)
    initialise(net, 0)
    stage = Stage(objective, lr=1e-2)
    optimiser = adamw(net, stage)
    tokens, rows = Feed(corpus, seed=0, batch=16, accumulate=1, first=0, steps=1)[0]
    problem = objective.pose(tokens, rows, v.mask_id)
    loss = loss_of(net, problem, 16)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), stage.clip_norm)
    optimiser.step()
    return float(loss.detach()), float(norm), float(loss_of(net, problem, 16).detach())


@pytest.mark.parametrize("name", list(GOLDEN))
def test_golden_step(name):
    objective, expected = GOLDEN[name]
    assert step(objective) == pytest.approx(expected, rel=1e-4)

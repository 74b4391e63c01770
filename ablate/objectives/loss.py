"""What a problem costs a network: the loss of a micro-batch as its part of the global batch's.

Shapes: R rows, L positions, N scored outputs.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ablate.model.transformer import Transformer
from ablate.objectives.problem import Problem


class Scored(NamedTuple):
    """loss: this micro-batch's part, nats a scorable token: the parts of a global batch add up to its loss. nats_N:
    cross-entropy of each scored output, detached. weight_N: what it counts."""

    loss: Tensor
    nats_N: Tensor
    weight_N: Tensor


def score(network: Transformer, problem: Problem, scorable: float) -> Scored:
    """The network's loss on a problem; `scorable`: tokens of the global batch that can be scored (see `DataFeed`)."""
    weight_M = problem.weight_RL.flatten()
    scored_N = weight_M.nonzero()[:, 0]
    weight_N = weight_M[scored_N]
    loss, nats_N = network.score(
        problem.inputs_RL,
        problem.pattern,
        scored_N,
        problem.targets_RL.flatten()[scored_N],
        weight_N / scorable,
        problem.documents_BL,
    )
    return Scored(loss, nats_N, weight_N)


def loss_of(network: Transformer, problem: Problem, global_batch: int) -> Tensor:
    """Loss where all but the first token of each of `global_batch` sequences can be scored."""
    return score(network, problem, global_batch * (problem.inputs_RL.shape[1] - 1)).loss

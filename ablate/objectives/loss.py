"""What a problem costs a network: the loss of a micro-batch as its part of the global batch's.

Shapes: S stacked networks, R rows, L positions, M outputs of a network, N scored ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ablate.model.transformer import Transformer
from ablate.objectives.problem import Problem, packed


class Scored(NamedTuple):
    """loss: this micro-batch's part, nats a scorable token: the parts of a global batch add up to its loss. nats_N:
    cross-entropy of each scored output, detached. weight_N: what it counts.

    Of stacked networks the loss is (S,) and the others are (S, N), where outputs of weight 0 pad to a common N.
    """

    loss: Tensor
    nats_N: Tensor
    weight_N: Tensor

    @property
    def nats(self) -> Tensor:
        """Cross-entropies of all scored outputs, summed."""
        return self.nats_N.where(self.weight_N != 0, 0).sum(-1)

    @property
    def scored(self) -> Tensor:
        """How many outputs are scored, int64."""
        return (self.weight_N != 0).sum(-1)


def score(network: Transformer, problem: Problem, scorable: float | Tensor) -> Scored:
    """The network's loss on a problem; `scorable`: tokens of the global batch that can be scored (see `DataFeed`), of
    stacked networks (S,)."""
    weight, targets = problem.weight_RL, problem.targets_RL
    if network.seeds:
        weight, targets = (_by_network(x_RL, problem) for x_RL in (weight, targets))
        scored = _padded(weight)
    else:
        weight, targets = weight.flatten(), targets.flatten()
        scored = weight.nonzero()[:, 0]
    weight = weight.gather(-1, scored)
    coefficient = weight / (scorable[:, None] if isinstance(scorable, Tensor) else scorable)
    loss, nats = network.score(
        problem.inputs_RL, problem.pattern, scored, targets.gather(-1, scored), coefficient, problem.documents_BL
    )
    return Scored(loss, nats, weight)


def score_all(network: Transformer, problems: Sequence[Problem], scorable: Sequence[float]) -> Scored:
    """The loss of a plain network on its one problem, or of stacked ones on as many."""
    if not network.seeds:
        return score(network, problems[0], scorable[0])
    problem = packed(problems)
    return score(network, problem, torch.tensor(scorable, device=problem.weight_RL.device))


def _by_network(x_RL: Tensor, problem: Problem) -> Tensor:
    """(S, M): what belongs to the outputs of each network."""
    rows_RL = problem.pattern.noisy(x_RL) if problem.pattern.spared else x_RL
    return rows_RL.unflatten(0, (problem.pattern.seeds, -1)).flatten(1)


def _padded(weight_SM: Tensor) -> Tensor:
    """(S, N) numbers of the scored outputs of each network, and of others up to the most that one has."""
    scored_SM = weight_SM != 0
    most = int(scored_SM.sum(1).max())
    return scored_SM.byte().argsort(dim=1, descending=True, stable=True)[:, :most]


def loss_of(network: Transformer, problem: Problem, global_batch: int) -> Tensor:
    """Loss where all but the first token of each of `global_batch` sequences can be scored."""
    return score(network, problem, global_batch * (problem.inputs_RL.shape[1] - 1)).loss

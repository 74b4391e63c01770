"""One training step: what it costs, its gradient clipped, its update. The Lightning module and the benchmarks share it.

Shapes: N scored outputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from ablate.compute.device import Device, Precision
from ablate.model.transformer import Transformer
from ablate.objectives.loss import Scored, score
from ablate.objectives.problem import Problem


@dataclass(frozen=True)
class StepResult:
    """What a step has measured, or a part of it: the parts of a global batch add up.

    loss: nats a scorable token, detached. nats: cross-entropies of all scored outputs, summed. scored: how many these
    are. scorable: tokens of the global batch that can be scored. gradient_norm: before clipping.
    """

    loss: Tensor
    nats: Tensor
    scored: int
    scorable: int
    gradient_norm: Tensor

    @classmethod
    def nothing(cls, scorable: int) -> StepResult:
        """Of a step before its first micro-batch."""
        return cls(torch.zeros(()), torch.zeros(()), 0, scorable, torch.zeros(()))

    def plus(self, part: Scored) -> StepResult:
        """With one more micro-batch."""
        loss, nats = self.loss + part.loss.detach(), self.nats + part.nats_N.sum()
        return StepResult(loss, nats, self.scored + len(part.nats_N), self.scorable, self.gradient_norm)


def autocast(device: Device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """bf16 autocast, or nothing in fp32."""
    return torch.autocast(device.value, torch.bfloat16) if precision is Precision.bf16 else contextlib.nullcontext()


def clip_gradients(parameters: Iterable[Tensor], most: float) -> Tensor:
    """Scales gradients down to a norm of at most `most`; returns the norm before, whole where they are sharded."""
    norm = torch.nn.utils.clip_grad_norm_(parameters, most)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def update(loss: Tensor, parameters: Iterable[Tensor], optimizer: torch.optim.Optimizer, clip_norm: float) -> Tensor:
    """Backward pass, clipping, optimizer. Returns the gradient's norm before clipping."""
    loss.backward()
    norm = clip_gradients(parameters, clip_norm)
    optimizer.step()
    return norm


def train_step(
    network: Transformer,
    optimizer: torch.optim.Optimizer,
    problem: Problem,
    scorable: int,
    clip_norm: float,
    device: Device = Device.cpu,
    precision: Precision = Precision.fp32,
) -> StepResult:
    """A whole step of one micro-batch in a plain loop, as Lightning takes it."""
    optimizer.zero_grad()
    with autocast(device, precision):
        part = score(network, problem, scorable)
    norm = update(part.loss, network.parameters(), optimizer, clip_norm)
    return StepResult(part.loss.detach(), part.nats_N.sum(), len(part.nats_N), scorable, norm)

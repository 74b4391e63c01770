"""One training step: what it costs, its gradient clipped, its update. The Lightning module and the benchmarks share it.

Shapes: N scored outputs, S stacked networks, 1 for a plain one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from ablate.compute.device import Device, Precision
from ablate.model.transformer import Transformer
from ablate.objectives.loss import Scored, score
from ablate.objectives.problem import Problem


@dataclass(frozen=True)
class StepResult:
    """What a step has measured of each network, (S,) all, or a part of it: the parts of a global batch add up.

    loss: nats a scorable token, detached. nats: cross-entropies of all scored outputs, summed. scored: how many these
    are. scorable: tokens of the global batch that can be scored. gradient_norm: before clipping.
    """

    loss: Tensor
    nats: Tensor
    scored: Tensor
    scorable: Tensor
    gradient_norm: Tensor

    @classmethod
    def nothing(cls, scorable: Sequence[int]) -> StepResult:
        """Of a step before its first micro-batch."""
        zero = torch.zeros(())  # without a device of its own, as long as it has no axis
        return cls(zero, zero, zero.long(), torch.tensor(scorable), zero)

    def of(self, i: int) -> StepResult:
        """What it has measured of the i-th network alone."""
        return StepResult(**{name: value[i] for name, value in vars(self).items()})

    def plus(self, part: Scored) -> StepResult:
        """With one more micro-batch."""
        loss, nats, scored = (x.reshape(-1) for x in (part.loss.detach(), part.nats, part.scored))
        return replace(self, loss=self.loss + loss, nats=self.nats + nats, scored=self.scored + scored)


def autocast(device: Device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """bf16 autocast, or nothing in fp32."""
    return torch.autocast(device.value, torch.bfloat16) if precision is Precision.bf16 else contextlib.nullcontext()


def clip_gradients(parameters: Iterable[Tensor], *most: float) -> Tensor:
    """Scales a network's gradient down to a norm of at most `most`, or those of as many stacked networks, each by
    itself; returns the norms before, (S,), whole where they are sharded."""
    if len(most) == 1:
        norm = torch.nn.utils.clip_grad_norm_(parameters, most[0])
        return (norm.full_tensor() if isinstance(norm, DTensor) else norm).reshape(1)
    gradients = [p.grad for p in parameters if p.grad is not None]
    parts = [torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients]
    norm_S = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    factor_S = (torch.tensor(most, device=norm_S.device) / (norm_S + 1e-6)).clamp(max=1.0)  # as torch does of one
    for gradient in gradients:
        gradient.mul_(factor_S.view(-1, *[1] * (gradient.dim() - 1)))
    return norm_S


def update(loss: Tensor, parameters: Iterable[Tensor], optimizer: torch.optim.Optimizer, *most: float) -> Tensor:
    """Backward pass, clipping, optimizer. Returns the gradients' norms before clipping, (S,)."""
    loss.sum().backward()
    norm_S = clip_gradients(parameters, *most)
    optimizer.step()
    return norm_S


def train_step(
    network: Transformer,
    optimizer: torch.optim.Optimizer,
    problem: Problem,
    scorable: int,
    clip_norm: float,
    device: Device = Device.cpu,
    precision: Precision = Precision.fp32,
) -> StepResult:
    """A whole step of one micro-batch of a plain network in a plain loop, as Lightning takes it."""
    optimizer.zero_grad()
    with autocast(device, precision):
        part = score(network, problem, scorable)
    norm_S = update(part.loss, network.parameters(), optimizer, clip_norm)
    return replace(StepResult.nothing([scorable]).plus(part), gradient_norm=norm_S)

"""Layers whose parameters may be those of several networks, stacked: one product serves all.

A parameter of S networks has a leading axis of S, and what comes in has the rows of one after those of another.

Shapes: S stacked networks, R rows, V vocabulary, W width, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(R, ..., I) to (R, ..., O) by a weight (O, I), or (S, O, I) where R is a multiple of S; bias (O,) or (S, O)."""
    if weight.dim() == 2:
        return F.linear(x, weight, bias)
    rows_SNI, weight_SIO = x.unflatten(0, (len(weight), -1)).flatten(1, -2), weight.transpose(1, 2)
    if bias is None:
        out_SNO = torch.bmm(rows_SNI, weight_SIO)
    else:
        out_SNO = torch.baddbmm(bias.unsqueeze(-2), rows_SNI, weight_SIO)
    return out_SNO.view(*x.shape[:-1], -1)


class Linear(nn.Linear):
    """A matrix product."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class Embedding(nn.Embedding):
    """Vectors of tokens, weight (V, W) or (S, V, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """(R, ...) int64 to (R, ..., W); R is a multiple of S."""
        if self.weight.dim() == 2:
            return super().forward(input)
        seeds, rows = self.weight.shape[:2]
        first_S = torch.arange(seeds, device=input.device) * rows
        first_R = first_S.repeat_interleave(len(input) // seeds)
        return F.embedding(input + first_R.view(-1, *[1] * (input.dim() - 1)), self.weight.flatten(0, 1))


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """RMSNorm (Zhang & Sennrich, 2019) of (R, ..., W), gain (W,) or (S, W)."""
    gain = gain.to(x.dtype)  # mixed types have no fused kernel
    if gain.dim() == 1:
        return F.rms_norm(x, gain.shape, gain, eps)
    normed = F.rms_norm(x, gain.shape[1:], None, eps).unflatten(0, (len(gain), -1))
    return (normed * gain.view(len(gain), *[1] * (x.dim() - 1), -1)).flatten(0, 1)


@torch.no_grad()
def stack_parameters(own: nn.Module, members: Sequence[nn.Module]) -> None:
    """Gives `own`, a module like the `members`, their parameters, stacked."""
    for name, _ in list(own.named_parameters()):
        _replace(own, name, torch.stack([member.get_parameter(name) for member in members]))


@torch.no_grad()
def share_parameters(own: nn.Module, stacked: nn.Module, i: int) -> None:
    """Gives `own` the memory of the i-th of stacked modules."""
    for name, parameter in stacked.named_parameters():
        own.get_parameter(name).data = parameter.data[i]


def _replace(module: nn.Module, name: str, value: Tensor) -> None:
    place, _, last = name.rpartition(".")
    setattr(module.get_submodule(place), last, nn.Parameter(value))

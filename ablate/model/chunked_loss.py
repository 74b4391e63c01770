"""The head of the network and its loss at once, a stretch of outputs at a time, so that full logits never exist.

Shapes: N scored outputs, C of them in a stretch, W width, V vocabulary; before these, of stacked networks, S of each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

STRETCH = 2**28  # logits made at once; in fp32 a GiB


def scored_loss(
    outputs_NW: Tensor, weight_VW: Tensor, allowed_V: Tensor, targets_N: Tensor, coefficient_N: Tensor
) -> tuple[Tensor, Tensor]:
    """sum(coefficient * cross-entropy), to be differentiated by outputs and weight, and the cross-entropies (N,), nats,
    detached; (S,) and (S, N) where the others have an S. Products are in autocast's precision where it is on;
    log-probabilities and sums over stretches in fp32 (in fp64 for fp64)."""
    return _Scored.apply(outputs_NW, weight_VW, allowed_V, targets_N, coefficient_N)  # type: ignore[return-value]


def cross_entropy(
    raw_CV: Tensor, allowed_V: Tensor, targets_C1: Tensor, coefficient_C1: Tensor
) -> tuple[Tensor, Tensor]:
    """Nats (C,) in fp32 at least, and the slope of sum(coefficient * nats) by the logits, (C, V) in their own type."""
    logits_CV = raw_CV.to(torch.promote_types(raw_CV.dtype, torch.float32)).add_(allowed_V)
    total_C1 = logits_CV.logsumexp(-1, keepdim=True)
    nats_C = (total_C1 - logits_CV.gather(-1, targets_C1))[..., 0]
    slope_CV = logits_CV.sub_(total_C1).exp_()
    slope_CV.scatter_add_(-1, targets_C1, torch.full_like(total_C1, -1.0))
    return nats_C, slope_CV.mul_(coefficient_C1).to(raw_CV.dtype)


@lru_cache(maxsize=1)
def fused() -> Callable[..., tuple[Tensor, Tensor]]:
    """The same compiled: on a GPU each of its steps by itself would read and write all logits."""
    return torch.compile(cross_entropy, dynamic=True)


class _Scored(torch.autograd.Function):
    """The gradient is made in the forward pass, while a stretch's logits are there: it is linear in the loss."""

    @staticmethod
    def forward(
        ctx: Any, outputs_NW: Tensor, weight_VW: Tensor, allowed_V: Tensor, targets_N: Tensor, coefficient_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        device = outputs_NW.device.type
        mixed = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else outputs_NW.dtype
        exact = torch.promote_types(outputs_NW.dtype, torch.float32)
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        slopes = fused() if device == "cuda" else cross_entropy
        kernel_VW, size = weight_VW.to(mixed), max(1, STRETCH // weight_VW.shape[:-1].numel())
        nats_N = torch.empty(outputs_NW.shape[:-1], dtype=exact, device=outputs_NW.device)
        by_outputs_NW = torch.empty_like(outputs_NW) if wanted else None
        by_weight_VW = torch.zeros_like(weight_VW, dtype=exact) if wanted else None
        with torch.autocast(device, enabled=False):
            for first in range(0, outputs_NW.shape[-2], size):
                now = slice(first, first + size)
                rows_CW = outputs_NW[..., now, :].to(mixed)
                targets_C1, coefficient_C1 = targets_N[..., now, None], coefficient_N[..., now, None]
                raw_CV = rows_CW @ kernel_VW.mT
                nats_N[..., now], slope_CV = slopes(raw_CV, allowed_V, targets_C1, coefficient_C1)
                if by_outputs_NW is None or by_weight_VW is None:
                    continue
                by_outputs_NW[..., now, :] = (slope_CV @ kernel_VW).to(by_outputs_NW.dtype)
                by_weight_VW += slope_CV.mT @ rows_CW
        ctx.save_for_backward(by_outputs_NW, by_weight_VW)
        ctx.weight_dtype = weight_VW.dtype
        ctx.mark_non_differentiable(nats_N)
        return (nats_N * coefficient_N).sum(-1), nats_N

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        by_outputs_NW, by_weight_VW = ctx.saved_tensors
        slope = slopes[0][..., None, None]
        return by_outputs_NW * slope, (by_weight_VW * slope).to(ctx.weight_dtype), None, None, None

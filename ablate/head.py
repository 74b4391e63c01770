"""The head of the network and its loss at once, a stretch of outputs at a time, so that full logits never exist.

Shapes: N scored outputs, C of them in a stretch, W width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

STRETCH = 2**27  # logits made at once; in fp32 half a GiB


def scored_loss(
    outputs_NW: Tensor, weight_VW: Tensor, allowed_V: Tensor, targets_N: Tensor, coefficient_N: Tensor
) -> tuple[Tensor, Tensor]:
    """sum(coefficient * cross-entropy), to be differentiated by outputs and weight, and the cross-entropies (N,), nats,
    detached. Products are in autocast's precision where it is on; log-probabilities and sums over stretches in fp32
    (in fp64 for fp64)."""
    return _Scored.apply(outputs_NW, weight_VW, allowed_V, targets_N, coefficient_N)  # type: ignore[return-value]


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
        kernel_VW, size = weight_VW.to(mixed), max(1, STRETCH // len(weight_VW))
        nats_N = torch.empty(len(outputs_NW), dtype=exact, device=outputs_NW.device)
        by_outputs_NW = torch.empty_like(outputs_NW) if wanted else None
        by_weight_VW = torch.zeros_like(weight_VW, dtype=exact) if wanted else None
        with torch.autocast(device, enabled=False):
            for first in range(0, len(outputs_NW), size):
                now = slice(first, first + size)
                rows_CW = outputs_NW[now].to(mixed)
                logits_CV = (rows_CW @ kernel_VW.T).to(exact).add_(allowed_V)
                total_C1 = logits_CV.logsumexp(-1, keepdim=True)
                own_C1 = logits_CV.gather(1, targets_N[now, None])
                nats_N[now] = (total_C1 - own_C1)[:, 0]
                if by_outputs_NW is None or by_weight_VW is None:
                    continue
                slope_CV = logits_CV.sub_(total_C1).exp_()
                slope_CV.scatter_add_(1, targets_N[now, None], torch.full_like(own_C1, -1.0))
                slope_CV = slope_CV.mul_(coefficient_N[now, None]).to(mixed)
                by_outputs_NW[now] = (slope_CV @ kernel_VW).to(by_outputs_NW.dtype)
                by_weight_VW += slope_CV.T @ rows_CW
        ctx.save_for_backward(by_outputs_NW, by_weight_VW)
        ctx.weight_dtype = weight_VW.dtype
        ctx.mark_non_differentiable(nats_N)
        return (nats_N * coefficient_N).sum(), nats_N

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        by_outputs_NW, by_weight_VW = ctx.saved_tensors
        return by_outputs_NW * slopes[0], (by_weight_VW * slopes[0]).to(ctx.weight_dtype), None, None, None

"""What CUDA would keep, kept by fake CPU tensors: a machine without a GPU can go through a GPU's step.

Fake CUDA tensors would say it themselves, but autograd refuses them where torch is built without CUDA.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.compute.device import Device
from ablate.model import attention


@contextmanager
def as_on(device: Device) -> Iterator[None]:
    """Has fake CPU tensors keep what CUDA would. Its fused norm keeps its input and a number a row, where the CPU's
    keeps every product, and autocast has it in fp32. Attention without a dense mask keeps queries, keys as few as they
    are, values, output and log-sum-exp: so do the flash kernel and FlexAttention, which could not be gone through
    without its scores, and whose mask is a few kB.

    A TorchFunctionMode would be cleaner, but is off during a backward pass, where layers may be run again.
    """
    if device is not Device.cuda:
        yield
        return
    stand_ins = [
        (F, "rms_norm", _norm),
        (F, "scaled_dot_product_attention", partial(_attention, F.scaled_dot_product_attention)),
        (attention, "flex", lambda _: partial(_attention, None)),
        (attention, "lasting_block_mask", lambda *_: "none"),
    ]
    before = [getattr(module, name) for module, name, _ in stand_ins]
    try:
        for module, name, stand_in in stand_ins:
            setattr(module, name, stand_in)
        yield
    finally:
        for (module, name, _), own in zip(stand_ins, before, strict=True):
            setattr(module, name, own)


def _norm(x: Tensor, _: Any, gain: Tensor, __: float) -> Tensor:
    return _FusedNorm.apply(x.float() if torch.is_autocast_enabled("cpu") else x, gain)  # type: ignore[return-value]


def _attention(masked: Any, *qkv: Tensor, attn_mask: Tensor | None = None, **more: Any) -> Tensor:
    if attn_mask is not None:
        return masked(*qkv, attn_mask=attn_mask, **more)
    mixed = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else qkv[0].dtype
    return torch.ops.aten._scaled_dot_product_flash_attention(*(x.to(mixed) for x in qkv))[0]


class _FusedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        ctx.save_for_backward(x, gain, x.new_empty((*x.shape[:-1], 1), dtype=torch.float32))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor]:
        x, gain, _ = ctx.saved_tensors
        return torch.empty_like(x), torch.empty_like(gain)

"""FlexAttention and its masks.

Shapes: B sequences, L positions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from ablate.core.blocks import block_of
from ablate.model.attention_pattern import Attention, Pattern, first_places

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn.attention.flex_attention import BlockMask


KERNELS = 64  # one each for a pattern, with and without documents, trained and measured


def flex(device: torch.device) -> Callable[..., Tensor]:
    """FlexAttention: compiled on CUDA, where it would else write out all scores; on a CPU it has no backward pass."""
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    if device.type != "cuda" or torch.compiler.is_compiling():  # a layer that is compiled compiles it too
        return flex_attention
    return compiled_flex()


@lru_cache(maxsize=1)
def compiled_flex() -> Callable[..., Tensor]:
    """Compiled again for every kind of mask: beyond torch's limit of 8 it would write out all scores after all."""
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    allow_kernels()
    return torch.compile(flex_attention, dynamic=False)


def allow_kernels() -> None:
    """Lets torch compile a kernel for every shape and kind of mask, none of them for shapes left open, and leave DDP's
    buckets alone: they are smaller than one matrix, and would cut each layer's graph at every one."""
    from torch._dynamo import config

    config.recompile_limit = max(config.recompile_limit, KERNELS)
    config.optimize_ddp = False


def block_mask(
    pattern: Pattern, length: int, device: torch.device, spared: bool, documents_BL: Tensor | None = None
) -> BlockMask:
    """FlexAttention's mask, of the joined sequence where there are draws, of each row where there are documents.

    Written apart from `visible`, against which it is tested.
    """
    import torch
    from torch.nn.attention.flex_attention import and_masks, create_block_mask

    size, noise = max(1, pattern.size), pattern.draws * length
    starts_BL = None if documents_BL is None else first_places(documents_BL)

    def anticausal(b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        first = 0 if starts_BL is None else starts_BL[b, q]
        return (k == first) | ((k >= q) & (q > first))

    def block(_b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        query, key = block_of(q % length, size), block_of(k % length, size)
        own_copy = (q // length == k // length) & (query == key)
        return ((q < noise) & (own_copy | ((k >= noise) & (key < query)))) | (
            (q >= noise) & (k >= noise) & (key <= query)
        )

    sees = {
        Attention.causal: lambda _b, _h, q, k: k <= q,
        Attention.full: lambda _b, _h, _q, k: k >= 0,
        Attention.anticausal: anticausal,
        Attention.block: block,
    }[pattern.kind]
    rows, queries = None, noise if spared else noise + length
    if starts_BL is not None:
        rows = len(starts_BL)
        sees = and_masks(sees, lambda b, _h, q, k: starts_BL[b, q % length] == starts_BL[b, k % length])
    make = create_block_mask
    if device.type == "cuda" and documents_BL is not None:  # else all B M M truth values are written out on the way
        make = torch.compile(create_block_mask, dynamic=False)
    return make(sees, rows, None, queries, noise + length, device=str(device))


@lru_cache(maxsize=64)
def lasting_block_mask(pattern: Pattern, length: int, device: torch.device, spared: bool) -> BlockMask:
    """Without documents: made once a pattern and length, since making it costs more than a pass."""
    import torch

    with torch.inference_mode(False):  # a probe may be the first to need what training then reads
        return block_mask(pattern, length, device, spared)

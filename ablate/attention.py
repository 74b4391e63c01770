"""Who may see whom, and the form in which attention is computed.

Shapes: B batch, H heads, L positions, D head width. A pattern is an argument of the network's forward pass, so a
change of stage touches no weight and no module.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Attention(StrEnum):
    """Pattern of visibility: `causal` sees itself and the left, `full` sees everything."""

    causal = "causal"
    full = "full"


class Form(StrEnum):
    """How attention is computed. `sdpa` is torch's fused kernel; `matmul` is softmax(q k^T) v written out."""

    sdpa = "sdpa"
    matmul = "matmul"


def visible(attention: Attention, length: int) -> Tensor:
    """(L, L) bool: may query i (row) see key j (column)? The reference that every form must equal."""
    import torch

    everything = torch.ones(length, length, dtype=torch.bool)
    return everything.tril() if attention is Attention.causal else everything


def attend(q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor, attention: Attention, form: Form) -> Tensor:
    """Attention output, (B, H, L, D); k and v may have fewer heads (grouped queries)."""
    import torch.nn.functional as F

    groups = q_BHLD.shape[1] // k_BHLD.shape[1]
    if groups > 1:
        k_BHLD, v_BHLD = (x.repeat_interleave(groups, dim=1) for x in (k_BHLD, v_BHLD))
    if form is Form.sdpa:
        return F.scaled_dot_product_attention(q_BHLD, k_BHLD, v_BHLD, is_causal=attention is Attention.causal)
    scores_BHLL = (q_BHLD * q_BHLD.shape[-1] ** -0.5) @ k_BHLD.transpose(-1, -2)
    if attention is not Attention.full:
        scores_BHLL = scores_BHLL + _bias(attention, q_BHLD.shape[2], q_BHLD.device, scores_BHLL.dtype)
    return scores_BHLL.softmax(-1) @ v_BHLD


@lru_cache(maxsize=64)
def _bias(attention: Attention, length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Additive mask: 0 where visible, -inf elsewhere."""
    import torch

    bias_LL = torch.zeros(length, length, dtype=dtype).masked_fill(~visible(attention, length), float("-inf"))
    return bias_LL.to(device)

"""Who may see whom, and the form in which attention is computed.

Shapes: B batch, R rows, H heads, L positions, D head width. A pattern is an argument of the network's forward pass, so
a change of stage touches no weight and no module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn.attention.flex_attention import BlockMask


class Attention(StrEnum):
    """Kind of visibility. `causal` sees itself and the left, `full` sees everything, `anticausal` itself, the right and
    position 0, which is given (and sees itself alone), `block` its own block and the blocks before it."""

    causal = "causal"
    full = "full"
    anticausal = "anticausal"
    block = "block"


class Form(StrEnum):
    """How attention is computed. `sdpa` is torch's fused kernel; `matmul` is softmax(q k^T) v written out; `dense` and
    `flex` put a noisy and a clean half into one sequence of 2L, the former with a dense mask, the reference."""

    sdpa = "sdpa"
    matmul = "matmul"
    dense = "dense"
    flex = "flex"


@dataclass(frozen=True)
class Pattern:
    """Who sees whom in one pass.

    size: tokens a block, where the kind is `block`. draws: 0 for a pass over sequences as they are. Else the rows of
    the pass are `draws` noisy copies of some sequences, stacked, and then the clean sequences: a noisy token sees its
    own block of its own copy and the clean blocks before it, a clean token sees its own clean block and those before.
    clean_outputs: is anything read from the clean rows' outputs? If not the last layer need not make them.
    """

    kind: Attention
    size: int = 0
    draws: int = 0
    clean_outputs: bool = False


CAUSAL, FULL = Pattern(Attention.causal), Pattern(Attention.full)


def visible(pattern: Pattern, length: int) -> Tensor:
    """(L, L) bool: may query i (row) see key j (column) of the same row? The reference that every form must equal.

    For a pattern of noisy and clean rows it is (M, M), M = (draws + 1) L: the copies of a sequence, then itself.
    """
    import torch

    query_L1, key_1L = torch.arange(length)[:, None], torch.arange(length)[None]
    within = {
        Attention.causal: lambda: key_1L <= query_L1,
        Attention.full: lambda: torch.ones(length, length, dtype=torch.bool),
        Attention.anticausal: lambda: (key_1L == 0) | ((key_1L >= query_L1) & (query_L1 > 0)),
        Attention.block: lambda: key_1L // pattern.size <= query_L1 // pattern.size,
    }[pattern.kind]()
    if not pattern.draws:
        return within
    own = query_L1 // pattern.size == key_1L // pattern.size
    noisy = torch.block_diag(*[own] * pattern.draws).bool()
    before = (within & ~own).repeat(pattern.draws, 1)
    clean = torch.cat([torch.zeros_like(within).repeat(1, pattern.draws), within], 1)
    return torch.cat([torch.cat([noisy, before], 1), clean])


# Queries that share a call: fewer make more calls, more read keys that they may not see.
STRETCH = {Form.sdpa: 64, Form.matmul: 128}


def attend(
    q_RHLD: Tensor, k_RHLD: Tensor, v_RHLD: Tensor, pattern: Pattern, form: Form, documents_BL: Tensor | None = None
) -> Tensor:
    """Attention output, (R, H, L, D); k and v may have fewer heads (grouped queries), q may lack the clean rows."""
    if documents_BL is not None:
        raise NotImplementedError
    groups = q_RHLD.shape[1] // k_RHLD.shape[1]
    if groups > 1:
        k_RHLD, v_RHLD = (x.repeat_interleave(groups, dim=1) for x in (k_RHLD, v_RHLD))
    if not pattern.draws:
        return _within(q_RHLD, k_RHLD, v_RHLD, pattern, form)
    return (_joined if form in (Form.dense, Form.flex) else _split)(q_RHLD, k_RHLD, v_RHLD, pattern, form)


def _within(q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor, pattern: Pattern, form: Form) -> Tensor:
    """Sequences as they are."""
    import torch.nn.functional as F

    if form is not Form.matmul and pattern.kind in (Attention.causal, Attention.full):  # no mask need be read
        return F.scaled_dot_product_attention(q_BHLD, k_BHLD, v_BHLD, is_causal=pattern.kind is Attention.causal)
    length = q_BHLD.shape[2]
    whole = slice(0, length)
    return _masked(q_BHLD, k_BHLD, v_BHLD, _bias(pattern, length, whole, whole, q_BHLD.device, q_BHLD.dtype), form)


def _masked(q_BHLD: Tensor, k_BHMD: Tensor, v_BHMD: Tensor, bias_LM: Tensor, form: Form) -> Tensor:
    """Attention of L queries to M keys under an additive mask."""
    import torch.nn.functional as F

    if form is not Form.matmul:
        return F.scaled_dot_product_attention(q_BHLD, k_BHMD, v_BHMD, attn_mask=bias_LM)
    scores_BHLM = (q_BHLD * q_BHLD.shape[-1] ** -0.5) @ k_BHMD.transpose(-1, -2)
    return (scores_BHLM + bias_LM).softmax(-1) @ v_BHMD


def _split(q_RHLD: Tensor, k_RHLD: Tensor, v_RHLD: Tensor, pattern: Pattern, form: Form) -> Tensor:
    """Noisy and clean rows apart, a stretch of queries at a time, so that no key beyond what it may see is read.

    A stretch a..b of a noisy copy sees the clean keys 0..b and its own keys a..b, of the clean rows the former alone.
    """
    import torch

    rows, length = len(k_RHLD) // (pattern.draws + 1), q_RHLD.shape[2]
    clean_k, clean_v = k_RHLD[-rows:], v_RHLD[-rows:]
    step = max(1, STRETCH[form] // pattern.size) * pattern.size
    outputs = []
    for first in range(0, len(q_RHLD), rows):
        copy, parts = slice(first, first + rows), []
        noisy = first < pattern.draws * rows
        for a in range(0, length, step):
            now, seen = slice(a, min(a + step, length)), slice(0, min(a + step, length))
            k, v = clean_k[:, :, seen], clean_v[:, :, seen]
            if noisy:
                k, v = torch.cat([k, k_RHLD[copy, :, now]], 2), torch.cat([v, v_RHLD[copy, :, now]], 2)
            bias = _bias(pattern, length, now, seen, q_RHLD.device, q_RHLD.dtype, noisy)
            parts.append(_masked(q_RHLD[copy, :, now], k, v, bias, form))
        outputs.append(torch.cat(parts, 2))
    return torch.cat(outputs)


def _bias(
    pattern: Pattern, length: int, now: slice, seen: slice, device: torch.device, dtype: torch.dtype,
    noisy: bool = False,
) -> Tensor:  # fmt: skip
    """Additive mask of the queries `now`: 0 where visible, -inf elsewhere. Keys: `seen` of a sequence as it is or of a
    clean one, and for the queries of a noisy copy also `now` of its own keys."""
    return _table(pattern, length, now.start, now.stop, seen.stop, device, dtype, noisy)


@lru_cache(maxsize=256)
def _table(
    pattern: Pattern, length: int, start: int, stop: int, seen: int, device: torch.device, dtype: torch.dtype,
    noisy: bool,
) -> Tensor:  # fmt: skip
    import torch

    everything = visible(pattern, length)
    clean = everything.shape[1] - length  # first key of the clean half
    queries = everything[start:stop] if noisy else everything[clean + start : clean + stop]
    parts = [queries[:, clean : clean + seen], *([queries[:, start:stop]] if noisy else [])]
    seen_LM = torch.cat(parts, 1)
    return torch.zeros(seen_LM.shape, dtype=dtype).masked_fill(~seen_LM, float("-inf")).to(device)


def _joined(q_RHLD: Tensor, k_RHLD: Tensor, v_RHLD: Tensor, pattern: Pattern, form: Form) -> Tensor:
    """Copies and clean sequence as one, of (draws + 1) L tokens: the peers' form, and the reference."""
    import torch.nn.functional as F

    length, rows = q_RHLD.shape[2], len(k_RHLD) // (pattern.draws + 1)
    q, k, v = (
        x.unflatten(0, (-1, rows)).permute(1, 2, 0, 3, 4).flatten(2, 3) for x in (q_RHLD, k_RHLD, v_RHLD)
    )  # (B, H, M, D)
    if form is Form.flex:
        mixed = _flex(q.device)(q, k, v, block_mask=_block_mask(pattern, length, q.shape[2], q.device))
    else:
        mask_MM = _dense_mask(pattern, length, q.device)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_MM[: q.shape[2]])
    return mixed.unflatten(2, (-1, length)).permute(2, 0, 1, 3, 4).flatten(0, 1)


@lru_cache(maxsize=4)
def _flex(device: torch.device) -> Callable[..., Tensor]:
    """FlexAttention: compiled on CUDA, where it would else write out all scores; on a CPU it has no backward pass."""
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if device.type == "cuda" else flex_attention


@lru_cache(maxsize=16)
def _dense_mask(pattern: Pattern, length: int, device: torch.device) -> Tensor:
    return visible(pattern, length).to(device)


@lru_cache(maxsize=16)
def _block_mask(pattern: Pattern, length: int, queries: int, device: torch.device) -> BlockMask:
    """FlexAttention's mask of the joined sequence, made once a pattern and length: making it costs more than a pass."""
    from torch.nn.attention.flex_attention import create_block_mask

    size, noise = pattern.size, pattern.draws * length

    def sees(_b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        query, key = (q % length) // size, (k % length) // size
        own_copy = (q // length == k // length) & (query == key)
        return ((q < noise) & (own_copy | ((k >= noise) & (key < query)))) | (
            (q >= noise) & (k >= noise) & (key <= query)
        )

    return create_block_mask(sees, None, None, queries, noise + length, device=str(device))


TABLES = (_table, _dense_mask)  # what a compiled network need not make anew at every step

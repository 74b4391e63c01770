"""The form in which attention is computed.

Shapes: B sequences, R rows, H heads, L positions, D head width, M tokens of noisy copies and clean sequence, joined,
S stacked networks, C copies.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeAlias, cast

from ablate.model.attention_pattern import CAUSAL, FULL, Attention, Pattern, visible, visible_within
from ablate.model.flex_attention import block_mask, flex, lasting_block_mask

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn.attention.flex_attention import BlockMask

    Sight: TypeAlias = Tensor | BlockMask | None

__all__ = ["CAUSAL", "FULL", "Attention", "Form", "Pattern", "attend", "sight", "visible", "visible_within"]


class Form(StrEnum):
    """How attention is computed. `sdpa` is torch's fused kernel; `matmul` is softmax(q k^T) v written out; `dense` and
    `flex` put a noisy and a clean half into one sequence of 2L, the former with a dense mask, the reference."""

    sdpa = "sdpa"
    matmul = "matmul"
    dense = "dense"
    flex = "flex"


# Queries that share a call: fewer make more calls, more read keys that they may not see.
STRETCH = {Form.sdpa: 64, Form.matmul: 128}
UNMASKED = (Attention.causal, Attention.full)  # torch's fused kernel knows them without a mask


def sight(
    pattern: Pattern,
    form: Form,
    length: int,
    device: torch.device,
    documents_BL: Tensor | None = None,
    spared: bool = False,
) -> Sight:
    """What the layers of one pass need to know of who sees whom; None where pattern and form determine it.

    To be made once a pass, outside the layers: masks of documents differ from pass to pass. documents_BL: number of
    each token's document, where attention is limited to documents. spared: for a layer without queries of clean rows.
    Returns FlexAttention's mask, or what is visible, (B, 1, M, M) bool; for `_split` (B, 1, L, L), documents alone.
    """
    if form is Form.flex:
        if documents_BL is not None:
            return block_mask(pattern, length, device, spared, documents_BL)
        return None if pattern.kind in UNMASKED else lasting_block_mask(pattern, length, device, spared)
    if documents_BL is None:
        return None
    if pattern.draws and form is not Form.dense:
        return (documents_BL[:, :, None] == documents_BL[:, None])[:, None]
    return visible_within(pattern, documents_BL)[:, None]


def attend(q_RHLD: Tensor, k_RHLD: Tensor, v_RHLD: Tensor, pattern: Pattern, form: Form, seen: Sight = None) -> Tensor:
    """Attention output, (R, H, L, D); k and v may have fewer heads (grouped queries), q may lack the clean rows.

    seen: what `sight` gives for the pass. Where it is None there are no documents.
    """
    if form is Form.flex:  # whose kernels read grouped keys as they are, and keep no copies of them
        return _flexed(q_RHLD, k_RHLD, v_RHLD, pattern, cast("BlockMask | None", seen))
    groups = q_RHLD.shape[1] // k_RHLD.shape[1]
    if groups > 1:
        k_RHLD, v_RHLD = (x.repeat_interleave(groups, dim=1) for x in (k_RHLD, v_RHLD))
    compute = _within if not pattern.draws else _joined if form is Form.dense else _split
    return compute(q_RHLD, k_RHLD, v_RHLD, pattern, form, cast("Tensor | None", seen))


def attend_where(q_RHTD: Tensor, k_RHLD: Tensor, v_RHLD: Tensor, bias_R1TL: Tensor | None, form: Form) -> Tensor:
    """Attention output (R, H, T, D) of some queries under an additive mask, or to all keys; no query sees nothing."""
    groups = q_RHTD.shape[1] // k_RHLD.shape[1]
    if groups > 1:
        k_RHLD, v_RHLD = (x.repeat_interleave(groups, dim=1) for x in (k_RHLD, v_RHLD))
    return _masked(q_RHTD, k_RHLD, v_RHLD, bias_R1TL, form)


def _within(
    q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor, pattern: Pattern, form: Form, seen_B1LL: Tensor | None
) -> Tensor:
    """Sequences as they are."""
    if seen_B1LL is not None:
        return _masked(q_BHLD, k_BHLD, v_BHLD, additive(seen_B1LL, q_BHLD.dtype), form)
    if form is not Form.matmul and pattern.kind in UNMASKED:
        return _unmasked(q_BHLD, k_BHLD, v_BHLD, pattern)
    length = q_BHLD.shape[2]
    whole = slice(0, length)
    return _masked(q_BHLD, k_BHLD, v_BHLD, _bias(pattern, length, whole, whole, q_BHLD.device, q_BHLD.dtype), form)


def _unmasked(q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor, pattern: Pattern) -> Tensor:
    import torch
    import torch.nn.functional as F

    causal, groups = pattern.kind is Attention.causal, q_BHLD.shape[1] // k_BHLD.shape[1]
    if groups > 1 and q_BHLD.dtype == torch.float32:  # of which no fused kernel takes grouped keys
        k_BHLD, v_BHLD, groups = k_BHLD.repeat_interleave(groups, 1), v_BHLD.repeat_interleave(groups, 1), 1
    return F.scaled_dot_product_attention(q_BHLD, k_BHLD, v_BHLD, is_causal=causal, enable_gqa=groups > 1)


def _masked(q_BHLD: Tensor, k_BHMD: Tensor, v_BHMD: Tensor, bias_LM: Tensor | None, form: Form) -> Tensor:
    """Attention of L queries to M keys under an additive mask, of all rows or (B, 1, L, M) of each; None: to all."""
    import torch.nn.functional as F

    if form is not Form.matmul:
        return F.scaled_dot_product_attention(q_BHLD, k_BHMD, v_BHMD, attn_mask=bias_LM)
    scores_BHLM = (q_BHLD * q_BHLD.shape[-1] ** -0.5) @ k_BHMD.transpose(-1, -2)
    return (scores_BHLM if bias_LM is None else scores_BHLM + bias_LM).softmax(-1) @ v_BHMD


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where visible, -inf elsewhere."""
    import torch

    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, float("-inf"))


def _split(
    q_RHLD: Tensor, k_RHLD: Tensor, v_RHLD: Tensor, pattern: Pattern, form: Form, same_B1LL: Tensor | None
) -> Tensor:
    """Noisy and clean rows apart, a stretch of queries at a time, so that no key beyond what it may see is read.

    A stretch a..b of a noisy copy sees the clean keys 0..b and its own keys a..b, of the clean rows the former alone.
    same_B1LL: are two tokens in one document?
    """
    import torch

    length, rows = q_RHLD.shape[2], len(k_RHLD) // (pattern.seeds * (pattern.draws + 1))
    q_SCBHLD, k_SCBHLD, v_SCBHLD = (x.unflatten(0, (pattern.seeds, -1, rows)) for x in (q_RHLD, k_RHLD, v_RHLD))
    clean_k, clean_v = k_SCBHLD[:, -1].flatten(0, 1), v_SCBHLD[:, -1].flatten(0, 1)
    step = max(1, STRETCH[form] // pattern.size) * pattern.size
    outputs = []
    for copy in range(q_SCBHLD.shape[1]):
        noisy, parts = copy < pattern.draws, []
        own_q, own_k, own_v = (x[:, copy].flatten(0, 1) for x in (q_SCBHLD, k_SCBHLD, v_SCBHLD))
        for a in range(0, length, step):
            now, seen = slice(a, min(a + step, length)), slice(0, min(a + step, length))
            k, v = clean_k[:, :, seen], clean_v[:, :, seen]
            if noisy:
                k, v = torch.cat([k, own_k[:, :, now]], 2), torch.cat([v, own_v[:, :, now]], 2)
            bias = _bias(pattern, length, now, seen, q_RHLD.device, q_RHLD.dtype, noisy)
            if same_B1LL is not None:
                same = [same_B1LL[:, :, now, seen], *([same_B1LL[:, :, now, now]] if noisy else [])]
                bias = bias.masked_fill(~torch.cat(same, -1), float("-inf"))
            parts.append(_masked(own_q[:, :, now], k, v, bias, form))
        outputs.append(torch.cat(parts, 2).unflatten(0, (pattern.seeds, -1)))
    return torch.stack(outputs, 1).flatten(0, 2)


def _bias(
    pattern: Pattern,
    length: int,
    now: slice,
    seen: slice,
    device: torch.device,
    dtype: torch.dtype,
    noisy: bool = False,
) -> Tensor:
    """Additive mask of the queries `now`: 0 where visible, -inf elsewhere. Keys: `seen` of a sequence as it is or of a
    clean one, and for the queries of a noisy copy also `now` of its own keys."""
    import torch

    table = _table.__wrapped__ if torch.compiler.is_compiling() else _table  # compiled, it is part of the graph
    return table(pattern, length, now.start, now.stop, seen.stop, device, dtype, noisy)


@lru_cache(maxsize=256)
def _table(
    pattern: Pattern,
    length: int,
    start: int,
    stop: int,
    seen: int,
    device: torch.device,
    dtype: torch.dtype,
    noisy: bool,
) -> Tensor:
    import torch

    with torch.inference_mode(False):  # a probe may be the first to need what training then reads
        everything = visible(pattern, length)
        clean = everything.shape[1] - length  # first key of the clean half
        queries = everything[start:stop] if noisy else everything[clean + start : clean + stop]
        parts = [queries[:, clean : clean + seen], *([queries[:, start:stop]] if noisy else [])]
        return additive(torch.cat(parts, 1), dtype).to(device)


def _joined(
    q_RHLD: Tensor, k_RHLD: Tensor, v_RHLD: Tensor, pattern: Pattern, _: Form, seen_B1MM: Tensor | None
) -> Tensor:
    """Copies and clean sequence as one, of M = (draws + 1) L tokens: the reference."""
    import torch.nn.functional as F

    q, k, v = _join(q_RHLD, k_RHLD, v_RHLD, pattern)
    mask = _dense_mask(pattern, q_RHLD.shape[2], q.device)[None, None] if seen_B1MM is None else seen_B1MM
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, :, : q.shape[2]])
    return _apart(mixed, q_RHLD.shape[2], pattern.seeds)


def _flexed(q_RHLD: Tensor, k_RHLD: Tensor, v_RHLD: Tensor, pattern: Pattern, mask: BlockMask | None) -> Tensor:
    """By FlexAttention, noisy and clean rows joined: the peers' form. Patterns without a mask by torch's fused kernel.

    That kernel never gets a mask here: with one, cuDNN's (torch 2.11 and later, H100) makes NaN gradients of queries
    where L % 128 == 64 and a row's log-sum-exp is below -88.7 (pytorch issue 196678).
    """
    length, spared = q_RHLD.shape[2], len(q_RHLD) < len(k_RHLD)
    if mask is None:
        mask = cast("BlockMask | None", sight(pattern, Form.flex, length, q_RHLD.device, spared=spared))
    if mask is None:
        return _unmasked(q_RHLD, k_RHLD, v_RHLD, pattern)
    q_RHLD, k_RHLD = q_RHLD.to(v_RHLD.dtype), k_RHLD.to(v_RHLD.dtype)  # autocast norms heads in fp32
    compute = partial(flex(q_RHLD.device), block_mask=mask, enable_gqa=q_RHLD.shape[1] > k_RHLD.shape[1])
    if not pattern.draws:
        return compute(q_RHLD, k_RHLD, v_RHLD)
    return _apart(compute(*_join(q_RHLD, k_RHLD, v_RHLD, pattern)), length, pattern.seeds)


def _join(q_RHLD: Tensor, k_RHLD: Tensor, v_RHLD: Tensor, pattern: Pattern) -> tuple[Tensor, ...]:
    """(B, H, M, D) each; queries of fewer than M tokens where they lack the clean rows."""
    rows = len(k_RHLD) // (pattern.seeds * (pattern.draws + 1))
    apart = (x.unflatten(0, (pattern.seeds, -1, rows)) for x in (q_RHLD, k_RHLD, v_RHLD))
    return tuple(x.permute(0, 2, 3, 1, 4, 5).flatten(3, 4).flatten(0, 1) for x in apart)


def _apart(mixed_BHMD: Tensor, length: int, seeds: int) -> Tensor:
    """(R, H, L, D)."""
    apart_SBHCLD = mixed_BHMD.unflatten(2, (-1, length)).unflatten(0, (seeds, -1))
    return apart_SBHCLD.permute(0, 3, 1, 2, 4, 5).flatten(0, 2)


@lru_cache(maxsize=16)
def _dense_mask(pattern: Pattern, length: int, device: torch.device) -> Tensor:
    return visible(pattern, length).to(device)


TABLES = (_table, _dense_mask)  # what is kept from pass to pass

"""Who may see whom. A pattern is an argument of the network's forward pass, so a change of stage touches no weight and
no module.

Shapes: B sequences, R rows, L positions, M tokens of noisy copies and the clean sequence, joined, S stacked networks,
C copies of a sequence, the clean one included.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from ablate.core.blocks import block_of

if TYPE_CHECKING:
    from torch import Tensor


class Attention(StrEnum):
    """Kind of visibility. `causal` sees itself and the left, `full` sees everything, `anticausal` itself, the right and
    position 0, which is unscored (and sees itself alone), `block` its own block and the blocks before it."""

    causal = "causal"
    full = "full"
    anticausal = "anticausal"
    block = "block"


@dataclass(frozen=True)
class Pattern:
    """Who sees whom in one pass.

    size: tokens a block, where the kind is `block`. draws: 0 for a pass over sequences as they are. Else the rows of
    the pass are `draws` noisy copies of some sequences, stacked, and then the clean sequences: a noisy token sees its
    own block of its own copy and the clean blocks before it, a clean token sees its own clean block and those before.
    clean_outputs: is anything read from the clean rows' outputs? If not the last layer need not make them.
    seeds: stacked networks that share the pass; the rows of one come after those of another.
    """

    kind: Attention
    size: int = 0
    draws: int = 0
    clean_outputs: bool = False
    seeds: int = 1

    @property
    def spared(self) -> bool:
        """Does the last layer leave out the clean rows' outputs?"""
        return self.draws > 0 and not self.clean_outputs

    def noisy(self, x_RZ: Tensor) -> Tensor:
        """The rows without the clean ones, which are the last copy of each network's sequences."""
        x_SCBZ = x_RZ.unflatten(0, (self.seeds, self.draws + 1, -1))
        return x_SCBZ[:, :-1].flatten(0, 2)


CAUSAL, FULL = Pattern(Attention.causal), Pattern(Attention.full)


def visible(pattern: Pattern, length: int) -> Tensor:
    """(L, L) bool: query i (row) sees key j (column) of the same row. The reference that every form must equal.

    For a pattern of noisy and clean rows it is (M, M), M = (draws + 1) L: the copies of a sequence, then itself.
    """
    import torch

    query_L1, key_1L = torch.arange(length)[:, None], torch.arange(length)[None]
    # Branches and no lookup: a kind that is looked up in a dict is compiled without a guard on it (torch 2.13), and the
    # graph of one kind is then taken for another.
    if pattern.kind is Attention.causal:
        within = key_1L <= query_L1
    elif pattern.kind is Attention.full:
        within = torch.ones(length, length, dtype=torch.bool)
    elif pattern.kind is Attention.anticausal:
        within = (key_1L == 0) | ((key_1L >= query_L1) & (query_L1 > 0))
    else:
        within = block_of(key_1L, pattern.size) <= block_of(query_L1, pattern.size)
    if not pattern.draws:
        return within
    own = block_of(query_L1, pattern.size) == block_of(key_1L, pattern.size)
    noisy = torch.block_diag(*[own] * pattern.draws).bool()
    before = (within & ~own).repeat(pattern.draws, 1)
    clean = torch.cat([torch.zeros_like(within).repeat(1, pattern.draws), within], 1)
    return torch.cat([torch.cat([noisy, before], 1), clean])


def visible_within(pattern: Pattern, documents_BL: Tensor) -> Tensor:
    """(B, L, L) or (B, M, M) bool: the same where a token sees its own document alone, by the number of each token's
    document, which never falls along a row; noisy copies have the documents of their sequence.

    Under `anticausal` the first token of each document is unscored, and takes the part that position 0 has in a window
    of one document. Every token sees itself, so no query is without a key.
    """
    import torch

    same_BLL = documents_BL[:, :, None] == documents_BL[:, None]
    if pattern.kind is Attention.anticausal:
        place_L = torch.arange(documents_BL.shape[1], device=documents_BL.device)
        first_BL = place_L == first_places(documents_BL)
        later_BLL = (place_L >= place_L[:, None]) & ~first_BL[:, :, None]
        return same_BLL & (first_BL[:, None] | later_BLL)
    everything = visible(pattern, documents_BL.shape[1]).to(documents_BL.device)
    return everything & same_BLL.repeat(1, pattern.draws + 1, pattern.draws + 1)


def first_places(documents_BL: Tensor) -> Tensor:
    """(B, L) int64: where the document of each token begins."""
    import torch

    return torch.searchsorted(documents_BL.contiguous(), documents_BL.contiguous())

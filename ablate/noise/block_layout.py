"""The blocks of a sequence as noise sees them: which of their tokens may be hidden.

Shapes: B rows, L positions, K blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from ablate.core.blocks import block_of


@dataclass(frozen=True)
class Layout:
    """Blocks of a sequence, the last of which may be short; position 0 is never hidden."""

    size: int
    length: int

    @property
    def blocks(self) -> int:
        return -(-self.length // self.size)

    @cached_property
    def block_L(self) -> Tensor:
        return block_of(torch.arange(self.length), self.size)

    @cached_property
    def open_L(self) -> Tensor:
        """(L,) bool: tokens that may be hidden."""
        return torch.arange(self.length) > 0

    @cached_property
    def rank_L(self) -> Tensor:
        """How many tokens that may be hidden stand before it in its block."""
        return torch.arange(self.length) % self.size - (self.block_L == 0).long()

    @cached_property
    def count_K(self) -> Tensor:
        """Tokens of a block that may be hidden; at least 1, so that nothing is divided by 0 where there are none."""
        return self.sums(self.open_L[None])[0].clamp_min(1)

    def sums(self, values_BL: Tensor) -> Tensor:
        """(B, K) sums over blocks."""
        sums_BK = torch.zeros(len(values_BL), self.blocks, dtype=torch.float64)
        return sums_BK.index_add_(1, self.block_L, values_BL.double())


@lru_cache(maxsize=64)
def layout_of(size: int, length: int) -> Layout:
    """The layout of this size and length, its tables made once."""
    return Layout(size, length)

"""The decoding loop: reveals an answer block by block, one token a pass.

Shapes: B sequences, L positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ablate.decoding.predictor import Predict

PROTOCOL = "greedy; most confident first; one token a pass; answer as MASK"


def block_index(answer_BL: Tensor, size: int) -> Tensor:
    """Which block of `size` answer tokens each position belongs to, counted from 0; -1 in the prompt."""
    index_BL = (answer_BL.cumsum(1) - 1) // size
    return index_BL.masked_fill(~answer_BL, -1)


def reveal(predict: Predict, tokens_BL: Tensor, answer_BL: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Fills the answers in place, step by step (see `decode`).

    Yields before each step (chosen_B1, still_B1): the position that each row reveals next, and whether the row has one
    left in this block.
    """
    if size < 1:
        raise ValueError(f"decode: block size: wanted at least 1, got {size}")
    block_BL = block_index(answer_BL, size)
    for block in range(int(block_BL.max()) + 1):
        open_BL = block_BL == block
        for _ in range(int(open_BL.sum(1).max())):
            confidence_BL, token_BL = predict(tokens_BL).max(-1)
            chosen_B1 = confidence_BL.masked_fill(~open_BL, -math.inf).argmax(1, keepdim=True)
            still_B1 = open_BL.any(1, keepdim=True)
            yield chosen_B1, still_B1
            value_B1 = torch.where(still_B1, token_BL.gather(1, chosen_B1), tokens_BL.gather(1, chosen_B1))
            tokens_BL.scatter_(1, chosen_B1, value_B1)
            open_BL.scatter_(1, chosen_B1, False)


def decode(predict: Predict, prompt_BL: Tensor, answer_BL: Tensor, size: int, mask_id: int) -> Tensor:
    """Fills the answers block by block, left to right; returns (B, L) int64.

    Within a block the most confident open token is revealed first, one a forward pass (LLaDA, Nie et al., 2025).
    Rows do not influence each other. Raises ValueError for a block size below 1.
    """
    tokens_BL = prompt_BL.masked_fill(answer_BL, mask_id)
    for _ in reveal(predict, tokens_BL, answer_BL, size):
        pass
    return tokens_BL

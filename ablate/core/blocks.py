"""The block grid: which block a position belongs to. Masks, attention, decoding, contexts and bounds all ask here.

Shapes: B sequences, L positions.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

Position = TypeVar("Position")  # a whole number, or an array or tensor of them


class Grid(StrEnum):
    """Where the blocks of an answer are counted from.

    answer: the first token of the answer (LLaDA, Nie et al., 2025). sequence: position 0, as in training: the first
    block of an answer is what is left of the block in which the prompt ends.
    """

    answer = "answer"
    sequence = "sequence"


def block_of(place: Position, size: int, offset: int = 0) -> Position:
    """The block of a position, counted from 0. offset: 0..size - 1, where the first block that is not cut begins."""
    return (place + -offset % size) // size  # type: ignore[operator, no-any-return]


def answer_blocks(answer_BL: Tensor, size: int, grid: Grid, offset: int = 0) -> Tensor:
    """(B, L) int64: the block of each answer token, rising from left to right; -1 in the prompt.

    `sequence` cuts the sequence in blocks of `size` positions, `answer` the answer in blocks of `size` answer tokens.
    """
    import torch

    place_BL = answer_BL.cumsum(1) - 1
    if grid is Grid.sequence:
        place_BL = torch.arange(answer_BL.shape[1], device=answer_BL.device).expand_as(answer_BL)
    return block_of(place_BL, size, offset).masked_fill(~answer_BL, -1)


def offset_of(answer_BL: Tensor, size: int, grid: Grid) -> int | None:
    """Where the first block begins, 0..size - 1, if in blocks of `size` positions all rows agree; None where they do
    not, or where answers are not in one piece."""
    if grid is Grid.sequence:
        return 0
    answer_BL = answer_BL[answer_BL.any(1)]
    first_B, last_B = answer_BL.int().argmax(1), answer_BL.shape[1] - 1 - answer_BL.int().flip(1).argmax(1)
    whole = bool((last_B - first_B + 1 == answer_BL.sum(1)).all())
    offsets = (first_B % size).unique().tolist()
    return int(offsets[0]) if whole and len(offsets) == 1 else None

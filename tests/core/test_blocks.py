"""The block grid: every position in one block, and the same one for everybody who asks."""

import pytest
import torch

from ablate.core.blocks import Grid, answer_blocks, block_of, offset_of
from ablate.model.attention_pattern import Attention, Pattern, visible
from ablate.noise.block_layout import layout_of

LENGTH = 17


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("offset", range(8))
def test_blocks_begin_at_the_offset_and_every_size_positions(size, offset):
    begins = [i for i in range(1, LENGTH) if block_of(i, size, offset % size) != block_of(i - 1, size, offset % size)]
    assert begins == [i for i in range(1, LENGTH) if (i - offset) % size == 0]
    assert block_of(0, size, offset % size) == 0


@pytest.mark.parametrize("size", range(1, 9))
def test_masks_attention_and_answers_have_one_grid(size):
    everything_BL = torch.ones(1, LENGTH, dtype=torch.bool)
    block_L = answer_blocks(everything_BL, size, Grid.sequence)[0]
    assert torch.equal(block_L, layout_of(size, LENGTH).block_L)
    assert torch.equal(visible(Pattern(Attention.block, size), LENGTH), block_L[None] <= block_L[:, None])


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("start", range(1, 9))
def test_an_answer_is_cut_by_the_sequence_or_by_itself(size, start):
    answer_BL = (torch.arange(LENGTH) >= start)[None]
    by_sequence, by_answer = (answer_blocks(answer_BL, size, grid)[0] for grid in (Grid.sequence, Grid.answer))
    assert (by_sequence[:start] == -1).all()
    assert (by_answer[:start] == -1).all()
    first = int((by_sequence == by_sequence[start]).sum())
    assert first == min(size - start % size, LENGTH - start), "what is left of the block in which the prompt ends"
    assert int((by_answer == 0).sum()) == min(size, LENGTH - start)
    assert offset_of(answer_BL, size, Grid.answer) == start % size
    assert offset_of(answer_BL, size, Grid.sequence) == 0
    assert torch.equal(by_answer[start:] - by_answer[start], (torch.arange(LENGTH - start)) // size)


def test_an_offset_needs_rows_that_agree_and_answers_in_one_piece():
    rows = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1]]).bool()
    assert offset_of(rows, 2, Grid.answer) is None
    assert offset_of(rows[:1], 2, Grid.answer) == 1
    assert offset_of(torch.tensor([[0, 1, 0, 1]]).bool(), 2, Grid.answer) is None
    assert offset_of(torch.tensor([[0, 1, 1, 1, 1], [0, 0, 0, 1, 1]]).bool(), 2, Grid.answer) == 1

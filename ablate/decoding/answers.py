"""Answers that are being revealed: which places are open, which are chosen, what is recorded of them.

Every row has its own block and its own pace: rows do not influence each other.

Shapes: B sequences, R rows that are not yet full, L positions, N open places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ablate.core.blocks import Grid, answer_blocks, block_of
from ablate.core.rng import uniform
from ablate.decoding.orders import PRIORITY, Open, choose
from ablate.decoding.protocol import Pace, Protocol, Rule

NEVER = torch.iinfo(torch.int64).max  # block of what is not to be revealed


@dataclass(frozen=True)
class Decoded:
    """Answers and how they came about.

    tokens_BL: int64. order_BL: int64, how many tokens of the row were revealed before this one; pass_BL: in which
    forward pass of the row, from 0; both -1 in the prompt. confidence_BL: probability by which the pace judged the
    token when it was revealed, nan in the prompt. passes_B: forward passes that each row took. seconds: of all rows
    together. With remasking all of these are of a token's last reveal. Behind the end of an answer that stopped stands
    its end token, with no order and a pass that was never made.
    """

    tokens_BL: Tensor
    order_BL: Tensor
    pass_BL: Tensor
    confidence_BL: Tensor
    passes_B: Tensor
    seconds: float
    protocol: Protocol

    @property
    def tokens_a_pass(self) -> float:
        """Answer tokens over forward passes; 0 where nothing was asked."""
        return float((self.order_BL >= 0).sum() / self.passes_B.sum().clamp_min(1))

    def before(self, pass_B1: Tensor, mask_id: int) -> Tensor:
        """(B, L) int64: what stood there before this pass of each row; without remasking alone."""
        return self.tokens_BL.masked_fill(self.pass_BL >= pass_B1, mask_id)

    @property
    def behind_BL(self) -> Tensor:
        """(B, L) bool: what is behind the end of its answer."""
        return (self.order_BL < 0) & (self.pass_BL >= 0)


class Answers:
    """What is revealed so far of the answers of B rows, and what is next."""

    def __init__(
        self, prompt_BL: Tensor, answer_BL: Tensor, protocol: Protocol, mask_id: int, seed: int, attention_size: int
    ):
        self.protocol, self.pace, self.seed, self.mask_id = protocol, Pace.read(protocol.pace), seed, mask_id
        self.tokens_BL, self.hidden_BL = prompt_BL.masked_fill(answer_BL, mask_id), answer_BL.clone()
        block_BL = answer_blocks(answer_BL, protocol.block_size, protocol.grid)
        if attention_size and protocol.grid is Grid.sequence:  # the finer of the two partitions, in order
            place_L = torch.arange(answer_BL.shape[1])
            block_BL = (block_BL * len(place_L) + block_of(place_L, attention_size)).masked_fill(~answer_BL, -1)
        self.block_BL = block_BL.masked_fill(~answer_BL, NEVER)
        self.order_BL, self.pass_BL = (torch.full_like(prompt_BL, -1) for _ in range(2))
        self.confidence_BL = torch.full(prompt_BL.shape, math.nan, dtype=torch.float64)
        self.revealed_B, self.passes_B = (torch.zeros(len(prompt_BL), dtype=torch.int64) for _ in range(2))
        self.of_block_B = torch.zeros(len(prompt_BL), dtype=torch.int64)  # passes so far in the row's present block
        self.again_BL = torch.zeros_like(answer_BL)  # hidden a second time
        self.key_BL = uniform(seed, "decoding/order", range(len(prompt_BL)), (prompt_BL.shape[1],))

    def block(self, row_R: Tensor) -> Tensor:
        """(R, L) bool: the places of each row's first block that is not full."""
        block_RL = self.block_BL[row_R]
        return block_RL == block_RL.masked_fill(~self.hidden_BL[row_R], NEVER).amin(1, keepdim=True)

    def reveal(self, row_R: Tensor, open_RL: Tensor, logp_NV: Tensor, k_N: Tensor | None) -> None:
        """One pass of these rows, each of which has an open place."""
        length, (in_row_N, place_N) = open_RL.shape[1], open_RL.nonzero(as_tuple=True)
        row_N = row_R[in_row_N]
        stream = f"decoding/token/{int(self.passes_B[row_R[0]])}"  # rows that are not full have had as many passes
        token_N = choose(logp_NV, self.protocol, self.seed, stream, row_N * length + place_N)
        sampled_N = logp_NV.gather(1, token_N[:, None])[:, 0]
        places = Open(logp_NV, sampled_N, place_N, self.key_BL[row_N, place_N], k_N)
        confidence_N = places.confidence(self.protocol.order)
        rank_N, count_R, open_R = self._ranked(row_R, open_RL, places, confidence_N)
        now_N = rank_N < count_R[in_row_N]
        at = (row_N[now_N], place_N[now_N])
        self.tokens_BL[at], self.hidden_BL[at] = token_N[now_N], False
        self.order_BL[at] = (self.revealed_B[row_N] + rank_N)[now_N]
        self.pass_BL[at], self.confidence_BL[at] = self.passes_B[at[0]], confidence_N[now_N]
        self.revealed_B[row_R] += count_R
        self.passes_B[row_R] += 1
        full_R = count_R == open_R
        self.of_block_B[row_R] = torch.where(full_R, 0, self.of_block_B[row_R] + 1)
        if self.protocol.remask and full_R.any():
            self._hide_again(row_R[full_R], self.block_BL[row_N, place_N][rank_N == 0][full_R])
        if self.protocol.stop_at:
            self._end(row_R)

    def _ranked(
        self, row_R: Tensor, open_RL: Tensor, places: Open, confidence_N: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(N,) which place of its row each is in the order of revealing, from 0; (R,) how many are revealed, and how
        many are open."""
        if len(confidence_N) == len(row_R):  # one in each row, whatever order and pace are
            one_R = torch.ones_like(row_R)
            return torch.zeros_like(row_R), one_R, one_R
        first, end = _span(open_RL)
        open_RL = open_RL[:, first:end]  # what is beyond takes no part
        confidence_RL = torch.zeros(open_RL.shape, dtype=torch.float64)
        confidence_RL[open_RL] = confidence_N
        priority_RL = torch.full(open_RL.shape, -math.inf, dtype=torch.float64)
        priority_RL[open_RL] = PRIORITY[self.protocol.order](places).clamp_min(torch.finfo(torch.float64).min)
        ranked_RL = priority_RL.argsort(dim=1, descending=True, stable=True)  # of equals the leftmost
        rank_RL = torch.empty_like(ranked_RL).scatter_(1, ranked_RL, torch.arange(end - first).expand_as(ranked_RL))
        open_R = open_RL.sum(1)
        return rank_RL[open_RL], self._count(row_R, open_R, confidence_RL.gather(1, ranked_RL)), open_R

    def _count(self, row_R: Tensor, open_R: Tensor, confidence_RL: Tensor) -> Tensor:
        """(R,) how many places are revealed, from their confidences in the order of revealing."""
        rule, number = self.pace.rule, self.pace.number
        if rule is Rule.tokens:
            wanted_R = torch.full_like(open_R, int(number))
        elif rule is Rule.passes:
            left_R = (int(number) - self.of_block_B[row_R]).clamp_min(1)
            wanted_R = -(-open_R // left_R)
        elif rule is Rule.all:
            wanted_R = open_R
        else:
            least_RL, n_L = confidence_RL.cummin(1).values, torch.arange(1, confidence_RL.shape[1] + 1)
            sure_RL = least_RL >= number if rule is Rule.threshold else (n_L + 1) * (1 - least_RL) < number
            wanted_R = sure_RL.int().cumprod(1).sum(1)
        return torch.minimum(wanted_R.clamp_min(1), open_R)

    def _hide_again(self, row_R: Tensor, block_R: Tensor) -> None:
        """Of blocks that are full for the first time, the least confident tokens."""
        block_RL = self.block_BL[row_R] == block_R[:, None]
        first_R1 = ~(self.again_BL[row_R] & block_RL).any(1, keepdim=True)
        confidence_RL = self.confidence_BL[row_R].masked_fill(~block_RL, math.inf)
        rank_RL = confidence_RL.argsort(dim=1, stable=True).argsort(1)
        chosen_RL = block_RL & first_R1 & (rank_RL < self.protocol.remask)
        at = (row_R[chosen_RL.nonzero()[:, 0]], chosen_RL.nonzero()[:, 1])
        self.tokens_BL[at], self.hidden_BL[at], self.again_BL[at] = self.mask_id, True, True

    def _end(self, row_R: Tensor) -> None:
        """Rows are full in which an end token stands and nothing before it is open."""
        answer_RL, hidden_RL = self.block_BL[row_R] != NEVER, self.hidden_BL[row_R]
        end_RL = torch.isin(self.tokens_BL[row_R], torch.tensor(self.protocol.stop_at)) & answer_RL & ~hidden_RL
        settled_RL = (hidden_RL.cumsum(1) == 0) & end_RL
        first_R1 = settled_RL.int().argmax(1, keepdim=True)
        behind_RL = settled_RL.any(1, keepdim=True) & answer_RL & (torch.arange(answer_RL.shape[1]) > first_R1)
        in_row, place = behind_RL.nonzero(as_tuple=True)
        at = (row_R[in_row], place)
        self.tokens_BL[at] = self.tokens_BL[row_R].gather(1, first_R1)[in_row, 0]
        self.hidden_BL[at], self.order_BL[at], self.confidence_BL[at] = False, -1, math.nan
        self.pass_BL[at] = self.passes_B[at[0]]

    def decoded(self) -> Decoded:
        """What has come of it; no time was taken."""
        return Decoded(
            self.tokens_BL, self.order_BL, self.pass_BL, self.confidence_BL, self.passes_B, 0.0, self.protocol
        )


def _span(open_RL: Tensor) -> tuple[int, int]:
    """The first and behind the last place that is open in any row."""
    places = open_RL.any(0).nonzero()
    return int(places[0]), int(places[-1]) + 1

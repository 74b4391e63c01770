"""Context samplers: what is visible when a token is predicted, under an objective or a decoder.

A sampler draws one context for each sequence. Blocks hold AR and masked diffusion as their ends: cut the scored
positions into blocks of `size`; pick a token, hence its block; everything before the block is visible, everything
scored after it is hidden; of the block itself N ~ Uniform{1..length} tokens are hidden. The mean over the hidden ones
is an unbiased estimate of the chain-rule bound per token without schedule variance (the B/N form of the bound: Ou et
al., 2024). Size 1 gives the contexts of AR, size L those of random masks. `RandomMasks` hides by a rate instead, as
training does.

Shapes: B contexts, L positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import beta, betainc
from torch import Tensor

from ablate.core.blocks import Grid, answer_blocks
from ablate.core.corpus import Oracle
from ablate.core.rng import generator, uniform
from ablate.core.validation import require
from ablate.decoding.loop import decode
from ablate.decoding.predictor import Predict
from ablate.decoding.protocol import Protocol, SuffixRead


@dataclass(frozen=True)
class Contexts:
    """Drawn contexts: what a model sees, what it is asked, how much each answer counts.

    inputs_BL: int64 with MASK. targets_BL: int64, the truth. weight_BL: float64, the weight of each answer in the loss,
    0 where nothing is asked. count_BL: float64, how often it is asked for, each time counting as one.
    """

    inputs_BL: Tensor
    targets_BL: Tensor
    weight_BL: Tensor
    count_BL: Tensor

    def mean(self, values_BL: Tensor) -> float:
        """Mean of a value over asked tokens, weighted as in the loss; values elsewhere are ignored."""
        return float(torch.where(self.weight_BL > 0, values_BL * self.weight_BL, 0.0).sum() / self.weight_BL.sum())

    def means(self, values_BL: Tensor) -> Tensor:
        """The same of each row that asks for anything, (rows,)."""
        weighted_BL = torch.where(self.weight_BL > 0, values_BL * self.weight_BL, 0.0)
        asked_B = self.weight_BL.sum(1) > 0
        return weighted_BL.sum(1)[asked_B] / self.weight_BL.sum(1)[asked_B]

    def within_documents(self, unscored_BL: Tensor, scored_BL: Tensor, mask_id: int) -> Contexts:
        """The same contexts of windows that hold several documents, whose unscored tokens are never asked for.

        A reader knows of a document's start by the boundary before it. So an unscored token is hidden where the last
        scored token before it is hidden: it would stand alone behind what is still to be read. Windows differ in their
        scored tokens, and each counts by their number, as in a mean over all tokens.
        """
        place_L = torch.arange(unscored_BL.shape[1])
        last_BL = torch.where(unscored_BL, 0, place_L).cummax(1).values
        unknown_BL = unscored_BL & (place_L > 0) & (self.inputs_BL.gather(1, last_BL) == mask_id)
        count_B1 = scored_BL.sum(1, keepdim=True)
        weight_BL = self.weight_BL * (count_B1 / count_B1.double().mean())
        return replace(self, inputs_BL=self.inputs_BL.masked_fill(unknown_BL, mask_id), weight_BL=weight_BL)

    def part(self, rows: slice) -> Contexts:
        return Contexts(*(x_BL[rows] for x_BL in vars(self).values()))

    def among(self, chosen_BL: Tensor) -> Contexts:
        """The same contexts, asking for the chosen positions alone."""
        return Contexts(self.inputs_BL, self.targets_BL, self.weight_BL * chosen_BL, self.count_BL * chosen_BL)


class ContextSampler(ABC):
    """One way in which contexts arise."""

    @abstractmethod
    def draw(self, tokens_BL: Tensor, scored_BL: Tensor, mask_id: int, seed: int) -> Contexts:
        """A context for each sequence; only scored positions are ever hidden.

        Raises ValueError if a row has nothing to be scored.
        """


@dataclass(frozen=True)
class Blocks(ContextSampler):
    """Blocks of `size` from left to right, or with `backwards` from right to left.

    grid, offset: where they are counted from, see `ablate.core.blocks`; mirrored where blocks go backwards. An offset
    moves them to the right. The same sequences have the same contexts for every model, with the truth in every revealed
    place and a random order in the block: what arms are compared on.
    """

    size: int
    backwards: bool = False
    grid: Grid = Grid.answer
    offset: int = 0

    def __post_init__(self) -> None:
        require("Blocks: size", self.size, self.size >= 1, "at least 1, which is AR", 1)
        require("Blocks: offset", self.offset, 0 <= self.offset < self.size, "0 or more, below the size", 0)

    def draw(self, tokens_BL: Tensor, scored_BL: Tensor, mask_id: int, seed: int) -> Contexts:
        if self.backwards:
            mirrored = replace(self, backwards=False).draw(tokens_BL.flip(1), scored_BL.flip(1), mask_id, seed)
            return Contexts(*(x_BL.flip(1) for x_BL in vars(mirrored).values()))
        counts_B = _counted(scored_BL)
        rows = len(tokens_BL)
        stream = f"contexts/{self.size}"
        u_B2 = uniform(seed, stream, range(rows), (2,))
        strata_B = torch.from_numpy(generator(seed, stream).permutation(rows))
        picked_B1 = ((strata_B + u_B2[:, 0]) / rows * counts_B).long()[:, None]
        block_BL = answer_blocks(scored_BL, self.size, self.grid, self.offset)
        is_picked_BL = scored_BL & (scored_BL.cumsum(1) == 1 + picked_B1)
        current_B1 = block_BL.masked_fill(~is_picked_BL, -1).amax(1, keepdim=True)
        inside_BL = block_BL == current_B1
        lengths_B = inside_BL.sum(1)
        hidden_B1 = (1 + (u_B2[:, 1] * lengths_B).long())[:, None]
        keys_BL = uniform(seed, f"{stream}/order", range(rows), (tokens_BL.shape[1],))
        rank_BL = keys_BL.masked_fill(~inside_BL, np.inf).argsort(1).argsort(1)
        asked_BL = inside_BL & (rank_BL < hidden_B1)
        inputs_BL = tokens_BL.masked_fill(asked_BL | (block_BL > current_B1), mask_id)
        return Contexts(inputs_BL, tokens_BL, asked_BL / hidden_B1.double(), asked_BL.double())


@dataclass(frozen=True)
class Suffix(ContextSampler):
    """The last N ~ Uniform{1..n} of n scored tokens are hidden, and asked.

    The r-th is hidden with probability r/n, so its weight is 1/r: every token then counts alike in the mean.
    """

    def draw(self, tokens_BL: Tensor, scored_BL: Tensor, mask_id: int, seed: int) -> Contexts:
        counts_B1 = _counted(scored_BL)[:, None]
        u_B1 = uniform(seed, "contexts/suffix", range(len(tokens_BL)), (1,))
        hidden_B1 = 1 + (u_B1 * counts_B1).long()
        asked_BL = scored_BL & (scored_BL.cumsum(1) > counts_B1 - hidden_B1)
        count_BL = asked_BL.double()
        weight_BL = count_BL / scored_BL.cumsum(1).clamp_min(1)
        return Contexts(tokens_BL.masked_fill(asked_BL, mask_id), tokens_BL, weight_BL, count_BL)


@dataclass(frozen=True)
class RandomMasks(ContextSampler):
    """Each scored token is hidden with probability t ~ U(low, high), and asked with weight E[1/t | N hidden].

    Of 1/t that has the mean without the tail, which would let a few rows speak for all; for U(0, 1) it is (n + 1)/N.
    (A warmup that drops the weight, as the paper's does, is what `count_BL` says.)

    causal: a hidden token sees its left alone, as under causal attention; then one token a row is asked, whether hidden
    by chance or not, and counts accordingly.
    (0, u) is a warmup's cap, low = high a fixed rate. Raises ValueError unless 0 <= low <= high <= 1 and high > 0.
    """

    low: float = 0.0
    high: float = 1.0
    causal: bool = False

    def __post_init__(self) -> None:
        holds = 0 <= self.low <= self.high <= 1 and self.high > 0
        require("RandomMasks", (self.low, self.high), holds, "0 <= low <= high <= 1 and high > 0", "RandomMasks(0, 1)")

    def draw(self, tokens_BL: Tensor, scored_BL: Tensor, mask_id: int, seed: int) -> Contexts:
        counts_B = _counted(scored_BL)
        rows, stream = len(tokens_BL), "contexts/random"
        strata_B = torch.from_numpy(generator(seed, stream).permutation(rows))
        u_B = (strata_B + uniform(seed, f"{stream}/rate", range(rows))) / rows
        t_B1 = (self.low + (self.high - self.low) * u_B).clamp_min(torch.finfo(torch.float64).tiny)[:, None]
        hidden_BL = scored_BL & (uniform(seed, stream, range(rows), (tokens_BL.shape[1],)) < t_B1)
        count_BL = hidden_BL.double()
        if self.causal:
            picked_B = (uniform(seed, f"{stream}/picked", range(rows)) * counts_B).long()
            picked_BL = scored_BL & (scored_BL.cumsum(1) == 1 + picked_B[:, None])
            count_BL = picked_BL * t_B1
            hidden_BL = hidden_BL | (scored_BL & (picked_BL.cumsum(1) > 0))
            return Contexts(tokens_BL.masked_fill(hidden_BL, mask_id), tokens_BL, picked_BL.double(), count_BL)
        weight_B1 = self._inverse_rate(hidden_BL.sum(1), counts_B)[:, None]
        return Contexts(tokens_BL.masked_fill(hidden_BL, mask_id), tokens_BL, count_BL * weight_B1, count_BL)

    def _inverse_rate(self, hidden_B: Tensor, counts_B: Tensor) -> Tensor:
        """E[1/t | N of n hidden] by incomplete beta functions; 0 where nothing is hidden, so nothing asked."""
        if self.low == self.high:
            return torch.full(hidden_B.shape, 1 / self.high, dtype=torch.float64)
        least, rest = hidden_B.clamp_min(1).numpy(), (counts_B - hidden_B + 1).numpy()

        def mass(a: np.ndarray) -> np.ndarray:
            return beta(a, rest) * (betainc(a, rest, self.high) - betainc(a, rest, self.low))

        return torch.from_numpy(np.where(hidden_B.numpy() > 0, mass(least) / mass(least + 1), 0.0))


@dataclass(frozen=True)
class Decoder(ContextSampler):
    """What a decoder sees when it reveals a token under a protocol: one answer token a row, drawn uniformly.

    What the decoder has revealed before stands in the context, right or wrong. oracle, attention_size: see
    `ablate.decoding.loop`. Raises ValueError for a protocol with remasking, whose states are not those of one order, or
    with a cut suffix, which is no context of the whole sequence.
    """

    predict: Predict
    protocol: Protocol
    oracle: Oracle | None = None
    attention_size: int = 0

    def __post_init__(self) -> None:
        require("Decoder: remask", self.protocol.remask, not self.protocol.remask, "0", 0)
        require("Decoder: suffix", self.protocol.suffix, self.protocol.suffix is SuffixRead.mask, "mask", "mask")

    def draw(self, tokens_BL: Tensor, scored_BL: Tensor, mask_id: int, seed: int) -> Contexts:
        counts_B, stream = _counted(scored_BL), f"contexts/decoder/{self.protocol.block_size}"
        number_B = (uniform(seed, stream, range(len(tokens_BL))) * counts_B).long()
        decoded = decode(
            self.predict,
            tokens_BL,
            scored_BL,
            self.protocol,
            mask_id,
            seed=seed,
            oracle=self.oracle,
            attention_size=self.attention_size,
        )
        asked_BL = decoded.order_BL == number_B[:, None]
        inputs_BL = decoded.before(decoded.pass_BL[asked_BL][:, None], mask_id)
        return Contexts(inputs_BL, tokens_BL, asked_BL.double(), asked_BL.double())


def _counted(scored_BL: Tensor) -> Tensor:
    """Scored positions of each row. Raises ValueError for none."""
    counts_B = scored_BL.sum(1)
    if not len(counts_B):
        raise ValueError("contexts: wanted at least one sequence, got none")
    if int(counts_B.min()) < 1:
        raise ValueError(f"contexts: row {int(counts_B.argmin())} has no scored position; wanted at least one")
    return counts_B

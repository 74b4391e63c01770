"""Which tokens are hidden, and what each counts: all that is random in a diffusion objective.

A level t, uniform on (0, 1], rules a block (or the whole sequence); noise turns it into a mask rate u. Mask sampling
says how a rate becomes a mask, a guard what happens to a block without one, a rule what a hidden token weighs.
Everything is addressed by (seed, stream, row), so that it depends neither on devices nor on the order of drawing.

Shapes: B rows, L positions, K blocks. Levels, rates and weights are float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ablate.core.rng import generator, uniform
from ablate.noise.block_layout import Layout
from ablate.noise.options import NO_WARMUP, BatchAddress, Denominator, Guard, MaskSampling, Phase, Strata
from ablate.noise.schedules import Noise


@dataclass(frozen=True)
class Masks:
    """hidden_BL: bool. weight_BL: what a hidden token counts, 0 elsewhere. expected_BL: mean of that weight, given the
    level: what a token counts whose context does not depend on the mask, and which is therefore always scored."""

    hidden_BL: Tensor
    weight_BL: Tensor
    expected_BL: Tensor


def levels(address: BatchAddress, strata: Strata, blocks: int = 1, draw: int = 0, draws: int = 1) -> Tensor:
    """(B, K) levels t in (0, 1]. With strata there is one for each row, block and draw of the global batch."""
    offsets_BK = uniform(address.seed, _stream("time", draw), address.sample_numbers, (blocks,))
    if strata is Strata.none:
        return 1.0 - offsets_BK
    count = address.global_batch * blocks * draws
    steps_B, rows_B = np.divmod(address.sample_numbers, address.global_batch)
    stratum_BK = (rows_B[:, None] * blocks + np.arange(blocks)) * draws + draw
    if strata is Strata.permuted:
        steps, which_B = np.unique(steps_B, return_inverse=True)
        orders = np.stack([_order(address.seed, step, count) for step in steps.tolist()])
        stratum_BK = orders[which_B[:, None], stratum_BK]
    return (torch.from_numpy(stratum_BK) + 1.0 - offsets_BK) / count


@lru_cache(maxsize=4)  # micro-batches of a step share it
def _order(seed: int, step: int, count: int) -> np.ndarray:
    return generator(seed, "strata", step).permutation(count)


def _stream(name: str, draw: int, redraw: int = 0) -> str:
    return name + f"/{draw}" * (draw > 0) + f"/again {redraw}" * (redraw > 0)


@dataclass(frozen=True)
class Corruption:
    """One way to mask.

    weight: a key of WEIGHTS, where mask_sampling is `rate`; the other kinds of mask sampling have their own weights.
    sequence: one level rules all blocks of a row. draws: copies, or complementary pairs of copies, averaged."""

    noise: Noise
    mask_sampling: MaskSampling = MaskSampling.rate
    guard: Guard = Guard.none
    weight: str = "1/t"
    sequence: bool = False
    draws: int = 1
    denominator: Denominator = Denominator.all
    strata: Strata = Strata.permuted

    def __hash__(self) -> int:
        return hash((type(self.noise), self.mask_sampling, self.guard, self.weight, self.draws))  # noise is not frozen

    def masks(self, layout: Layout, address: BatchAddress, phase: Phase = NO_WARMUP) -> list[Masks]:
        """Masks of every copy, weighed so that the loss is sum(weight * cross-entropy) / (global batch * (L - 1))."""
        copies = self._copies(layout, address, phase)
        if self.denominator is Denominator.all:
            scale_B1 = torch.full((1, 1), 1 / len(copies), dtype=torch.float64)
        elif self.denominator is Denominator.sequence:
            return [
                _scaled(m, (layout.length - 1) / m.hidden_BL.sum(1, keepdim=True).clamp_min(1) / len(copies))
                for m in copies
            ]
        else:  # of the global batch, whose masks are known to every process
            whole = len(address.indices) == address.global_batch
            everyone = copies if whole else self._copies(layout, address.whole_batch, phase)
            masked = torch.stack([m.hidden_BL.sum() for m in everyone]).sum().clamp_min(1)
            scale_B1 = (address.global_batch * (layout.length - 1) / masked.double()).reshape(1, 1)
        return [_scaled(m, scale_B1) for m in copies]

    def _copies(self, layout: Layout, address: BatchAddress, phase: Phase) -> list[Masks]:
        steps, rows = address.ahead, len(address.indices)
        if steps == 1 or phase != NO_WARMUP:  # each step of a warmup has a phase of its own
            return self._drawn(layout, address, phase)
        group, place = divmod(address.step, steps)
        key = address.seed, group * steps, tuple(address.indices.tolist()), address.global_batch, address.redraw
        part = slice(place * rows, (place + 1) * rows)
        copies = _drawn_ahead(self, layout, steps, *key)
        return [Masks(m.hidden_BL[part], m.weight_BL[part], m.expected_BL[part]) for m in copies]

    def _drawn(self, layout: Layout, address: BatchAddress, phase: Phase) -> list[Masks]:
        blocks = 1 if self.sequence else layout.blocks
        level = [phase.cap * levels(address, self.strata, blocks, d, self.draws) for d in range(self.draws)]
        return [masks for d, level_BK in enumerate(level) for masks in self.draw(level_BK, layout, address, d)]

    def draw(self, level_BK: Tensor, layout: Layout, address: BatchAddress, draw: int = 0) -> list[Masks]:
        """Masks of these rows at these levels, (B, K) or (B, 1): two where the guard is a complementary pair."""
        level_BK = level_BK.expand(-1, layout.blocks).contiguous()
        u_BL = uniform(address.seed, _stream("mask", draw, address.redraw), address.sample_numbers, (layout.length,))
        if self.mask_sampling is not MaskSampling.rate:
            return [_COUNTED[self.mask_sampling](level_BK, layout, u_BL)]
        rate_BK, slope_BK = self.noise.mask_rate(level_BK), self.noise.slope(level_BK)
        hidden_BL = (u_BL < _spread(rate_BK, layout)) & layout.open_L
        if self.guard in _GUARDS:
            choice_BK = uniform(
                address.seed, _stream("guard", draw, address.redraw), address.sample_numbers, (layout.blocks,)
            )
            hidden_BL = _GUARDS[self.guard](hidden_BL, rate_BK, choice_BK, u_BL, layout)
        q_BK = masked_probability(rate_BK, layout.count_K, self.guard)
        masks = [self._weighed(hidden_BL, rate_BK, q_BK, slope_BK, layout)]
        if self.guard is Guard.complementary:
            others_BL = layout.open_L & ~hidden_BL
            masks.append(self._weighed(others_BL, 1 - rate_BK, 1 - rate_BK, slope_BK, layout))
        return masks

    def _weighed(self, hidden_BL: Tensor, rate_BK: Tensor, q_BK: Tensor, slope_BK: Tensor, layout: Layout) -> Masks:
        """q_BK: probability that a token of the block is hidden, its guard included."""
        hidden_BK, count_K = layout.sums(hidden_BL), layout.count_K
        if self.sequence:
            hidden_BK, count_K = hidden_BK.sum(1, keepdim=True), layout.open_L.sum().clamp_min(1)
        surely = self.guard in _GUARDS
        some_BK = torch.ones_like(rate_BK) if surely else _any(rate_BK, count_K)
        ratio_BK = hidden_BK / count_K
        weight_BK, expected_BK = WEIGHTS[self.weight](slope_BK, rate_BK, q_BK, ratio_BK, some_BK)
        weight_BL, expected_BL = (_spread(x.expand(-1, layout.blocks), layout) for x in (weight_BK, expected_BK))
        weight_BL = torch.where(hidden_BL, weight_BL, 0.0)
        return Masks(hidden_BL, weight_BL, torch.where(layout.open_L, expected_BL, 0.0))


@lru_cache(maxsize=1024)  # as many as can train together
def _drawn_ahead(
    corruption: Corruption, layout: Layout, steps: int, seed: int, first: int, indices: tuple[int, ...], *rest: int
) -> list[Masks]:
    """Masks of several steps at once: for few rows an operator costs as much as for many. What follows `steps` are
    the fields of the first one's address, which as it is cannot be hashed."""
    address = BatchAddress(seed, first, np.array(indices), *rest)
    return corruption._drawn(layout, address.following(steps), NO_WARMUP)


def _scaled(masks: Masks, scale_B1: Tensor) -> Masks:
    return Masks(masks.hidden_BL, masks.weight_BL * scale_B1, masks.expected_BL * scale_B1)


# What a hidden token weighs, and the mean of that given the level, from the slope of the noise, the rate, the
# probability q to be hidden (guard included), the realised ratio, and the probability that anything is hidden.
WEIGHTS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "1/t": lambda slope, rate, q, ratio, some: (slope / rate, slope * torch.where(q == rate, 1.0, q / rate)),
    "1/q": lambda slope, rate, q, ratio, some: (slope / q, slope),
    "1/realised": lambda slope, rate, q, ratio, some: (1 / ratio, some),
    "1": lambda slope, rate, q, ratio, some: (torch.ones_like(q), q),
}


def _force(hidden_BL: Tensor, rate_BK: Tensor, choice_BK: Tensor, u_BL: Tensor, layout: Layout) -> Tensor:
    empty_BK = layout.sums(hidden_BL) == 0
    place_BK = (choice_BK * layout.count_K).long()
    chosen_BL = _spread(empty_BK, layout) & (layout.rank_L == _spread(place_BK, layout)) & layout.open_L
    return hidden_BL | chosen_BL


def _resample(hidden_BL: Tensor, rate_BK: Tensor, choice_BK: Tensor, u_BL: Tensor, layout: Layout) -> Tensor:
    """Drawing until there is a mask, at once: the first masked place is truncated geometric, the rest is free."""
    some_BK = _any(rate_BK, layout.count_K)
    first_BK = ((-choice_BK * some_BK).log1p() / (-rate_BK).log1p()).long().clamp(max=layout.count_K - 1)
    first_BL = _spread(first_BK, layout)
    later_BL = (layout.rank_L > first_BL) & (u_BL < _spread(rate_BK, layout))
    return ((layout.rank_L == first_BL) | later_BL) & layout.open_L


_GUARDS = {Guard.force: _force, Guard.resample: _resample}


def masked_probability(rate: Tensor, count: Tensor, guard: Guard) -> Tensor:
    """q: probability that a token of a block of `count` is hidden at this rate, its guard included."""
    if guard is Guard.force:
        return rate + (1 - rate) ** count / count
    return rate / _any(rate, count) if guard is Guard.resample else rate


def _count(level_BK: Tensor, layout: Layout, u_BL: Tensor) -> Masks:
    """N ~ Uniform{1..n} tokens, chosen uniformly, of weight n/N: the exact bound without noise of a rate (Ou et al.,
    2024)."""
    hidden_BK = (level_BK * layout.count_K).ceil()
    keys_BL = layout.block_L * 2 + torch.where(layout.open_L, u_BL, 1.5)
    places_BL = keys_BL.argsort(1).argsort(1) - layout.block_L * layout.size
    hidden_BL = (places_BL < _spread(hidden_BK, layout)) & layout.open_L
    weight_BL = torch.where(hidden_BL, _spread(layout.count_K / hidden_BK, layout), 0.0)
    return Masks(hidden_BL, weight_BL, layout.open_L.double().expand_as(weight_BL))


def _suffix(level_BK: Tensor, layout: Layout, u_BL: Tensor) -> Masks:
    """The last N ~ Uniform{1..n} tokens: the r-th is hidden with probability r/n, hence its weight n/r."""
    hidden_BK = (level_BK * layout.count_K).ceil()
    count_BL = _spread(layout.count_K.expand_as(level_BK), layout)
    hidden_BL = (layout.rank_L >= count_BL - _spread(hidden_BK, layout)) & layout.open_L
    weight_BL = torch.where(hidden_BL, count_BL / (layout.rank_L + 1), 0.0)
    return Masks(hidden_BL, weight_BL, layout.open_L.double().expand_as(weight_BL))


_COUNTED = {MaskSampling.count: _count, MaskSampling.suffix: _suffix}


def _any(rate_BK: Tensor, count_K: Tensor) -> Tensor:
    """1 - (1 - u)^n, without cancellation at small rates."""
    return -(count_K * (-rate_BK).log1p()).expm1()


def _spread(values_BK: Tensor, layout: Layout) -> Tensor:
    """Values of blocks at their positions."""
    return values_BK[:, layout.block_L]

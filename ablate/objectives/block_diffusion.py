"""Block diffusion: every block is denoised given the clean blocks before it (Arriola et al., 2025).

Shapes: B sequences, R rows of the pass (noisy copies, then the clean sequences), L positions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ablate.core.validation import refuse
from ablate.model.attention import Attention, Pattern
from ablate.noise.options import (
    NO_WARMUP,
    RULES,
    BatchAddress,
    Clip,
    Denominator,
    Guard,
    MaskSampling,
    Per,
    Phase,
    Strata,
)
from ablate.noise.schedules import AtomClip, Interval, Linear, Noise
from ablate.objectives.problem import Corrupted, Objective, setting_of_windows

if TYPE_CHECKING:
    from torch import Tensor

    from ablate.noise.masking import Corruption

MOST = 64  # noisy copies: each is a sequence more to read


@dataclass
class BlockDiffusion(Objective):
    """Masked diffusion within blocks of `size`, each given the clean blocks before it.

    schedule: the path or distribution of mask rates. clip: what is done to rates too low for a block. guard: to blocks
    without a mask; `complementary` (as a flag, or as the guard) scores every token in one of two copies. weight: of a
    hidden token, "1/t" (the schedule's own, 1/u for rate distributions), "1/q" (q: the probability to be hidden, guard
    included; unbiased with every guard), "1/realised" or "1". t_per: what one level rules. mask_sampling: `count` hides
    N ~ Uniform{1..n} of a block's n tokens with weight n/N, the exact bound. draws: noisy copies that share one clean
    pass, averaged.

    With `shift`, output i - 1 predicts token i. A block's first token is then read from the clean half, where its
    context does not depend on the mask: it is always scored, by the mean of its weight. So size=1 with shift is AR.

    Position i is in block i // size; the last block may be short. The paper's recipe is size=4, clip="atom",
    guard="force", weight="1/t", without shift; the defaults are the plain bound.
    Raises ValueError for combinations that mean nothing.
    """

    size: int = 4
    schedule: Noise = field(default_factory=Linear)
    clip: Clip = Clip.none
    guard: Guard = Guard.none
    weight: str = "1/t"
    t_per: Per = Per.block
    complementary: bool = False
    shift: bool = False
    mask_sampling: MaskSampling = MaskSampling.rate
    draws: int = 1
    denominator: Denominator = Denominator.all
    strata: Strata = Strata.permuted

    def __post_init__(self) -> None:
        self.clip, self.guard, self.t_per = Clip(self.clip), Guard(self.guard), Per(self.t_per)
        self.mask_sampling, self.denominator = MaskSampling(self.mask_sampling), Denominator(self.denominator)
        self.strata = Strata(self.strata)
        if self.complementary and self.guard is Guard.none:
            self.guard = Guard.complementary
        self.complementary = self.complementary or self.guard is Guard.complementary
        if self.complementary and self.draws == 1:
            self.draws = 2
        refuse((holds, f"BlockDiffusion({came}): {reason}") for holds, came, reason in self._legal())

    def _legal(self) -> list[tuple[bool, str, str]]:
        """Rules: (holds, what came, what was wanted and what to type)."""
        own = (self.schedule, self.clip, self.guard, self.weight) == (Linear(), Clip.none, Guard.none, "1/t")
        pair = self.guard is Guard.complementary
        return [
            (self.size >= 1, f"size={self.size}", "wanted a block of at least 1 token; try size=4"),
            (1 <= self.draws <= MOST, f"draws={self.draws}", f"wanted 1..{MOST} noisy copies; try draws=1"),
            (self.weight in RULES, f"weight={self.weight!r}", f"wanted one of {', '.join(RULES)}; try weight=1/t"),
            (
                self.mask_sampling is MaskSampling.rate or own,
                f"mask_sampling={self.mask_sampling}",
                "it draws a number of tokens, never 0, and "
                "has a weight of its own: schedule, clip, guard and weight mean nothing; leave them out",
            ),
            (
                self.complementary == pair,
                f"complementary=true, guard={self.guard}",
                "a complementary pair masks every "
                "token in one of two copies and needs no other guard; try guard=complementary",
            ),
            (
                not pair or self.draws % 2 == 0,
                f"complementary=true, draws={self.draws}",
                "pairs are two copies each; try draws=2",
            ),
            (
                self.clip is not Clip.interval or (self.schedule == Linear() and self.size > 1),
                f"clip=interval, size={self.size}, schedule={self.schedule}",
                "the interval is U(1/size, 1): it takes the "
                "schedule's place and is empty at size 1; leave the schedule linear, or try clip=atom",
            ),
            (
                not (self.shift and self.weight == "1/realised" and self.t_per is Per.sequence)
                or self.guard not in (Guard.force, Guard.resample),
                f"weight=1/realised, t_per=sequence, guard={self.guard}, shift=true",
                "the guard hides more in short blocks, so the mean weight of a block's "
                "first token is not known; try t_per=block",
            ),
            (
                self.clip is not Clip.atom or not isinstance(self.schedule, AtomClip),
                "clip=atom, schedule=atom_clip",
                "that clips twice; try clip=none",
            ),
        ]

    @property
    def reading(self) -> Pattern:
        return Pattern(Attention.block, self.size)

    @property
    def offset(self) -> int:
        return -1 if self.shift else 0

    @property
    def rows_read(self) -> float:
        return self.draws + 1

    @property
    def label(self) -> str:
        return f"BlockDiffusion({self.size})"

    @property
    def noisy(self) -> bool:
        return self.mask_sampling is MaskSampling.rate

    @property
    def of_windows(self) -> str:
        return setting_of_windows(self.mask_sampling, self.denominator, self.weight)

    def noise(self, phase: Phase = NO_WARMUP) -> Noise:
        """The schedule as clipped."""
        if not phase.clipped or self.clip is Clip.none:
            return self.schedule
        return AtomClip(self.size, self.schedule) if self.clip is Clip.atom else Interval(1 / self.size, 1.0)

    def corruption(self, phase: Phase = NO_WARMUP) -> Corruption:
        """How its masks are drawn."""
        from ablate.noise.masking import Corruption

        paired = self.guard is Guard.complementary  # not a clip: a warmup leaves it on
        return Corruption(
            self.noise(phase),
            self.mask_sampling,
            self.guard if phase.clipped or paired else Guard.none,
            self.weight if phase.weighted else "1",
            self.t_per is Per.sequence,
            self.draws // 2 if paired else self.draws,
            self.denominator,
            self.strata,
        )

    def corrupt(self, tokens_BL: Tensor, address: BatchAddress, mask_id: int, phase: Phase) -> Corrupted:
        import torch

        from ablate.noise.block_layout import layout_of

        device, layout = tokens_BL.device, layout_of(self.size, tokens_BL.shape[1])
        copies = self.corruption(phase).masks(layout, address, phase)
        inputs = [tokens_BL.masked_fill(masks.hidden_BL.to(device), mask_id) for masks in copies]
        weights = [masks.weight_BL for masks in copies]
        clean_BL = torch.zeros_like(weights[0])
        if self.shift:
            first_L = torch.arange(layout.length) % self.size == 0
            weights = [weight_BL.masked_fill(first_L, 0.0) for weight_BL in weights]
            clean_BL = sum((masks.expected_BL for masks in copies), clean_BL).masked_fill(~first_L, 0.0)
        weight_RL = torch.cat([*weights, clean_BL]).float().to(device)
        pattern = Pattern(Attention.block, self.size, self.draws, self.shift)
        return Corrupted(torch.cat([*inputs, tokens_BL]), weight_RL, pattern)

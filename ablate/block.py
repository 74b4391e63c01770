"""Block diffusion: every block is denoised given the clean blocks before it (Arriola et al., 2025).

Shapes: B sequences, R rows of the pass (noisy copies, then the clean sequences), L positions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ablate.attention import Attention, Pattern
from ablate.noise import CALM, RULES, Clip, Denominator, Guard, MaskLaw, Per, Phase, Rows, Strata
from ablate.problem import Objective, Problem, setting_of_windows
from ablate.schedule import AtomClip, Interval, Linear, Noise

if TYPE_CHECKING:
    from torch import Tensor

    from ablate.masks import Corruption

MOST = 64  # noisy copies: each is a sequence more to read


@dataclass
class BlockDiffusion(Objective):
    """Masked diffusion within blocks of `size`, each given the clean blocks before it.

    schedule: the path or law of mask rates. clip: what is done to rates too low for a block. guard: to blocks without a
    mask; `complementary` (as a flag, or as the guard) scores every token in one of two copies. weight: of a hidden
    token, "1/t" (the schedule's own, 1/u for laws of the rate), "1/q" (q: the probability to be hidden, guard included;
    unbiased with every guard), "1/realised" or "1". t_per: what one level rules. law: `count` hides
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
    law: MaskLaw = MaskLaw.rate
    draws: int = 1
    denominator: Denominator = Denominator.all
    strata: Strata = Strata.permuted

    def __post_init__(self) -> None:
        self.clip, self.guard, self.t_per = Clip(self.clip), Guard(self.guard), Per(self.t_per)
        self.law, self.denominator = MaskLaw(self.law), Denominator(self.denominator)
        self.strata = Strata(self.strata)
        if self.complementary and self.guard is Guard.none:
            self.guard = Guard.complementary
        self.complementary = self.complementary or self.guard is Guard.complementary
        if self.complementary and self.draws == 1:
            self.draws = 2
        for ok, came, reason in self._legal():
            if not ok:
                raise ValueError(f"BlockDiffusion({came}): {reason}")

    def _legal(self) -> list[tuple[bool, str, str]]:
        """(is it so?, what came, what was wanted and what to type)."""
        own = (self.schedule, self.clip, self.guard, self.weight) == (Linear(), Clip.none, Guard.none, "1/t")
        pair = self.guard is Guard.complementary
        return [
            (self.size >= 1, f"size={self.size}", "wanted a block of at least 1 token; try size=4"),
            (1 <= self.draws <= MOST, f"draws={self.draws}", f"wanted 1..{MOST} noisy copies; try draws=1"),
            (self.weight in RULES, f"weight={self.weight!r}", f"wanted one of {', '.join(RULES)}; try weight=1/t"),
            (self.law is MaskLaw.rate or own, f"law={self.law}", "it draws a number of tokens, never 0, and "
             "has a weight of its own: schedule, clip, guard and weight mean nothing; leave them out"),
            (self.complementary == pair, f"complementary=true, guard={self.guard}", "a complementary pair masks every "
             "token in one of two copies and needs no other guard; try guard=complementary"),
            (not pair or self.draws % 2 == 0, f"complementary=true, draws={self.draws}", "pairs are two copies each; "
             "try draws=2"),
            (self.clip is not Clip.interval or (self.schedule == Linear() and self.size > 1),
             f"clip=interval, size={self.size}, schedule={self.schedule}", "the interval is U(1/size, 1): it takes the "
             "schedule's place and is empty at size 1; leave the schedule linear, or try clip=atom"),
            (not (self.shift and self.weight == "1/realised" and self.t_per is Per.sequence)
             or self.guard not in (Guard.force, Guard.resample), f"weight=1/realised, t_per=sequence, "
             f"guard={self.guard}, shift=true", "the guard hides more in short blocks, so the mean weight of a block's "
             "first token is not known; try t_per=block"),
            (self.clip is not Clip.atom or not isinstance(self.schedule, AtomClip), "clip=atom, schedule=atom_clip",
             "that clips twice; try clip=none"),
        ]  # fmt: skip

    @property
    def reading(self) -> Pattern:
        return Pattern(Attention.block, self.size)

    @property
    def offset(self) -> int:
        return -1 if self.shift else 0

    @property
    def rows_read(self) -> int:
        return self.draws + 1

    @property
    def label(self) -> str:
        return f"BlockDiffusion({self.size})"

    @property
    def noisy(self) -> bool:
        return self.law is MaskLaw.rate

    @property
    def of_windows(self) -> str:
        return setting_of_windows(self.law, self.denominator, self.weight)

    def noise(self, phase: Phase = CALM) -> Noise:
        """The schedule as clipped."""
        if not phase.clipped or self.clip is Clip.none:
            return self.schedule
        return AtomClip(self.size, self.schedule) if self.clip is Clip.atom else Interval(1 / self.size, 1.0)

    def corruption(self, phase: Phase = CALM) -> Corruption:
        """How its masks are drawn."""
        from ablate.masks import Corruption

        paired = self.guard is Guard.complementary  # not a clip: a warmup leaves it on
        return Corruption(
            self.noise(phase),
            self.law,
            self.guard if phase.clipped or paired else Guard.none,
            self.weight if phase.weighted else "1",
            self.t_per is Per.sequence,
            self.draws // 2 if paired else self.draws,
            self.denominator,
            self.strata,
        )

    def pose(self, tokens_BL: Tensor, rows: Rows, mask_id: int, phase: Phase = CALM) -> Problem:
        import torch

        from ablate.masks import layout_of

        device, layout = tokens_BL.device, layout_of(self.size, tokens_BL.shape[1])
        copies = self.corruption(phase).masks(layout, rows, phase)
        inputs = [tokens_BL.masked_fill(masks.hidden_BL.to(device), mask_id) for masks in copies]
        weights = [masks.weight_BL for masks in copies]
        clean_BL = torch.zeros_like(weights[0])
        if self.shift:
            first_L = torch.arange(layout.length) % self.size == 0
            weights = [weight_BL.masked_fill(first_L, 0.0) for weight_BL in weights]
            clean_BL = sum((masks.expected_BL for masks in copies), clean_BL).masked_fill(~first_L, 0.0)
        weight_RL = torch.cat([*weights, clean_BL]).float().to(device)
        pattern = Pattern(Attention.block, self.size, self.draws, self.shift)
        targets_RL = tokens_BL.repeat(self.draws + 1, 1)
        targets_RL, weight_RL = (x.roll(self.offset, dims=1) for x in (targets_RL, weight_RL))
        return Problem(torch.cat([*inputs, tokens_BL]), pattern, targets_RL, weight_RL)

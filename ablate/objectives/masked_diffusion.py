"""Masked diffusion over whole sequences.

Shapes: B rows of this process and micro-batch, L positions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ablate.model.attention import Attention, Pattern
from ablate.noise.options import NO_WARMUP, BatchAddress, Denominator, MaskSampling, Phase, Strata
from ablate.noise.schedules import Linear, Noise
from ablate.objectives.problem import Corrupted, Objective, setting_of_windows, shifted

if TYPE_CHECKING:
    from torch import Tensor

    from ablate.noise.masking import Corruption


@dataclass
class MaskedDiffusion(Objective):
    """Masked diffusion: tokens are hidden independently at rate u and predicted from what is left.

    One level t a sequence. The weight is that of the schedule; the mean weight of a token is 1 (Sahoo et al., 2024;
    Shi et al., 2024). With attention="causal" this is the paper's ARDLLM, with "full" its BiDLLM.
    mask_sampling: `count` hides N ~ Uniform{1..L-1} tokens, `suffix` the last N; they have weights of their own.
    Raises ValueError for combinations that mean nothing.
    """

    attention: Attention = Attention.full
    shift: bool = True
    schedule: Noise = field(default_factory=Linear)
    mask_sampling: MaskSampling = MaskSampling.rate
    denominator: Denominator = Denominator.all
    strata: Strata = Strata.permuted

    def __post_init__(self) -> None:
        self.attention, self.mask_sampling = Attention(self.attention), MaskSampling(self.mask_sampling)
        self.denominator, self.strata = Denominator(self.denominator), Strata(self.strata)
        require_one_sequence(self.attention)
        if self.mask_sampling is not MaskSampling.rate and self.schedule != Linear():
            raise ValueError(
                f"MaskedDiffusion(mask_sampling={self.mask_sampling}, schedule={self.schedule}): this mask "
                "sampling draws a number of tokens, not a rate; leave the schedule out"
            )

    @property
    def reading(self) -> Pattern:
        return Pattern(self.attention)

    @property
    def offset(self) -> int:
        return shifted(self.attention) if self.shift else 0

    @property
    def label(self) -> str:
        return f"MaskedDiffusion({self.attention})"

    @property
    def noisy(self) -> bool:
        return self.mask_sampling is MaskSampling.rate

    @property
    def of_windows(self) -> str:
        return setting_of_windows(self.mask_sampling, self.denominator)

    def corruption(self, phase: Phase = NO_WARMUP) -> Corruption:
        """How its masks are drawn."""
        from ablate.noise.masking import Corruption

        weight = "1/t" if phase.weighted else "1"
        return Corruption(
            self.schedule, self.mask_sampling, weight=weight, denominator=self.denominator, strata=self.strata
        )

    def corrupt(self, tokens_BL: Tensor, address: BatchAddress, mask_id: int, phase: Phase) -> Corrupted:
        from ablate.noise.block_layout import layout_of

        length, device = tokens_BL.shape[1], tokens_BL.device
        (masks,) = self.corruption(phase).masks(layout_of(length, length), address, phase)
        inputs_BL = tokens_BL.masked_fill(masks.hidden_BL.to(device), mask_id)
        return Corrupted(inputs_BL, masks.weight_BL.float().to(device), self.reading)


def require_one_sequence(attention: Attention) -> None:
    """Raises ValueError for an attention that needs blocks."""
    if attention is Attention.block:
        raise ValueError(
            "attention=block: blocks belong to BlockDiffusion(size=...), regime=ar_to_block; wanted "
            "causal, full or anticausal"
        )

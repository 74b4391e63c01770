"""Training objectives. They differ only in `pose`: what the network reads and what it is scored on.

Shapes: B rows of this process and micro-batch, L positions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ablate.attention import Attention, Pattern
from ablate.block import BlockDiffusion
from ablate.noise import CALM, Denominator, MaskLaw, Phase, Rows, Strata
from ablate.problem import Objective, Problem, aligned, setting_of_windows, shifted
from ablate.schedule import Linear, Noise
from ablate.seeds import uniform

if TYPE_CHECKING:
    from torch import Tensor

    from ablate.masks import Corruption

__all__ = ["Autoregressive", "BlockDiffusion", "MaskedDiffusion", "Objective", "Problem", "Rows"]


def require_one_sequence(attention: Attention) -> None:
    """Raises ValueError for an attention that needs blocks."""
    if attention is Attention.block:
        raise ValueError("attention=block: blocks belong to BlockDiffusion(size=...), regime=ar_to_block; wanted "
                         "causal, full or anticausal")  # fmt: skip


@dataclass
class Autoregressive(Objective):
    """Prediction of the next token from those read so far, weight 1; with attention=anticausal from right to left.

    loss_share: of the tokens, drawn for each sequence, that are scored, the rest being dropped and their weight given
    to these. input_mask: probability with which a token is read as MASK, scored all the same.
    Raises ValueError for what is not autoregressive and for shares out of range.
    """

    attention: Attention = Attention.causal
    shift: bool = True
    loss_share: float = 1.0
    input_mask: float = 0.0

    def __post_init__(self) -> None:
        self.attention = Attention(self.attention)
        if self.attention not in (Attention.causal, Attention.anticausal) or not self.shift:
            raise ValueError(
                f"Autoregressive(attention={self.attention}, shift={self.shift}): it reads one side only, so attention "
                "must be causal (or anticausal) and shift true; for other patterns use a masked-diffusion regime such "
                "as regime=bidllm"
            )
        if not 0 < self.loss_share <= 1 or not 0 <= self.input_mask < 1:
            raise ValueError(
                f"Autoregressive(loss_share={self.loss_share}, input_mask={self.input_mask}): wanted loss_share above "
                "0 and up to 1, input_mask from 0 to less than 1; try loss_share=0.5 input_mask=0.15"
            )

    @property
    def reading(self) -> Pattern:
        return Pattern(self.attention)

    @property
    def offset(self) -> int:
        return shifted(self.attention)

    @property
    def label(self) -> str:
        return f"Autoregressive({self.attention})"

    def pose(self, tokens_BL: Tensor, rows: Rows, mask_id: int, phase: Phase = CALM) -> Problem:
        import torch

        length = tokens_BL.shape[1]
        scored_BL, inputs_BL = torch.ones_like(tokens_BL, dtype=torch.bool), tokens_BL
        if self.loss_share < 1:
            kept = max(1, round(self.loss_share * (length - 1)))
            keys_BL = uniform(rows.seed, "loss", rows.addresses, (length,))
            keys_BL[:, 0] = 2  # ranked last
            scored_BL = (keys_BL.argsort(1).argsort(1) < kept).to(tokens_BL.device)
        if self.input_mask:
            hidden_BL = uniform(rows.seed, "mask", rows.addresses, (length,)) < self.input_mask
            hidden_BL[:, 0] = False
            inputs_BL = tokens_BL.masked_fill(hidden_BL.to(tokens_BL.device), mask_id)
        weight_BL = scored_BL.float()
        weight_BL[:, 0] = 0
        return aligned(inputs_BL, tokens_BL, weight_BL * ((length - 1) / weight_BL.sum(1, keepdim=True)), self)


@dataclass
class MaskedDiffusion(Objective):
    """Masked diffusion: tokens are hidden independently at rate u and predicted from what is left.

    One level t a sequence. The weight is that of the schedule; the mean weight of a token is 1 (Sahoo et al., 2024;
    Shi et al., 2024). With attention="causal" this is the paper's ARDLLM, with "full" its BiDLLM.
    law: `count` hides N ~ Uniform{1..L-1} tokens, `suffix` the last N; they have weights of their own.
    Raises ValueError for combinations that mean nothing.
    """

    attention: Attention = Attention.full
    shift: bool = True
    schedule: Noise = field(default_factory=Linear)
    law: MaskLaw = MaskLaw.rate
    denominator: Denominator = Denominator.all
    strata: Strata = Strata.permuted

    def __post_init__(self) -> None:
        self.attention, self.law = Attention(self.attention), MaskLaw(self.law)
        self.denominator, self.strata = Denominator(self.denominator), Strata(self.strata)
        require_one_sequence(self.attention)
        if self.law is not MaskLaw.rate and self.schedule != Linear():
            raise ValueError(f"MaskedDiffusion(law={self.law}, schedule={self.schedule}): this law draws a number of "
                             "tokens, not a rate; leave the schedule out")  # fmt: skip

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
        return self.law is MaskLaw.rate

    @property
    def of_windows(self) -> str:
        return setting_of_windows(self.law, self.denominator)

    def corruption(self, phase: Phase = CALM) -> Corruption:
        """How its masks are drawn."""
        from ablate.masks import Corruption

        weight = "1/t" if phase.weighted else "1"
        return Corruption(self.schedule, self.law, weight=weight, denominator=self.denominator, strata=self.strata)

    def pose(self, tokens_BL: Tensor, rows: Rows, mask_id: int, phase: Phase = CALM) -> Problem:
        from ablate.masks import layout_of

        length, device = tokens_BL.shape[1], tokens_BL.device
        (masks,) = self.corruption(phase).masks(layout_of(length, length), rows, phase)
        inputs_BL = tokens_BL.masked_fill(masks.hidden_BL.to(device), mask_id)
        return aligned(inputs_BL, tokens_BL, masks.weight_BL.to(device), self)

"""Autoregressive prediction of the next token.

Shapes: B rows of this process and micro-batch, L positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablate.core.rng import uniform
from ablate.core.validation import require
from ablate.model.attention import Attention, Pattern
from ablate.noise.options import BatchAddress, Phase
from ablate.objectives.problem import Corrupted, Objective, shifted

if TYPE_CHECKING:
    from torch import Tensor


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
        require("loss_share", self.loss_share, 0 < self.loss_share <= 1, "more than 0 and at most 1", 0.5)
        require("input_mask", self.input_mask, 0 <= self.input_mask < 1, "0 or more and less than 1", 0.15)

    @property
    def reading(self) -> Pattern:
        return Pattern(self.attention)

    @property
    def offset(self) -> int:
        return shifted(self.attention)

    @property
    def label(self) -> str:
        return f"Autoregressive({self.attention})"

    def corrupt(self, tokens_BL: Tensor, address: BatchAddress, mask_id: int, phase: Phase) -> Corrupted:
        import torch

        length = tokens_BL.shape[1]
        scored_BL, inputs_BL = torch.ones_like(tokens_BL, dtype=torch.bool), tokens_BL
        if self.loss_share < 1:
            kept = max(1, round(self.loss_share * (length - 1)))
            keys_BL = uniform(address.seed, "loss", address.sample_numbers, (length,))
            keys_BL[:, 0] = 2  # ranked last
            scored_BL = (keys_BL.argsort(1).argsort(1) < kept).to(tokens_BL.device)
        if self.input_mask:
            hidden_BL = uniform(address.seed, "mask", address.sample_numbers, (length,)) < self.input_mask
            hidden_BL[:, 0] = False
            inputs_BL = tokens_BL.masked_fill(hidden_BL.to(tokens_BL.device), mask_id)
        weight_BL = scored_BL.float()
        weight_BL[:, 0] = 0
        weight_BL = weight_BL * ((length - 1) / weight_BL.sum(1, keepdim=True))
        return Corrupted(inputs_BL, weight_BL, self.reading)

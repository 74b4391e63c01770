"""Training objectives. They differ only in `pose`: what the network reads and what it is scored on.

Shapes: B rows of this process and micro-batch, R rows that the network reads (B, or noisy copies and the clean rows
below them), L positions. Position 0 of a sequence is given: it is never masked and never scored, under any objective,
so that every arm is charged for the same L - 1 tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ablate.attention import Attention, Pattern
from ablate.noise import CALM, Denominator, MaskLaw, Phase, Rows, Strata
from ablate.schedule import Linear, Noise
from ablate.seeds import uniform

if TYPE_CHECKING:
    from torch import Tensor

    from ablate.masks import Corruption


@dataclass(frozen=True)
class Problem:
    """What the network reads and what its outputs are scored on.

    inputs_RL: int64. pattern: who sees whom in the pass. targets_RL: int64, the token that output i of a row predicts.
    weight_RL: float32; 0 where nothing is scored. The loss is sum(weight * cross-entropy) / (global batch * (L - 1)).
    """

    inputs_RL: Tensor
    pattern: Pattern
    targets_RL: Tensor
    weight_RL: Tensor


@dataclass
class Objective(ABC):
    """A training objective. Subclasses say how a model is read that has learned by it, and pose its problems."""

    @property
    @abstractmethod
    def reading(self) -> Pattern:
        """Who sees whom where the model reads sequences as they are, MASK among them."""

    @property
    @abstractmethod
    def offset(self) -> int:
        """Output i + offset, counted around the end, predicts token i."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Name in records."""

    @abstractmethod
    def pose(self, tokens_BL: Tensor, rows: Rows, mask_id: int, phase: Phase = CALM) -> Problem:
        """The problem that these rows pose. Noise is addressed by `rows`, so it is independent of devices."""

    @property
    def noisy(self) -> bool:
        """Is there noise that a warmup could cap?"""
        return False

    @property
    def left_to_right(self) -> bool:
        """True if one pass over clean tokens predicts each from its left alone."""
        causal = self.reading.kind is Attention.causal or (self.reading.kind, self.reading.size) == (Attention.block, 1)
        return causal and self.offset == -1


def aligned(inputs_BL: Tensor, targets_BL: Tensor, weight_BL: Tensor, objective: Objective) -> Problem:
    """Problem whose targets and weights, given per token, stand at the outputs that predict them."""
    targets_BL, weight_BL = (x.roll(objective.offset, dims=1) for x in (targets_BL, weight_BL))
    return Problem(inputs_BL, objective.reading, targets_BL, weight_BL.float())  # position 0 has weight 0


def shifted(attention: Attention) -> int:
    """Offset of the output that predicts a token it has not read: the one before it in reading order."""
    return 1 if attention is Attention.anticausal else -1


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

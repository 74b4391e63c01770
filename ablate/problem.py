"""What an objective is: it poses problems, and says how a model is read that has learned by it.

Shapes: B rows of this process and micro-batch, R rows that the network reads (B, or noisy copies and the clean rows
below them), L positions. Position 0 of a sequence is given: it is never masked and never scored, under any objective,
so that every arm is charged for the same L - 1 tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablate.attention import Attention, Pattern
from ablate.noise import CALM, Phase, Rows

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """What the network reads and what its outputs are scored on.

    inputs_RL: int64. pattern: who sees whom in the pass. targets_RL: int64, the token that output i of a row predicts.
    weight_RL: float32; 0 where nothing is scored. The loss is sum(weight * cross-entropy) / (scorable tokens of the
    global batch, of sequences of one document global batch * (L - 1)). documents_BL: number of each token's document,
    where attention is limited to documents, else None.
    """

    inputs_RL: Tensor
    pattern: Pattern
    targets_RL: Tensor
    weight_RL: Tensor
    documents_BL: Tensor | None = None


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
    def rows_read(self) -> int:
        """Rows that the network reads for each sequence, R / B."""
        return 1

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

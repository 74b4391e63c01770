"""What an objective is: it poses problems, and says how a model is read that has learned by it.

Shapes: B rows of this process and micro-batch, R rows that the network reads (B, or noisy copies and the clean rows
below them), L positions. Position 0 of a sequence is unscored: it is never masked and never scored, under any
objective, so that every arm is charged for the same L - 1 tokens. So is the first token of each document, where
attention is limited to documents (see `Objective.pose`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ablate.core.blocks import Grid
from ablate.core.corpus import Vocabulary, documents, unscored
from ablate.model.attention import Attention, Pattern
from ablate.model.attention_pattern import first_places
from ablate.noise.options import NO_WARMUP, BatchAddress, Denominator, MaskSampling, Phase

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


def packed(problems: Sequence[Problem]) -> Problem:
    """The problems that one objective has posed to as many stacked networks, as one."""
    import torch

    def joined(name: str) -> Any:
        parts = [getattr(problem, name) for problem in problems]
        return None if parts[0] is None else torch.cat(parts)

    tensors = {name: joined(name) for name in ("inputs_RL", "targets_RL", "weight_RL", "documents_BL")}
    return Problem(pattern=replace(problems[0].pattern, seeds=len(problems)), **tensors)


class Corrupted(NamedTuple):
    """Whole windows as an objective corrupts them.

    inputs_RL: int64. weight_RL: float32, what each token counts where it stands; 0 at position 0. pattern: who sees
    whom in the pass.
    """

    inputs_RL: Tensor
    weight_RL: Tensor
    pattern: Pattern


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
    def corrupt(self, tokens_BL: Tensor, address: BatchAddress, mask_id: int, phase: Phase) -> Corrupted:
        """What the network reads of whole windows, and what each of their tokens counts where it stands."""

    def pose(
        self, tokens_BL: Tensor, address: BatchAddress, vocabulary: Vocabulary, phase: Phase = NO_WARMUP
    ) -> Problem:
        """The complete problem that these rows pose: warmup, shift and document masks are settled here.

        Noise is addressed by `address`, so it is independent of devices. Where the vocabulary has a boundary, attention
        is limited to documents. The first token of each is then unscored: it stands in every copy, and its weight is
        0. All others keep their weights, so the mean weight of each stays what the objective declares. The number of
        masks of a block does not: a mask that a guard puts may fall on an unscored token.
        """
        inputs_RL, weight_RL, pattern = self.corrupt(tokens_BL, address, vocabulary.mask_id, phase)
        copies = len(inputs_RL) // len(tokens_BL)
        if vocabulary.boundary is None:
            targets_RL, weight_RL = (x.roll(self.offset, dims=1) for x in (tokens_BL.repeat(copies, 1), weight_RL))
            return Problem(inputs_RL, pattern, targets_RL, weight_RL)  # position 0 has weight 0
        documents_BL = documents(tokens_BL, vocabulary.boundary)
        tokens_RL, unscored_RL, output_RL = (
            x_BL.repeat(copies, 1)
            for x_BL in (tokens_BL, unscored(tokens_BL, vocabulary.boundary), predicting(documents_BL, self.offset))
        )
        weight_RL = weight_RL.masked_fill(unscored_RL, 0.0)
        return Problem(
            inputs_RL=tokens_RL.where(unscored_RL, inputs_RL),
            pattern=pattern,
            targets_RL=tokens_RL.scatter(1, output_RL, tokens_RL),
            weight_RL=weight_RL.scatter(1, output_RL, weight_RL),
            documents_BL=documents_BL,
        )

    @property
    def noisy(self) -> bool:
        """Whether there is noise that a warmup could cap."""
        return False

    @property
    def parts(self) -> Sequence[Objective]:
        """The objectives that it takes in turn: itself, where it is one."""
        return [self]

    @property
    def rows_read(self) -> float:
        """Rows that the network reads for each sequence, R / B; where steps differ, their mean."""
        return 1

    @property
    def of_windows(self) -> str:
        """The setting, as it is typed, by which weights mean the window as a whole and not its documents; "" for none.
        See `setting_of_windows`."""
        return ""

    @property
    def grid(self) -> Grid:
        """Where the blocks are counted from in which it is decoded by itself."""
        return Grid.sequence if self.reading.kind is Attention.block else Grid.answer

    @property
    def left_to_right(self) -> bool:
        """True if one pass over clean tokens predicts each from its left alone."""
        causal = self.reading.kind is Attention.causal or (self.reading.kind, self.reading.size) == (Attention.block, 1)
        return causal and self.offset == -1


def predicting(documents_BL: Tensor, offset: int) -> Tensor:
    """(B, L) int64: the output that predicts each token, `offset` further, counted around the ends of its document."""
    import torch

    first_BL = first_places(documents_BL)
    size_BL = torch.searchsorted(documents_BL.contiguous(), documents_BL.contiguous(), right=True) - first_BL
    place_L = torch.arange(documents_BL.shape[1], device=documents_BL.device)
    return first_BL + (place_L - first_BL + offset) % size_BL


def setting_of_windows(mask_sampling: MaskSampling, denominator: Denominator, weight: str = "1/t") -> str:
    """Which of these means a window as a whole, "" for none.

    A suffix of a window is not one of its documents; a realised share and the number of masked tokens count unscored
    ones. Mask sampling by count stays exact: it is a random order of a block's tokens cut at a random place (Ou et al.,
    2024), and without some of its tokens a random order is a random order of the rest.
    """
    if mask_sampling is MaskSampling.suffix:
        return f"mask_sampling={mask_sampling}"
    if denominator is not Denominator.all:
        return f"denominator={denominator}"
    return "weight=1/realised" if weight == "1/realised" else ""


def shifted(attention: Attention) -> int:
    """Offset of the output that predicts a token it has not read: the one before it in reading order."""
    return 1 if attention is Attention.anticausal else -1

"""Several objectives, one a step.

Shapes: B rows of this process and micro-batch, L positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablate.model.attention import Pattern
from ablate.noise.options import NO_WARMUP, BatchAddress, Phase
from ablate.objectives.problem import Corrupted, Objective

if TYPE_CHECKING:
    from torch import Tensor

    from ablate.core.corpus import Vocabulary
    from ablate.objectives.problem import Problem


@dataclass
class InTurn(Objective):
    """Objectives in turn, one a step: a model that learns to be read in each of their ways.

    Where one reading is asked for, it is that of the first. Raises ValueError for fewer than two.
    """

    objectives: list[Objective]

    def __post_init__(self) -> None:
        if len(self.objectives) < 2:
            raise ValueError(
                f"objectives in turn: wanted two or more, got {len(self.objectives)}; type the one in its place"
            )

    def at(self, step: int) -> Objective:
        """The objective of a step."""
        return self.objectives[step % len(self.objectives)]

    @property
    def parts(self) -> Sequence[Objective]:
        return self.objectives

    @property
    def reading(self) -> Pattern:
        return self.objectives[0].reading

    @property
    def offset(self) -> int:
        return self.objectives[0].offset

    @property
    def label(self) -> str:
        return f"InTurn({', '.join(objective.label for objective in self.objectives)})"

    @property
    def noisy(self) -> bool:
        return any(objective.noisy for objective in self.objectives)

    @property
    def rows_read(self) -> float:
        return sum(objective.rows_read for objective in self.objectives) / len(self.objectives)

    @property
    def of_windows(self) -> str:
        return next((found for objective in self.objectives if (found := objective.of_windows)), "")

    def corrupt(self, tokens_BL: Tensor, address: BatchAddress, mask_id: int, phase: Phase) -> Corrupted:
        return self.at(address.step).corrupt(tokens_BL, address, mask_id, phase)

    def pose(
        self, tokens_BL: Tensor, address: BatchAddress, vocabulary: Vocabulary, phase: Phase = NO_WARMUP
    ) -> Problem:
        return self.at(address.step).pose(tokens_BL, address, vocabulary, phase)

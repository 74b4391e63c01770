"""Rotary positions beyond the trained context: how the frequencies of a checkpoint were stretched."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from ablate.core.validation import require

if TYPE_CHECKING:
    from torch import Tensor


class Stretch(StrEnum):
    """How frequencies are changed: not at all; all divided (Chen et al., 2023); the low ones divided, those between
    interpolated (Llama 3.1); the same by the number of turns, with a temperature (YaRN, Peng et al., 2024)."""

    none = "none"
    linear = "linear"
    llama3 = "llama3"
    yarn = "yarn"


@dataclass
class RopeScaling:
    """Stretched rotary frequencies.

    factor: by how much. context: tokens that the unstretched frequencies were trained on. low, high: with `llama3`,
    turns in that context below which a frequency is divided and above which it is kept; with `yarn` likewise (its
    beta_slow and beta_fast). temperature: with `yarn`, factor of cosines and sines; 0 means 0.1 ln(factor) + 1.
    Raises ValueError for values out of range.
    """

    kind: Stretch = Stretch.none
    factor: float = 1.0
    context: int = 0
    low: float = 1.0
    high: float = 4.0
    temperature: float = 0.0

    def __post_init__(self) -> None:
        self.kind = Stretch(self.kind)
        if not 1 <= self.factor < math.inf or not 0 < self.low < self.high or not 0 <= self.temperature < math.inf:
            raise ValueError(
                f"model.rope_scaling: wanted factor of 1 or more, 0 < low < high, temperature of 0 or more; got "
                f"factor={self.factor}, low={self.low}, high={self.high}, temperature={self.temperature}; type "
                "model.rope_scaling.kind=none"
            )
        known = self.kind not in (Stretch.llama3, Stretch.yarn) or self.context >= 1
        wanted = f"the tokens of the context that {self.kind} stretches"
        require("model.rope_scaling.context", self.context, known, wanted, 8192)

    @property
    def magnitude(self) -> float:
        """Factor of cosines and sines, so of each of query and key."""
        if self.kind is not Stretch.yarn:
            return 1.0
        return self.temperature or 0.1 * math.log(self.factor) + 1.0

    def frequencies(self, theta: float, width: int) -> Tensor:
        """Radians a position of each pair of a head's features; (width / 2,) float32."""
        import torch

        plain = theta ** (-torch.arange(0, width, 2).float() / width)
        if self.kind is Stretch.linear:
            return plain / self.factor
        if self.kind is Stretch.llama3:
            kept = ((self.context * plain / (2 * math.pi) - self.low) / (self.high - self.low)).clamp(0, 1)
            return plain * (kept + (1 - kept) / self.factor)
        if self.kind is Stretch.yarn:
            first, last = (self._pair(turns, theta, width) for turns in (self.high, self.low))
            first, last = max(math.floor(first), 0), min(math.ceil(last), width - 1)
            divided = ((torch.arange(width // 2) - first) / (max(last - first, 0) or 0.001)).clamp(0, 1)
            return plain * (1 - divided + divided / self.factor)
        return plain

    def _pair(self, turns: float, theta: float, width: int) -> float:
        """Number of the pair of features that makes so many turns in the context."""
        return width * math.log(self.context / (turns * 2 * math.pi)) / (2 * math.log(theta))

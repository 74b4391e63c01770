"""Noise schedules: the mask rate m(t) along a path, t in (0, 1], with m(0) = 0 and m(1) = 1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class NoiseSchedule(ABC):
    """A path of mask rates. Subclasses state `mask_rate`; the weight follows from it."""

    @abstractmethod
    def mask_rate(self, t: Tensor) -> Tensor:
        """m(t): probability that a token is masked at time t."""

    def weight(self, t: Tensor) -> Tensor:
        """Multiplier m'(t) / m(t) of the masked-diffusion bound in nats (Sahoo et al., 2024, eq. 10).

        Derived from `mask_rate` by forward-mode differentiation, so that the two cannot disagree.
        """
        import torch

        rate, slope = torch.func.jvp(self.mask_rate, (t,), (torch.ones_like(t),))[:2]
        return slope / rate


@dataclass
class Linear(NoiseSchedule):
    """m(t) = t, hence weight 1/t."""

    def mask_rate(self, t: Tensor) -> Tensor:
        return t

"""Noise: where mask rates come from. Two types, because their weights have different sources.

A *path* (`NoiseSchedule`) is a curve m(t) with m(0) = 0 and m(1) = 1 whose weight m'(t)/m(t) belongs to a likelihood
bound and is derived by differentiation. A *rate distribution* says which rates u are drawn, and how often; it
is no path, and its weight 1/u is given by rule: deriving a weight from `max(t, 1/B)` would charge the tokens of
clipped blocks nothing at all. Both map a level t, uniform on (0, 1], to a rate.

"Cosine" means curves seven times apart in how often a block of 32 is left without a mask, so schedules are named by
formula; alpha = 1 - m is the share that stays visible.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ablate.core.validation import require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Noise(ABC):
    """Where mask rates come from: a level t in (0, 1], drawn uniformly, gives the rate u of the tokens it rules."""

    @abstractmethod
    def mask_rate(self, t: Tensor) -> Tensor:
        """Probability that a token is masked at level t."""

    @abstractmethod
    def slope(self, t: Tensor) -> Tensor:
        """Numerator of the weight: slope / rate is what a masked token counts."""

    def weight(self, t: Tensor) -> Tensor:
        """Weight of a masked token's cross-entropy (nats) at level t."""
        return self.slope(t) / self.mask_rate(t)


@dataclass
class NoiseSchedule(Noise):
    """A path of mask rates. Subclasses state `mask_rate`; slope and weight follow from it."""

    def slope(self, t: Tensor) -> Tensor:
        """m'(t), by forward-mode differentiation, so that rate and weight cannot disagree.

        The weight m'(t)/m(t) is that of the masked-diffusion bound (Sahoo et al., 2024, eq. 10).
        """
        import torch
        from torch.autograd import forward_ad  # torch.func.jvp would compile decompositions first, for a second

        with forward_ad.dual_level():
            rate = self.mask_rate(forward_ad.make_dual(t, torch.ones_like(t)))
            slope = forward_ad.unpack_dual(rate).tangent
        return torch.zeros_like(t) if slope is None else slope  # None: the rate does not depend on t


@dataclass
class RateDistribution(Noise):
    """A distribution of the mask rate u. The weight is 1/u by rule, so the slope is 1: each token then counts 1 in the
    mean."""

    def slope(self, t: Tensor) -> Tensor:
        import torch

        return torch.ones_like(t)


@dataclass
class Linear(NoiseSchedule):
    """m(t) = t, hence weight 1/t."""

    def mask_rate(self, t: Tensor) -> Tensor:
        return t


@dataclass
class Power(NoiseSchedule):
    """m(t) = t^p. Raises ValueError unless p > 0."""

    p: float = 2.0

    def __post_init__(self) -> None:
        require("schedule power: p", self.p, 0 < self.p < math.inf, "a number above 0", 2, "p")

    def mask_rate(self, t: Tensor) -> Tensor:
        return t**self.p


@dataclass
class Cos(NoiseSchedule):
    """alpha(t) = cos(pi t / 2): rates stay low for long."""

    def mask_rate(self, t: Tensor) -> Tensor:
        return 2 * (t * math.pi / 4).sin() ** 2  # 1 - cos(pi t / 2), without cancellation near 0


@dataclass
class Sin(NoiseSchedule):
    """m(t) = sin(pi t / 2): rates rise early."""

    def mask_rate(self, t: Tensor) -> Tensor:
        return (t * math.pi / 2).sin()


@dataclass
class Cos2(NoiseSchedule):
    """alpha(t) = cos^2(pi t / 2), symmetric about t = 1/2."""

    def mask_rate(self, t: Tensor) -> Tensor:
        return (t * math.pi / 2).sin() ** 2


@dataclass
class LogLinear(NoiseSchedule):
    """m(t) = (1 - eps) t: total noise -log(1 - m) stays finite at t = 1. Raises ValueError unless 0 <= eps < 1."""

    eps: float = 1e-3

    def __post_init__(self) -> None:
        require("schedule loglinear: eps", self.eps, 0 <= self.eps < 1, "0 or more and less than 1", 1e-3, "eps")

    def mask_rate(self, t: Tensor) -> Tensor:
        return (1 - self.eps) * t


@dataclass
class Geometric(NoiseSchedule):
    """m(t) = 1 - exp(-s0^(1-t) s1^t): total noise rises geometrically (Lou et al., 2024).

    Its ends are near 0 and 1 only. Raises ValueError unless 0 < s0 < s1.
    """

    s0: float = 1e-4
    s1: float = 20.0

    def __post_init__(self) -> None:
        require("schedule geometric: s1", self.s1, 0 < self.s0 < self.s1 < math.inf, "0 < s0 < s1", 20, "s1")

    def mask_rate(self, t: Tensor) -> Tensor:
        return -(-(self.s0 ** (1 - t)) * self.s1**t).expm1()


@dataclass
class Interval(RateDistribution):
    """u ~ U(a, b) (Arriola et al., 2025). Raises ValueError unless 0 <= a < b <= 1."""

    a: float = 0.0
    b: float = 1.0

    def __post_init__(self) -> None:
        require(
            "schedule interval: b", self.b, 0 <= self.a < self.b <= 1, f"a < b within 0..1 (a is {self.a:g})", 1, "b"
        )

    def mask_rate(self, t: Tensor) -> Tensor:
        return self.a + (self.b - self.a) * t


@dataclass
class Cap(RateDistribution):
    """u ~ U(0, u_max), as at one moment of a warmup. Raises ValueError unless 0 < u_max <= 1."""

    u_max: float = 1.0

    def __post_init__(self) -> None:
        require("schedule cap: u_max", self.u_max, 0 < self.u_max <= 1, "more than 0 and at most 1", 0.1, "u_max")

    def mask_rate(self, t: Tensor) -> Tensor:
        return self.u_max * t


@dataclass
class AtomClip(RateDistribution):
    """u = max(m(t), 1/size) of a path or distribution m, linear by default: an atom at its least value, of mass 1/size
    there, so that it is not U(1/size, 1) (Stable-DiffCoder).

    Raises ValueError unless size is a whole number of at least 1.
    """

    size: int = 4
    of: Noise = field(default_factory=Linear)

    def __post_init__(self) -> None:
        require(
            "schedule atom_clip: size",
            self.size,
            self.size >= 1 and self.size == int(self.size),
            "1 or more tokens",
            4,
            "size",
        )

    def mask_rate(self, t: Tensor) -> Tensor:
        return self.of.mask_rate(t).clamp_min(1 / self.size)


NAMES: dict[str, type[Noise]] = {
    "linear": Linear,
    "power": Power,
    "cos": Cos,
    "sin": Sin,
    "cos2": Cos2,
    "loglinear": LogLinear,
    "geometric": Geometric,
    "interval": Interval,
    "atom_clip": AtomClip,
    "cap": Cap,
}


def named(name: str, **parameters: Any) -> Noise:
    """The schedule or rate distribution of that name. Raises ValueError for an unknown name or parameter, or a value
    out of range."""
    if name not in NAMES:
        raise ValueError(f"schedule {name!r}: unknown; wanted one of {', '.join(NAMES)}; try schedule=linear")
    known = [field.name for field in dataclasses.fields(NAMES[name])]
    for key, value in parameters.items():
        if key not in known:
            raise ValueError(f"schedule {name}: no parameter {key!r}; it takes {', '.join(known) or 'none'}")
        if isinstance(value, bool) or not isinstance(value, int | float | Noise):
            raise ValueError(f"schedule {name}: {key}: wanted a number, got {value!r}")
    return NAMES[name](**parameters)


def name_of(noise: Noise) -> str:
    """The name under which `named` has it, with its parameters: power(p=2)."""
    name = next(name for name, kind in NAMES.items() if kind is type(noise))
    values = ", ".join(
        f"{key}={name_of(value) if isinstance(value, Noise) else format(value, 'g')}"
        for key, value in vars(noise).items()
        if value != Linear()
    )
    return f"{name}({values})" if values else name

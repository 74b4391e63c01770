"""What there is to know in a context, and how much of it a model knows: pure functions of distributions.

`p` is the oracle's p_0(.|c) and `logp` a model's log p_theta(.|c) in nats, both over the last axis. Entropies and
divergences are in bits, float64; 0 log 0 is 0, and a divergence is inf where the model rules out what is possible.
Support comes from the oracle's exact pass (`support`) where there is one, never from a threshold.

Shapes: B contexts (any leading axes), V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ablate.core.validation import require

LN2 = math.log(2)
ROUNDING = 1e-9  # 2^H of a uniform distribution misses its integer by some ulp; thresholds must not depend on which way


def candidate_set(p_BV: Tensor, eps: float) -> Tensor:
    """C(c) = {v : p_0(v|c) >= eps}, bool (Stable-DiffCoder, 2026, which leaves eps open). Raises ValueError for eps
    outside (0, 1]."""
    if not 0 < eps <= 1:
        raise ValueError(
            f"candidate_set: wanted eps in (0, 1], got {eps}; for everything that is possible take the oracle's exact "
            "Posterior.support_BLV instead of a threshold"
        )
    return p_BV >= eps


def candidate_count(p_BV: Tensor, eps: float) -> Tensor:
    """K(c) = |C(c)| at eps, int64."""
    return candidate_set(p_BV, eps).sum(-1)


def entropy_bits(p_BV: Tensor) -> Tensor:
    """H(p_0(.|c)) in bits, (B,)."""
    return -torch.special.xlogy(p_BV.double(), p_BV.double()).sum(-1) / LN2


def cross_entropy_bits(p_BV: Tensor, logp_BV: Tensor) -> Tensor:
    """Expected surprise of the model under the oracle's full vector, in bits, (B,)."""
    p_BV, logp_BV = checked_pair("cross_entropy_bits", p_BV, logp_BV)
    return -torch.where(p_BV > 0, p_BV * logp_BV, 0.0).sum(-1) / LN2


def excess_bits(p_BV: Tensor, logp_BV: Tensor) -> Tensor:
    """KL(p_0 || p_theta) in bits, (B,), by the full vector: the mean of the drawn token's excess, with less variance.
    Exactly 0 where logp = log p."""
    p_BV, logp_BV = checked_pair("excess_bits", p_BV, logp_BV)
    return torch.where(p_BV > 0, p_BV * (p_BV.log() - logp_BV), 0.0).sum(-1) / LN2


@dataclass(frozen=True)
class Hill:
    """Hill numbers of p_0(.|c), float64 (B,) (Hill, 1973): support size, 2^H, 1 / max p. k0 >= k1 >= kinf >= 1."""

    k0: Tensor
    k1: Tensor
    kinf: Tensor


def hill_numbers(p_BV: Tensor, support_BV: Tensor | None = None) -> Hill:
    """The three Hill numbers; K_0 from the exact support if it is given, else from p > 0."""
    support_BV = p_BV > 0 if support_BV is None else support_BV
    return Hill(support_BV.sum(-1).double(), torch.exp2(entropy_bits(p_BV)), 1 / p_BV.double().amax(-1))


@dataclass
class UncertaintyBands:
    """Where the paper's three regimes begin; it gives no numbers, so these are choices to be recorded.

    reasoning: K_1 up to this. noise: K_1 from `noise_share` of the alphabet on. correlation: what lies between.
    """

    reasoning: float = 1.5
    noise_share: float = 0.5

    def __post_init__(self) -> None:
        require("UncertaintyBands: reasoning", self.reasoning, 1 <= self.reasoning < math.inf, "1 or more", 1.5)
        require("UncertaintyBands: noise_share", self.noise_share, 0 < self.noise_share <= 1, "a share in (0, 1]", 0.5)


def regimes(k1_B: Tensor, thresholds: UncertaintyBands, alphabet: int) -> dict[str, Tensor]:
    """Which contexts have small, moderate and large K_1, bool (B,). Raises ValueError where the regimes overlap."""
    noise_from = thresholds.noise_share * alphabet
    if noise_from <= thresholds.reasoning:
        raise ValueError(
            f"regimes: reasoning reaches to K_1 = {thresholds.reasoning} but noise begins at {noise_from:g} "
            f"(alphabet={alphabet}); wanted a gap; try a larger noise_share or leave this alphabet out"
        )
    reasoning_B = k1_B <= thresholds.reasoning * (1 + ROUNDING)
    noise_B = k1_B >= noise_from * (1 - ROUNDING)
    return {"reasoning": reasoning_B, "correlation": ~(reasoning_B | noise_B), "noise": noise_B}


@dataclass(frozen=True)
class SetFit:
    """How a model treats C(c), side by side: mass alone rewards a uniform guess on C. float64 (B,).

    mass: p_theta(C|c). invalid: what lies outside C, 1 - mass. kl_within: KL in bits of the two distributions, each
    renormalised on C; inf where the model leaves C no mass, nan where p_0 does (a `candidate_set` may be empty).
    target: p_0(C|c), what the mass should be: 1 for the exact support, and then KL(p_0 || p_theta) is
    kl_within - log2 mass.
    """

    mass: Tensor
    invalid: Tensor
    kl_within: Tensor
    target: Tensor


def set_mass(logp_BV: Tensor, support_BV: Tensor) -> Tensor:
    """p_theta(C|c), (B,)."""
    return torch.where(support_BV, logp_BV.double().exp(), 0.0).sum(-1)


def set_fit(p_BV: Tensor, logp_BV: Tensor, support_BV: Tensor) -> SetFit:
    """Mass, invalid mass and KL within C; `support_BV` is C: the exact support, or a `candidate_set`."""
    p_BV, logp_BV = checked_pair("set_fit", p_BV, logp_BV)
    inside_BV = torch.where(support_BV, p_BV, 0.0)
    target_B = inside_BV.sum(-1)
    within_BV = logp_BV.masked_fill(~support_BV, -math.inf)
    log_mass_B1 = within_BV.logsumexp(-1, keepdim=True)
    within_BV = within_BV - log_mass_B1.masked_fill(log_mass_B1 == -math.inf, 0.0)
    kl_B = excess_bits(inside_BV / target_B[..., None], within_BV).masked_fill(target_B == 0, math.nan)
    return SetFit(set_mass(logp_BV, support_BV), set_mass(logp_BV, ~support_BV), kl_B, target_B)


@dataclass(frozen=True)
class Binding:
    """Spurious-binding score S(c) in nats, (B,), and the floor under both probabilities that it was taken with."""

    nats: Tensor
    floor: float


def spurious_binding(p_BV: Tensor, logp_BV: Tensor, stale_B: Tensor, floor: float = 0.0) -> Binding:
    """S(c) = log p_theta(v_stale|c) - log p_0(v_stale|c), v_stale the answer that a stale, visible binding implies.

    Without a floor S is +inf where p_0 is 0 and p_theta is not. Both are raised to `floor`, so a perfect model has 0.
    """
    p_BV, logp_BV = checked_pair("spurious_binding", p_BV, logp_BV)
    told_B, true_B = (x.gather(-1, stale_B[..., None])[..., 0].clamp(min=floor).log() for x in (logp_BV.exp(), p_BV))
    return Binding(torch.where(told_B == true_B, 0.0, told_B - true_B), floor)


@dataclass(frozen=True)
class Memorisation:
    """M(c) in bits, (B,): positive where the model is nearer to what it was shown than to p_0.

    differs: bool (B,), total variation between p_0 and what was shown exceeds `apart`; elsewhere M says nothing.
    """

    bits: Tensor
    differs: Tensor
    smoothing: float
    apart: float


def memorisation_index(
    p_BV: Tensor, shown_BV: Tensor, logp_BV: Tensor, smoothing: float = 0.01, apart: float = 1e-9
) -> Memorisation:
    """KL(p_0 || p_theta) - KL(shown || p_theta), shown mixed with `smoothing` of the uniform distribution on p_0's
    support.

    shown_BV: frequencies of the tokens that training showed in this context. nan where both divergences are infinite.
    """
    if not 0 < smoothing < 1:
        raise ValueError(f"memorisation_index: wanted smoothing in (0, 1), got {smoothing}; try smoothing=0.01")
    p_BV, logp_BV = checked_pair("memorisation_index", p_BV, logp_BV)
    possible_BV = (p_BV > 0).double()
    uniform_BV = possible_BV / possible_BV.sum(-1, keepdim=True)
    smooth_BV = (1 - smoothing) * shown_BV.double() + smoothing * uniform_BV
    differs_B = (p_BV - shown_BV).abs().sum(-1) / 2 > apart
    bits_B = excess_bits(p_BV, logp_BV) - excess_bits(smooth_BV, logp_BV)
    return Memorisation(bits_B, differs_B, smoothing, apart)


def checked_pair(where: str, p_BV: Tensor, logp_BV: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float64. Raises ValueError for unequal shapes, and for probabilities where logarithms are wanted."""
    if p_BV.shape != logp_BV.shape:
        raise ValueError(f"{where}: wanted p and logp of one shape, got {tuple(p_BV.shape)} and {tuple(logp_BV.shape)}")
    if logp_BV.numel() and float(logp_BV.max()) > 1e-3:  # float32 log-softmax rounds to well within this
        raise ValueError(
            f"{where}: wanted log probabilities (nats), got {float(logp_BV.max()):g}; try .log_softmax(-1)"
        )
    return p_BV.double(), logp_BV.double()

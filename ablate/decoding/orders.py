"""What an order asks of the open places: a priority each, the largest first.

Shapes: N open places, V vocabulary. Log-probabilities in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ablate.core.rng import uniform
from ablate.decoding.protocol import Order, Protocol


@dataclass(frozen=True)
class Open:
    """The open places of one pass.

    logp_NV: what the model predicts. sampled_N: log-probability of the token that was drawn, undistorted by
    temperature. place_N: position in the sequence. key_N: uniform, by address. k_N: K(c) of the oracle, where the order
    asks for it.
    """

    logp_NV: Tensor
    sampled_N: Tensor
    place_N: Tensor
    key_N: Tensor
    k_N: Tensor | None = None

    def confidence(self, order: Order) -> Tensor:
        """Probability by which paces judge a place: of the drawn token where the order does, else the largest."""
        return (self.sampled_N if order is Order.confidence_of_sample else self.logp_NV.amax(-1)).double().exp()


def _margin(places: Open) -> Tensor:
    top_N2 = places.logp_NV.topk(min(2, places.logp_NV.shape[-1]), dim=-1).values.double().exp()
    return top_N2[:, 0] - top_N2[:, -1]


def _negative_entropy(places: Open) -> Tensor:
    logp_NV = places.logp_NV.double()
    return torch.where(logp_NV > -math.inf, logp_NV.exp() * logp_NV, 0.0).sum(-1)


def _oracle_k(places: Open) -> Tensor:
    assert places.k_N is not None, "the loop asks the oracle"
    return -places.k_N


PRIORITY: dict[Order, Callable[[Open], Tensor]] = {
    Order.left_to_right: lambda places: -places.place_N.double(),
    Order.random: lambda places: places.key_N,
    Order.confidence: lambda places: places.logp_NV.amax(-1).double(),
    Order.confidence_of_sample: lambda places: places.sampled_N.double(),
    Order.margin: _margin,
    Order.entropy: _negative_entropy,
    Order.oracle_k: _oracle_k,
}


def choose(logp_NV: Tensor, protocol: Protocol, seed: int, stream: str, address_N: Tensor) -> Tensor:
    """(N,) int64: the token of each place, the most probable or drawn by Gumbel noise in float64 that belongs to
    (seed, stream, address)."""
    if not protocol.temperature:
        return logp_NV.argmax(-1)
    scaled_NV = logp_NV.double() / protocol.temperature
    if protocol.top_p < 1:
        scaled_NV = nucleus(scaled_NV, protocol.top_p)
    u_NV = uniform(seed, stream, address_N.cpu().numpy(), (logp_NV.shape[-1],)).to(logp_NV.device)
    return (scaled_NV - (-u_NV.clamp_min(torch.finfo(torch.float64).tiny).log()).log()).argmax(-1)


def nucleus(scaled_NV: Tensor, mass: float) -> Tensor:
    """The scores, -inf but for the fewest most probable tokens that have at least this mass (Holtzman et al., 2020)."""
    sorted_NV, token_NV = scaled_NV.softmax(-1).sort(dim=-1, descending=True, stable=True)
    beyond_NV = sorted_NV.cumsum(-1) - sorted_NV >= mass
    return scaled_NV.masked_fill(beyond_NV.gather(-1, token_NV.argsort(-1)), -math.inf)

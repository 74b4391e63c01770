"""The network: a Llama-style Transformer whose attention pattern is an argument of forward.

Shapes: B batch, L positions, W width, H heads, D head width, V vocabulary.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.attention import Attention, Form, attend
from ablate.seeds import address
from ablate.shape import Shape


class Transformer(nn.Module):
    """RMSNorm, rotary positions, SwiGLU, grouped queries, no biases (Touvron et al., 2023).

    `mask_id` is read but never predicted: its logit is -inf, and so are those of rows beyond the corpus's `tokens`
    (as many as `vocabulary` where not given), so that probabilities are over real tokens.
    """

    def __init__(self, shape: Shape, vocabulary: int, mask_id: int, form: Form = Form.sdpa, tokens: int | None = None):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape, form) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.width))
        self.head = nn.Linear(shape.width, vocabulary, bias=False)
        if shape.tied:
            self.head.weight = self.embedding.weight
        self.register_buffer("allowed_V", torch.zeros(vocabulary), persistent=False)
        self.register_buffer("frequencies", _frequencies(shape), persistent=False)
        self.register_buffer("signs_D", torch.ones(shape.head_width), persistent=False)
        self.tokens = vocabulary if tokens is None else tokens
        self.allowed_V[mask_id] = -math.inf
        self.allowed_V[self.tokens :] = -math.inf
        self.signs_D[: shape.head_width // 2] = -1

    allowed_V: Tensor
    frequencies: Tensor
    signs_D: Tensor

    def forward(self, tokens_BL: Tensor, attention: Attention, positions_L: Tensor | None = None) -> Tensor:
        """Logits, (B, L, V). positions_L default to 0..L-1."""
        if positions_L is None:
            positions_L = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)
        angles_LD = torch.outer(positions_L.float(), self.frequencies).repeat(1, 2)
        x_BLW = self.embedding(tokens_BL)
        turn = angles_LD.cos(), angles_LD.sin() * self.signs_D
        for layer in self.layers:
            x_BLW = layer(x_BLW, turn, attention)
        return F.linear(_rms(x_BLW, self.norm, self.shape), self.head.weight, self.allowed_V)


class Layer(nn.Module):
    """Attention and SwiGLU with pre-norms. Projections are apart: slices of a joint one cost copies on a CPU."""

    def __init__(self, shape: Shape, form: Form):
        super().__init__()
        self.shape, self.form = shape, form
        narrow = shape.kv_heads * shape.head_width
        self.norm_attention = nn.Parameter(torch.ones(shape.width))
        self.norm_mlp = nn.Parameter(torch.ones(shape.width))
        self.q = nn.Linear(shape.width, shape.width, bias=False)
        self.k = nn.Linear(shape.width, narrow, bias=False)
        self.v = nn.Linear(shape.width, narrow, bias=False)
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        self.gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x_BLW: Tensor, turn: tuple[Tensor, Tensor], attention: Attention) -> Tensor:
        y_BLW = _rms(x_BLW, self.norm_attention, self.shape)
        q_BHLD, k_BHLD, v_BHLD = (
            project(y_BLW).unflatten(-1, (-1, self.shape.head_width)).transpose(1, 2)
            for project in (self.q, self.k, self.v)
        )
        mixed_BHLD = attend(_rotate(q_BHLD, *turn), _rotate(k_BHLD, *turn), v_BHLD, attention, self.form)
        x_BLW = x_BLW + self.out(mixed_BHLD.transpose(1, 2).flatten(-2))
        y_BLW = _rms(x_BLW, self.norm_mlp, self.shape)
        return x_BLW + self.down(F.silu(self.gate(y_BLW)) * self.up(y_BLW))


def initialise(network: Transformer, seed: int) -> None:
    """Fills the weights: normal, deviation 0.02, residual outputs scaled by 1/sqrt(2 layers) (Radford et al., 2019).

    Each tensor's numbers are addressed by its name, so that a further parameter changes no other.
    """
    residual = 0.02 / math.sqrt(2 * network.shape.layers)
    for name, parameter in network.named_parameters():
        if parameter.dim() < 2:
            continue  # norm gains stay at 1
        rng = torch.Generator().manual_seed(address(seed, f"weights/{name}") % 2**63)
        scale = residual if name.endswith(("out.weight", "down.weight")) else 0.02
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=rng) * scale)


def _frequencies(shape: Shape) -> Tensor:
    return shape.rope_theta ** (-torch.arange(0, shape.head_width, 2).float() / shape.head_width)


def _rotate(x_BHLD: Tensor, cos_LD: Tensor, sin_LD: Tensor) -> Tensor:
    """Rotary positions (Su et al., 2021), pairs (i, i + D/2); sin_LD is negative for the first of each pair."""
    cos_LD, sin_LD = cos_LD.to(x_BHLD.dtype), sin_LD.to(x_BHLD.dtype)
    return torch.addcmul(x_BHLD * cos_LD, x_BHLD.roll(x_BHLD.shape[-1] // 2, -1), sin_LD)


def _rms(x_BLW: Tensor, gain_W: Tensor, shape: Shape) -> Tensor:
    return F.rms_norm(x_BLW, (shape.width,), gain_W, shape.norm_eps)

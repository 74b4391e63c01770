"""The network: a Llama-style Transformer whose attention pattern is an argument of forward.

Shapes: R rows, L positions, W width, H heads, D head width, V vocabulary, N scored outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.attention import TABLES, Form, Pattern, attend
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

    def forward(self, tokens_RL: Tensor, pattern: Pattern, scored_N: Tensor | None = None) -> Tensor:
        """Logits of all outputs, (R, L, V), or of those whose numbers, counted along rows, are given, (N, V).

        Where a pattern has clean rows from whose outputs nothing is read, these have none: R is then the noisy rows.
        """
        positions_L = torch.arange(tokens_RL.shape[1], device=tokens_RL.device)
        angles_LD = torch.outer(positions_L.float(), self.frequencies).repeat(1, 2)
        x_RLW = self.embedding(tokens_RL)
        turn = angles_LD.cos(), angles_LD.sin() * self.signs_D
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            spared = i == last and pattern.draws > 0 and not pattern.clean_outputs
            x_RLW = layer(x_RLW, turn, pattern, len(x_RLW) // (pattern.draws + 1) if spared else 0)
        outputs = x_RLW if scored_N is None else x_RLW.flatten(0, 1).index_select(0, scored_N)
        return F.linear(_rms(outputs, self.norm, self.shape), self.head.weight, self.allowed_V)


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

    def forward(self, x_RLW: Tensor, turn: tuple[Tensor, Tensor], pattern: Pattern, spared: int = 0) -> Tensor:
        """spared: so many of the last rows give keys and values alone, and have no output."""
        kept = len(x_RLW) - spared
        y_RLW = _rms(x_RLW, self.norm_attention, self.shape)
        q_RHLD, k_RHLD, v_RHLD = (
            project(y).unflatten(-1, (-1, self.shape.head_width)).transpose(1, 2)
            for project, y in ((self.q, y_RLW[:kept]), (self.k, y_RLW), (self.v, y_RLW))
        )
        mixed_RHLD = attend(_rotate(q_RHLD, *turn), _rotate(k_RHLD, *turn), v_RHLD, pattern, self.form)
        x_RLW = x_RLW[:kept] + self.out(mixed_RHLD.transpose(1, 2).flatten(-2))
        y_RLW = _rms(x_RLW, self.norm_mlp, self.shape)
        return x_RLW + self.down(F.silu(self.gate(y_RLW)) * self.up(y_RLW))


def compiled(network: Transformer) -> Callable[..., Tensor]:
    """The network compiled by torch; tables of patterns are constants to it."""
    for table in TABLES:
        torch.compiler.assume_constant_result(table)
    return torch.compile(network)


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


def _rotate(x_RHLD: Tensor, cos_LD: Tensor, sin_LD: Tensor) -> Tensor:
    """Rotary positions (Su et al., 2021), pairs (i, i + D/2); sin_LD is negative for the first of each pair."""
    cos_LD, sin_LD = cos_LD.to(x_RHLD.dtype), sin_LD.to(x_RHLD.dtype)
    return torch.addcmul(x_RHLD * cos_LD, x_RHLD.roll(x_RHLD.shape[-1] // 2, -1), sin_LD)


def _rms(x_RLW: Tensor, gain_W: Tensor, shape: Shape) -> Tensor:
    return F.rms_norm(x_RLW, (shape.width,), gain_W, shape.norm_eps)

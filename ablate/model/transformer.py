"""The network: a Llama-style Transformer whose attention pattern is an argument of forward.

Several networks of one shape may be stacked: every parameter has a leading axis of seeds, and one pass is that of all.

Shapes: R rows, L positions, W width, H heads, D head width, V vocabulary, N scored outputs, S stacked networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.core.rng import address
from ablate.model.attention import Form, Pattern, attend, attend_where, sight
from ablate.model.chunked_loss import scored_loss
from ablate.model.config import ModelConfig
from ablate.model.stacked import Embedding, Linear, linear, rms_norm, share_parameters, stack_parameters

if TYPE_CHECKING:
    from ablate.model.attention import Sight
    from ablate.model.kv_cache import Past


class Transformer(nn.Module):
    """RMSNorm, rotary positions, SwiGLU, grouped queries (Touvron et al., 2023); biases and norms of queries and keys
    where the config says so.

    `mask_id` is read but never predicted: its logit is -inf, and so are those of rows beyond the corpus's `tokens`
    (as many as `vocabulary` where not given), so that probabilities are over real tokens.
    """

    def __init__(
        self, config: ModelConfig, vocabulary: int, mask_id: int, form: Form = Form.sdpa, tokens: int | None = None
    ):
        super().__init__()
        self.config, self.mask_id, self.form = config, mask_id, form
        self.embedding = Embedding(vocabulary, config.width)
        self.layers = nn.ModuleList(Layer(config, form) for _ in range(config.layers))
        self.norm = nn.Parameter(torch.ones(config.width))
        self.head = Linear(config.width, vocabulary, bias=False)
        self.tokens = vocabulary if tokens is None else tokens
        self.register_buffer("allowed_V", torch.empty(vocabulary), persistent=False)
        self.register_buffer("frequencies", torch.empty(config.head_width // 2), persistent=False)
        self.register_buffer("signs_D", torch.empty(config.head_width), persistent=False)
        self.fill_tables()

    allowed_V: Tensor
    frequencies: Tensor
    signs_D: Tensor

    @classmethod
    def stacked(cls, members: Sequence[Transformer]) -> Transformer:
        """Networks of one shape as one, which has copies of their parameters; see `member`."""
        first = members[0]
        own = cls(first.config, first.head.out_features, first.mask_id, first.form, first.tokens)
        stack_parameters(own, list(members))
        own.fill_tables()
        return own

    def member(self, i: int) -> Transformer:
        """The i-th of stacked networks, which shares memory with it; a plain network is its own only member."""
        if not self.seeds:
            return self
        with torch.device(self.norm.device):
            own = Transformer(self.config, self.head.out_features, self.mask_id, self.form, self.tokens)
        share_parameters(own, self, i)
        return own

    @property
    def seeds(self) -> int:
        """How many networks are stacked, 0 where it is a plain one."""
        return len(self.norm) if self.norm.dim() > 1 else 0

    def fill_tables(self) -> None:
        """Fills what is neither trained nor saved, and ties the head to the embedding where the config says so; to be
        called again after memory was given to a network on meta, which parts the two."""
        if self.config.tied:
            self.head.weight = self.embedding.weight
        self.allowed_V.zero_()
        self.allowed_V[self.mask_id] = -math.inf
        self.allowed_V[self.tokens :] = -math.inf
        self.frequencies.copy_(self.config.rope_scaling.frequencies(self.config.rope_theta, self.config.head_width))
        self.signs_D.fill_(self.config.rope_scaling.magnitude)
        self.signs_D[: self.config.head_width // 2] *= -1

    def forward(
        self, tokens_RL: Tensor, pattern: Pattern, scored_N: Tensor | None = None, documents_BL: Tensor | None = None
    ) -> Tensor:
        """Logits of all outputs, (R, L, V), or of those whose numbers, counted along the rows of a network, are given,
        (N, V), of stacked ones (S, N, V).

        documents_BL: number of each token's document, where attention is limited to documents.
        Where a pattern has clean rows from whose outputs nothing is read, these have none: R is then the noisy rows.
        """
        return self.logits(self._outputs(tokens_RL, pattern, scored_N, documents_BL))

    def score(
        self,
        tokens_RL: Tensor,
        pattern: Pattern,
        scored_N: Tensor,
        targets_N: Tensor,
        coefficient_N: Tensor,
        documents_BL: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """sum(coefficient * cross-entropy) over the scored outputs, to be differentiated, and the cross-entropies (N,),
        nats, detached; of stacked networks, where all three have a leading S, (S,) and (S, N). Logits are made and used
        a stretch of outputs at a time (see `ablate.model.chunked_loss`)."""
        outputs_NW = self._outputs(tokens_RL, pattern, scored_N, documents_BL)
        return scored_loss(outputs_NW, self.head.weight, self.allowed_V, targets_N, coefficient_N)

    def _outputs(
        self, tokens_RL: Tensor, pattern: Pattern, scored_N: Tensor | None, documents_BL: Tensor | None
    ) -> Tensor:
        """Normed outputs of the last layer, (R, L, W), (N, W) or (S, N, W)."""
        x_RLW, turn = self.embedding(tokens_RL), self.turns(tokens_RL.shape[1])
        see = partial(sight, pattern, self.form, tokens_RL.shape[1], tokens_RL.device, documents_BL)
        last, seen = len(self.layers) - 1, see()
        for i, layer in enumerate(self.layers):
            spared = i == last and pattern.spared
            seen = see(spared=True) if spared else seen
            x_RLW = layer(x_RLW, turn, pattern, spared, seen)
        outputs = x_RLW if scored_N is None else _chosen(x_RLW, scored_N)
        return rms_norm(outputs, self.norm, self.config.norm_eps)

    def extend(
        self,
        tokens_RT: Tensor,
        place_RT: Tensor,
        pasts: Sequence[Past],
        bias_RTL: Tensor | None,
        turns: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Normed outputs (R, T, W) of some places of each row, read again or for the first time, where the past of each
        layer has the keys and values of others. bias_RTL: additive mask, which places of its row each of them
        sees; none sees nothing. None: each sees all. turns: `turns` of at least as many places.

        For one network, not for stacked ones. Keys and values of these places are put there too.
        """
        x_RTW = self.embedding(tokens_RT)
        cos_LD, sin_LD = turns
        turn = cos_LD[place_RT][:, None], sin_LD[place_RT][:, None]  # alike for all heads
        for layer, past in zip(self.layers, pasts, strict=True):
            assert isinstance(layer, Layer)
            x_RTW = layer.extend(x_RTW, turn, past, None if bias_RTL is None else bias_RTL[:, None])
        return rms_norm(x_RTW, self.norm, self.config.norm_eps)

    def logits(self, outputs: Tensor) -> Tensor:
        """(..., V) of normed outputs (..., W)."""
        return linear(outputs, self.head.weight, self.allowed_V.to(outputs.dtype))

    def turns(self, length: int) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines of the rotary angles of places 0, 1, ..., (L, D) each."""
        place_L1 = torch.arange(length, device=self.frequencies.device)[:, None]
        angles_LD = (place_L1.float() * self.frequencies).repeat(1, 2)
        return angles_LD.cos() * self.signs_D[-1], angles_LD.sin() * self.signs_D


class Layer(nn.Module):
    """Attention and SwiGLU with pre-norms. Projections are apart: slices of a joint one cost copies on a CPU."""

    def __init__(self, config: ModelConfig, form: Form):
        super().__init__()
        self.config, self.form = config, form
        wide, narrow = config.heads * config.head_width, config.kv_heads * config.head_width
        self.norm_attention = nn.Parameter(torch.ones(config.width))
        self.norm_mlp = nn.Parameter(torch.ones(config.width))
        self.q = Linear(config.width, wide, bias=config.qkv_bias)
        self.k = Linear(config.width, narrow, bias=config.qkv_bias)
        self.v = Linear(config.width, narrow, bias=config.qkv_bias)
        self.norm_q = nn.Parameter(torch.ones(config.head_width)) if config.qk_norm else None
        self.norm_k = nn.Parameter(torch.ones(config.head_width)) if config.qk_norm else None
        self.out = Linear(wide, config.width, bias=False)
        self.gate = Linear(config.width, config.hidden, bias=False)
        self.up = Linear(config.width, config.hidden, bias=False)
        self.down = Linear(config.hidden, config.width, bias=False)

    def forward(
        self,
        x_RLW: Tensor,
        turn: tuple[Tensor, Tensor],
        pattern: Pattern,
        spared: bool = False,
        seen: Sight = None,
    ) -> Tensor:
        """spared: the clean rows give keys and values alone, and have no output. seen: see `sight`."""
        y_RLW = rms_norm(x_RLW, self.norm_attention, self.config.norm_eps)
        asking_RLW, x_RLW = (pattern.noisy(y_RLW), pattern.noisy(x_RLW)) if spared else (y_RLW, x_RLW)
        mixed_RHLD = attend(*self._heads(asking_RLW, y_RLW, turn), pattern, self.form, seen)
        return self._mixed(x_RLW, mixed_RHLD)

    def extend(self, x_RTW: Tensor, turn: tuple[Tensor, Tensor], past: Past, bias_R1TL: Tensor | None) -> Tensor:
        """Outputs of T places of each row, which see the keys of the whole row that `past` has, their own included."""
        y_RTW = rms_norm(x_RTW, self.norm_attention, self.config.norm_eps)
        q_RHTD, k_RHTD, v_RHTD = self._heads(y_RTW, y_RTW, turn)
        return self._mixed(x_RTW, attend_where(q_RHTD, *past.put(k_RHTD, v_RHTD), bias_R1TL, self.form))

    def _heads(self, asking_RLW: Tensor, y_RLW: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the asking rows, keys and values of all: (R, H, L, D) each."""
        q_RHLD, k_RHLD, v_RHLD = (
            project(y).unflatten(-1, (-1, self.config.head_width)).transpose(1, 2)
            for project, y in ((self.q, asking_RLW), (self.k, y_RLW), (self.v, y_RLW))
        )
        if self.norm_q is not None and self.norm_k is not None:
            q_RHLD, k_RHLD = (
                rms_norm(x, gain, self.config.norm_eps) for x, gain in ((q_RHLD, self.norm_q), (k_RHLD, self.norm_k))
            )
        return _rotate(q_RHLD, *turn), _rotate(k_RHLD, *turn), v_RHLD

    def _mixed(self, x_RLW: Tensor, mixed_RHLD: Tensor) -> Tensor:
        """What attention has gathered goes into the stream, and the stream through SwiGLU."""
        x_RLW = x_RLW + self.out(mixed_RHLD.transpose(1, 2).flatten(-2))
        y_RLW = rms_norm(x_RLW, self.norm_mlp, self.config.norm_eps)
        return x_RLW + self.down(F.silu(self.gate(y_RLW)) * self.up(y_RLW))


@torch.no_grad()
def initialise(network: Transformer, seed: int, fill: Callable[[Tensor, Tensor], object] = Tensor.copy_) -> None:
    """Fills the weights: normal, deviation 0.02, residual outputs scaled by 1/sqrt(2 layers) (Radford et al., 2019).

    Each tensor's numbers are addressed by its name, so that a further parameter changes no other. fill(own, whole)
    copies a whole tensor, or of it the part that a process has.
    """
    residual = 0.02 / math.sqrt(2 * network.config.layers)
    for name, parameter in network.named_parameters():
        if parameter.dim() < 2:
            fill(parameter, torch.zeros(parameter.shape) if name.endswith("bias") else torch.ones(parameter.shape))
            continue
        rng = torch.Generator().manual_seed(address(seed, f"weights/{name}") % 2**63)
        scale = residual if name.endswith(("out.weight", "down.weight")) else 0.02
        fill(parameter, torch.randn(parameter.shape, generator=rng) * scale)


def _chosen(x_RLW: Tensor, number: Tensor) -> Tensor:
    """Outputs by their numbers (N,), or (S, N) where those of each network are counted by themselves."""
    if number.dim() == 1:
        return x_RLW.flatten(0, 1).index_select(0, number)
    x_SMW = x_RLW.unflatten(0, (len(number), -1)).flatten(1, 2)
    return x_SMW.gather(1, number[..., None].expand(-1, -1, x_RLW.shape[-1]))


def _rotate(x_RHLD: Tensor, cos_LD: Tensor, sin_LD: Tensor) -> Tensor:
    """Rotary positions (Su et al., 2021), pairs (i, i + D/2); sin_LD is negative for the first of each pair."""
    cos_LD, sin_LD = cos_LD.to(x_RHLD.dtype), sin_LD.to(x_RHLD.dtype)
    return torch.addcmul(x_RHLD * cos_LD, x_RHLD.roll(x_RHLD.shape[-1] // 2, -1), sin_LD)

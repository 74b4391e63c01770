"""transformers' Llama as a peer: our weights under its names, our signature around its forward pass.

Shapes: R rows, B sequences, L positions, M positions of a joined sequence, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.model.attention import CAUSAL, Pattern, visible
from ablate.model.hf_config import names
from ablate.model.transformer import Transformer
from ablate.objectives.problem import Problem

Forward = Callable[..., Tensor]


def llama_of(network: Transformer) -> Any:
    """transformers' LlamaForCausalLM of the same shape and weights, in every other respect at its defaults."""
    from transformers import LlamaConfig, LlamaForCausalLM

    s = network.config
    told: dict[str, Any] = {
        "vocab_size": network.head.out_features,
        "hidden_size": s.width,
        "intermediate_size": s.hidden,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "num_key_value_heads": s.kv_heads,
        "rms_norm_eps": s.norm_eps,
        "rope_theta": s.rope_theta,
        "tie_word_embeddings": s.tied,
    }
    llama = LlamaForCausalLM(LlamaConfig(**told))
    ours = network.state_dict()
    weights = {theirs: ours[name].clone() for name, theirs in names(s).items()}
    llama.load_state_dict(weights, strict=not s.tied)  # no matrix is left over on either side but a tied head
    return llama.train()


def llama_forward(llama: Any) -> Forward:
    """Llama under our signature. `is_causal` is its own argument: its attention then gets no mask at all, which is the
    fastest way it has to see both sides (a 4D mask would be read by every layer)."""

    def forward(tokens_RL: Tensor, pattern: Pattern, scored_N: Tensor | None = None) -> Tensor:
        if pattern.draws:
            logits_RLV = _joined(llama, tokens_RL, pattern)
        else:
            logits_RLV = llama(input_ids=tokens_RL, is_causal=pattern == CAUSAL, use_cache=False).logits
        return logits_RLV if scored_N is None else logits_RLV.flatten(0, 1)[scored_N]

    return forward


def llama_loss(llama: Any, problem: Problem, global_batch: int) -> Tensor:
    """The same loss as ours, by torch's own cross-entropy on the logits of the scored outputs."""
    weight_M = problem.weight_RL.flatten()
    scored_N = weight_M.nonzero()[:, 0]
    logits_NV = llama_forward(llama)(problem.inputs_RL, problem.pattern, scored_N)
    nats_N = F.cross_entropy(logits_NV.float(), problem.targets_RL.flatten()[scored_N], reduction="none")
    return (nats_N * weight_M[scored_N]).sum() / (global_batch * (problem.inputs_RL.shape[1] - 1))


def _joined(llama: Any, tokens_RL: Tensor, pattern: Pattern) -> Tensor:
    """Noisy and clean rows as one sequence of 2L tokens under a dense mask, logits of the noisy ones: what peers do."""
    length = tokens_RL.shape[1]
    tokens_BM = tokens_RL.unflatten(0, (pattern.draws + 1, -1)).transpose(0, 1).flatten(1)
    positions_1M = torch.arange(length).repeat(pattern.draws + 1)[None]
    mask = _mask(pattern, length)[None, None]
    kept = torch.arange(pattern.draws * length)
    logits_BMV = llama(
        input_ids=tokens_BM, position_ids=positions_1M, attention_mask=mask, use_cache=False, logits_to_keep=kept
    ).logits
    return logits_BMV.unflatten(1, (pattern.draws, length)).transpose(0, 1).flatten(0, 1)


@lru_cache(maxsize=4)
def _mask(pattern: Pattern, length: int) -> Tensor:
    return visible(pattern, length)


def logit_difference(network: Transformer, forward: Forward, pattern: Pattern, tokens_BL: Tensor) -> float:
    """Largest difference between the logits of two networks, MASK's left out: ours gives it -inf, Llama a number."""
    with torch.no_grad():
        difference_BLV = network(tokens_BL, pattern) - forward(tokens_BL, pattern)
    real_V = torch.isfinite(network.allowed_V)
    return float(difference_BLV[..., real_V].abs().max())

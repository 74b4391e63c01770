"""Llama, Qwen2 and Qwen3 as transformers writes them: config.json and the names of tensors, both ways."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.core.foreign_files import read_json, require_id
from ablate.model.config import ModelConfig
from ablate.model.hf_rope import rope_of, rope_scaling_of
from ablate.model.hf_settings import TYPE, number, require_fixed, shown, whole

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Architecture:
    """An architecture of transformers, and what it fixes of a shape. head: width of a head where config.json is
    silent, 0 for width / heads."""

    name: str
    qkv_bias: bool = False
    qk_norm: bool = False
    head: int = 0


# By `model_type`. Seed-Coder is a Llama
ARCHITECTURES = {
    "llama": Architecture("LlamaForCausalLM"),
    "qwen2": Architecture("Qwen2ForCausalLM", qkv_bias=True),
    "qwen3": Architecture("Qwen3ForCausalLM", qk_norm=True, head=128),
}
# Our own class around one of them, which transformers names where it saved an export
DIFFUSION = "DiffusionForCausalLM"
# Settings of these architectures that are computed here in one way alone: with biases, Llama and Qwen3 have one of the
# output projection too
FIXED = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
}
WINDOW_LAYERS = 28  # transformers' default of max_window_layers
WHOLE = {"embedding.weight": "model.embed_tokens.weight", "norm": "model.norm.weight", "head.weight": "lm_head.weight"}
LAYER = {
    "norm_attention": "input_layernorm.weight",
    "norm_mlp": "post_attention_layernorm.weight",
    "q.weight": "self_attn.q_proj.weight",
    "k.weight": "self_attn.k_proj.weight",
    "v.weight": "self_attn.v_proj.weight",
    "q.bias": "self_attn.q_proj.bias",
    "k.bias": "self_attn.k_proj.bias",
    "v.bias": "self_attn.v_proj.bias",
    "norm_q": "self_attn.q_norm.weight",
    "norm_k": "self_attn.k_norm.weight",
    "out.weight": "self_attn.o_proj.weight",
    "gate.weight": "mlp.gate_proj.weight",
    "up.weight": "mlp.up_proj.weight",
    "down.weight": "mlp.down_proj.weight",
}


def names(shape: ModelConfig) -> dict[str, str]:
    """transformers' name of every weight of this shape, by ours. Both turn rotary pairs (i, i + D/2), so that no row
    moves. A tied head has the embedding's name."""
    absent = {name for name in LAYER if name.endswith(".bias") and not shape.qkv_bias}
    absent |= set() if shape.qk_norm else {"norm_q", "norm_k"}
    layer = {ours: theirs for ours, theirs in LAYER.items() if ours not in absent}
    whole = WHOLE | ({"head.weight": WHOLE["embedding.weight"]} if shape.tied else {})
    return whole | {
        f"layers.{i}.{ours}": f"model.layers.{i}.{theirs}"
        for i in range(shape.layers)
        for ours, theirs in layer.items()
    }


def config_path(place: Path) -> Path:
    """The config.json that is meant by it or by its folder."""
    return place if place.suffix == ".json" and not place.is_dir() else place / "config.json"


def read_config(place: Path) -> dict[str, Any]:
    """A config.json, or that of a folder. Raises ValueError where there is none that can be read."""
    path = config_path(place)
    if not path.parent.is_dir():
        there = next(folder for folder in path.absolute().parents if folder.is_dir())
        raise ValueError(
            f"{path.parent}: wanted the folder of a checkpoint, got a path that is not there; type ls {there}"
        )
    try:
        config = read_json(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{path}: wanted a checkpoint's config.json, got none that can be read ({reason}); {TYPE}"
        ) from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: wanted a checkpoint's config.json, got {type(config).__name__}; {TYPE}")
    return config


def shape_of(place: Path) -> ModelConfig:
    """The shape that a config.json, or that of a folder, describes.

    Settings of transformers 4 (`rope_theta`, `rope_scaling`) and 5 (`rope_parameters`) are read. Raises ValueError,
    naming the setting, for what is not computed here and for settings that are absent or no such value.
    """
    config = read_config(place)
    try:
        return _shape(config)
    except ValueError as error:
        raise ValueError(f"{config_path(place)}: {error}") from None


def _shape(config: Config) -> ModelConfig:
    architecture = _architecture(config)
    require_fixed(config, FIXED, "")
    _require_no_window(config)
    width, heads = whole(config, "hidden_size"), whole(config, "num_attention_heads")
    # transformers' own default is the number of heads for Llama and 32 for the others, which nobody means
    kv_heads = heads if architecture is ARCHITECTURES["llama"] else None
    head = whole(config, "head_dim", architecture.head)
    theta, scaling = rope_of(config)
    mask = next((key for key in ("mask_token_id", "mask_id") if config.get(key) is not None), None)
    if mask:
        require_id(config[mask], mask)
    tied = config.get("tie_word_embeddings", False)
    if not isinstance(tied, bool):
        raise ValueError(f"tie_word_embeddings: wanted true or false, got {shown(tied)}; {TYPE}")
    whole(config, "max_position_embeddings", 1)
    return ModelConfig(
        width,
        whole(config, "num_hidden_layers"),
        heads,
        whole(config, "num_key_value_heads", kv_heads),
        hidden=whole(config, "intermediate_size"),
        vocabulary=whole(config, "vocab_size"),
        tied=tied,
        rope_theta=theta,
        norm_eps=number(config, "rms_norm_eps", 1e-6),
        qkv_bias=architecture.qkv_bias,
        qk_norm=architecture.qk_norm,
        head=0 if head * heads == width else head,
        rope_scaling=scaling,
        mask_id=config[mask] if mask else -1,
    )


def _require_no_window(config: Config) -> None:
    """Raises ValueError if any layer has a sliding window. Without layer_types these are the layers from
    max_window_layers on, where use_sliding_window is true."""
    kinds = config.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise ValueError(f"layer_types: wanted full_attention alone, got {shown(kinds)}; {TYPE}")
    layers, full = whole(config, "num_hidden_layers"), config.get("max_window_layers", WINDOW_LAYERS)
    none = "sliding_window" in config and config["sliding_window"] is None
    if not kinds and not none and not (isinstance(full, int) and full >= layers):
        require_fixed(config, {"use_sliding_window": False}, "")


def _architecture(config: Config) -> Architecture:
    kind, named = config.get("model_type"), config.get("architectures") or []
    if not isinstance(named, list):
        raise ValueError(f"architectures: wanted a list of names, got {shown(named)}; {TYPE}")
    known = ARCHITECTURES.get(str(kind))
    if known is None or (named and not {known.name, DIFFUSION} & {str(name) for name in named}):
        wanted = ", ".join(f"{name} ({a.name})" for name, a in ARCHITECTURES.items())
        raise ValueError(
            f"unknown architecture: wanted model_type {wanted}, got {shown(kind)} with "
            f"architectures {shown(named) if named else 'not named'}; {TYPE}"
        )
    return known


def config_of(shape: ModelConfig, rows: int, context: int) -> dict[str, Any]:
    """config.json of this shape, with `rows` of the embedding and a context of as many tokens, in settings that
    transformers 4 and 5 read. Raises ValueError for a shape that no architecture has."""
    kind = next((k for k, a in ARCHITECTURES.items() if (a.qkv_bias, a.qk_norm) == (shape.qkv_bias, shape.qk_norm)), "")
    if not kind or (kind == "llama" and shape.width % shape.heads):
        raise ValueError(
            f"model.qkv_bias={shape.qkv_bias}, model.qk_norm={shape.qk_norm}, model.heads={shape.heads}: transformers "
            "has no architecture with both, nor a Llama whose heads do not divide its width; train another model="
        )
    scaling = shape.rope_scaling
    return {
        "architectures": [ARCHITECTURES[kind].name],
        "model_type": kind,
        "vocab_size": rows,
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": shape.norm_eps,
        "tie_word_embeddings": shape.tied,
        "max_position_embeddings": max(context, math.ceil(scaling.factor * scaling.context)),
        "rope_theta": shape.rope_theta,
        "rope_scaling": rope_scaling_of(scaling),
    }

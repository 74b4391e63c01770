"""Single settings of a stranger's config.json, each checked where it is read, so that a message can name it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]
TYPE = "type init=hf: and the folder of a Llama, Qwen2 or Qwen3 checkpoint, with its config.json and weights"
LARGEST = 10**18  # beyond it no setting means anything


def require_fixed(config: Config, fixed: Config, where: str) -> None:
    """Raises ValueError for a setting that is there and is not the one value that is computed here."""
    for key, only in fixed.items():
        came = config.get(key)
        if came is not None and came != only:
            wanted = "nothing" if only is None else json.dumps(only)
            raise ValueError(
                f"{where}{key}: wanted {wanted}, which is what is computed here, got {json.dumps(came)[:60]}; {TYPE}"
            )


def number(config: Config, key: str, default: float | None = None) -> float:
    """A number of the config, or the default where it is silent. Raises ValueError for other values."""
    value = default if config.get(key) is None else config[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST < value < LARGEST:
        raise ValueError(f"{key}: wanted a number, got {shown(value)}; {TYPE}")
    return float(value)


def whole(config: Config, key: str, default: int | None = None) -> int:
    """A whole number of 1 or more, likewise; a silent or zero head_dim is width / heads."""
    value = default or None if config.get(key) is None else config[key]
    if key == "head_dim" and value is None:
        return config["hidden_size"] // config["num_attention_heads"]
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < LARGEST:
        raise ValueError(f"{key}: wanted a whole number of 1 or more, got {shown(value)}; {TYPE}")
    return value


def shown(value: Any) -> str:
    """A foreign value in a message: one line, and not a long one."""
    return repr(value)[:60]

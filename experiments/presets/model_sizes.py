"""Shapes by name, and those that a checkpoint's config.json describes.

Parameters where the vocabulary is the corpus's, with 32,000 tokens: 110m 109M, 350m 350M, 1b 1.04B. Those of `tiny`,
`small` and `base` (0.1M, 1M, 25M) are without embeddings; `2.5b` has 2.5B with the vocabulary of Seed-Coder.
"""

from __future__ import annotations

from ablate.core.validation import path_of
from ablate.model.config import ModelConfig

MODELS = {
    "tiny": ModelConfig(64, 2, 4, 4),
    "small": ModelConfig(128, 4, 4, 4),
    "base": ModelConfig(512, 8, 8, 8),
    "110m": ModelConfig(768, 12, 12, 12, tied=True),
    "350m": ModelConfig(1024, 24, 16, 16, hidden=2944, tied=True),
    "1b": ModelConfig(2048, 16, 32, 8, hidden=8192, tied=True),
    "2.5b": ModelConfig(2560, 24, 20, 4, hidden=7168, vocabulary=155_136),
}
PREFIX = "hf:"


def is_place(value: object) -> bool:
    """Does a value of `model` name a checkpoint's folder or a config.json, and none of the shapes?"""
    return isinstance(value, str) and (value.startswith(PREFIX) or value.endswith(".json"))


def model_at(value: str) -> ModelConfig:
    """The shape of hf:FOLDER or of PATH/config.json. Raises ValueError where nothing can be read there."""
    from ablate.model.hf_config import shape_of

    if not value.removeprefix(PREFIX):
        raise ValueError(f"model={value}: wanted the folder of a checkpoint, got nothing; type model={PREFIX}FOLDER")
    return shape_of(path_of("model", value.removeprefix(PREFIX)))

"""Corpora by name, and the context samplers that a survey of a corpus compares."""

from __future__ import annotations

from typing import Any

from ablate.text.corpora import PythonSource, Text
from synthetic_data import Arithmetic, Facts, Noisy, Permuted, Programs, Trace

WRAPPED = (Noisy(), Permuted())
for _world in WRAPPED:
    _world.domain = _world.split = None  # left to the world inside, so that its own keys are heeded
WORLDS = (Trace(), Arithmetic(), Facts(), Programs(), *WRAPPED)
CORPORA: dict[str, Any] = {corpus.name: corpus for corpus in (*WORLDS, PythonSource(), Text())}


def context_samplers() -> dict[str, Any]:
    """Context samplers by name: what objectives show in training, and AR, which is also decoding token by token."""
    from ablate.evaluation.contexts import Blocks, RandomMasks, Suffix  # loads torch

    return {
        "AR": Blocks(1),
        "AR backwards": Blocks(1, backwards=True),
        "suffix masks": Suffix(),
        **{f"block {size}": Blocks(size) for size in (2, 4, 8, 16, 32)},
        "random masks": RandomMasks(),
        "random masks, causal": RandomMasks(causal=True),
        **{f"random masks, t <= {cap:g}": RandomMasks(0.0, cap) for cap in (0.1, 0.5)},
    }

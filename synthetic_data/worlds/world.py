"""What synthetic worlds share: checks of their fields and sizes, a sampler, and a fingerprint of their data."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ablate.core.rng import uniform
from ablate.core.validation import require, require_range

if TYPE_CHECKING:
    from torch import Tensor

WORLD = (-(2**63), 2**63 - 1)  # of the seed of a world's rules


def require_fields(world: Any, /, **ranges: tuple[int, int]) -> None:
    """Raises ValueError for the first field that is no whole number in its inclusive range; (False, True) is a flag."""
    for name, (low, high) in ranges.items():
        key, value, of = f"corpus.{name}", getattr(world, name), f" for {world.name}"
        if isinstance(low, bool):
            require(key, value, isinstance(value, bool), f"true or false{of}", "false")
        else:
            require_range(key, value, low, high, of=of)
            setattr(world, name, int(value))  # numpy's whole numbers are no JSON


MOST_SWEPT = 16_000_000
ROW_BYTES = 1000  # a clique row as the engine keeps it: tokens, states, weight, and the groups it belongs to


def require_rows(world: Any, rows: int, most: int, advice: str, swept: int = 0) -> None:
    """Raises ValueError, before anything is built, where a world's exact oracle would be too large."""
    if rows > most:
        raise ValueError(
            f"corpus={world.name}: wanted an exact oracle of at most {most} different rows "
            f"({most * ROW_BYTES / 1e6:.0f} MB), got up to {rows} ({rows * ROW_BYTES / 1e6:.0f} MB); try {advice}"
        )
    if swept > MOST_SWEPT:
        raise ValueError(
            f"corpus={world.name}: wanted at most {MOST_SWEPT} rows to sweep for a sequence, which takes about a "
            f"second, got up to {swept}; try {advice}"
        )


def draw(world: Any, indices: Sequence[int] | np.ndarray, seed: int, stream: str) -> Tensor:
    """(B, L) rows of the world by its oracle, exact; row i depends on (seed, stream, indices[i]) alone."""
    stream = f"{world.name}/{stream}/{world.domain}/{world.split}"
    return world.oracle.draw(uniform(seed, stream, indices, (world.oracle.draws,)).numpy())


def fingerprint(world: Any) -> str:
    """Hash of the world's name and fields, which determine every sequence of a seed; a field that came later (see
    `storage.LATER`) counts where it is not at its default."""
    said = dataclasses.fields(world)
    fields = {f.name: getattr(world, f.name) for f in said if not f.metadata or getattr(world, f.name) != f.default}
    return hashlib.sha256(json.dumps([world.name, fields], sort_keys=True).encode()).hexdigest()[:16]

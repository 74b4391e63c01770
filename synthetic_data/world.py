"""What synthetic worlds share: checks of their fields and sizes, and a fingerprint of their law."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any


def require_range(world: Any, **ranges: tuple[int, int]) -> None:
    """Raises ValueError for the first field outside its inclusive range."""
    for name, (low, high) in ranges.items():
        value = getattr(world, name)
        if not low <= value <= high:
            near = min(max(value, low), high)
            raise ValueError(
                f"corpus.{name}: wanted {low}..{high} for {world.name}, got {value}; try corpus.{name}={near}"
            )


ROW_BYTES = 1000  # a clique row as the engine keeps it: tokens, states, weight, and the groups it belongs to


def require_rows(world: Any, rows: int, most: int, advice: str) -> None:
    """Raises ValueError, before anything is built, where a world's exact oracle would be too large."""
    if rows > most:
        raise ValueError(
            f"corpus={world.name}: wanted an exact oracle of at most {most} different rows "
            f"({most * ROW_BYTES / 1e6:.0f} MB), got up to {rows} ({rows * ROW_BYTES / 1e6:.0f} MB); try {advice}"
        )


def fingerprint(world: Any) -> str:
    """Hash of the world's name and fields, which determine every sequence of a seed."""
    fields = {f.name: getattr(world, f.name) for f in dataclasses.fields(world)}
    return hashlib.sha256(json.dumps([world.name, fields], sort_keys=True).encode()).hexdigest()[:16]

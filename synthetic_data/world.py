"""What every synthetic world shares: checks of its fields and a fingerprint of its law."""

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


def fingerprint(world: Any) -> str:
    """Hash of the world's name and fields, which determine every sequence of a seed."""
    fields = {f.name: getattr(world, f.name) for f in dataclasses.fields(world)}
    return hashlib.sha256(json.dumps([world.name, fields], sort_keys=True).encode()).hexdigest()[:16]

"""Synthetic rule worlds whose exact posterior is known under any mask.

worlds/ holds one file a world, engine/ exact inference. Edit WORLDS below to add a world by its name.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ablate.core.corpus import Corpus
from synthetic_data.worlds.arithmetic import Arithmetic
from synthetic_data.worlds.facts import Facts
from synthetic_data.worlds.noisy import Noisy, noisy
from synthetic_data.worlds.permuted import Permuted
from synthetic_data.worlds.programs import Programs
from synthetic_data.worlds.trace import Trace

WORLDS: dict[str, type] = {world.name: world for world in (Arithmetic, Facts, Noisy, Permuted, Programs, Trace)}

__all__ = ["WORLDS", "Arithmetic", "Facts", "Noisy", "Permuted", "Programs", "Trace", "make", "noisy"]


def make(name: str, **parameters: Any) -> Corpus:
    """The named world with the given fields (domain, split and its own). Raises ValueError naming what is unknown."""
    if name not in WORLDS:
        raise ValueError(f"synthetic_data.make: wanted one of {', '.join(sorted(WORLDS))}, got {name!r}")
    known = [field.name for field in dataclasses.fields(WORLDS[name])]
    for parameter in parameters:
        if parameter not in known:
            raise ValueError(f"synthetic_data.make({name!r}): no parameter {parameter!r}; it has {', '.join(known)}")
    return WORLDS[name](**parameters)

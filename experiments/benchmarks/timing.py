"""What every benchmark says of its numbers: their spread, and what they belong to; each in a fresh process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from typing import Any

import numpy as np

from ablate.core.child_processes import spawning


def in_fresh_process(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Calls it in a new interpreter: torch takes its number of threads, and compiles, once and for all."""
    with ProcessPoolExecutor(1, mp_context=spawning()) as pool:
        return pool.submit(function, *arguments).result()


def surroundings(*further: str) -> dict[str, Any]:
    """Machine, packages and code that the numbers belong to."""
    from ablate.core.provenance import code_version, description, packages

    found = packages() | {name: version(name) for name in further}
    return {"machine": description(), "packages": found, "code": code_version()}


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, quartiles and extremes."""
    names = ("least", "lower_quartile", "median", "upper_quartile", "most")
    return dict(zip(names, np.quantile(list(values), [0, 0.25, 0.5, 0.75, 1]).tolist(), strict=True))


def middle(spread: dict[str, float], form: str, unit: float = 1) -> str:
    """A spread as a table shows it: median (quartiles), each in the format `form`."""
    names = ("lower_quartile", "median", "upper_quartile")
    low, median, high = (format(spread[name] / unit, form) for name in names)
    return f"{median} ({low}-{high})"

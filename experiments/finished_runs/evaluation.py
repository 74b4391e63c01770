"""What is asked of evaluate.py."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

from ablate.core.blocks import Grid
from ablate.core.validation import UsageError, path_of, require_ranges
from ablate.decoding.protocol import Cache, Order, Pace
from experiments.cli.words import places_and_values

MOST = 2**20  # tokens a block
LISTS = {"block_sizes": int, "orders": Order, "paces": Pace.read, "grids": Grid, "caches": Cache, "bounds": int}
NUMBERS = {"questions": (1, 10**6), "sequences": (0, 10**6), "contexts": (2, 10**6), "seed": (0, 2**63 - 1)}


@dataclass
class Evaluation:
    """What is asked of finished runs. Raises ValueError for values out of range."""

    runs: list[Path]
    block_sizes: list[int] = field(default_factory=lambda: [1, 2, 32])
    orders: list[Order] = field(default_factory=lambda: [Order.left_to_right, Order.random, Order.confidence])
    paces: list[str] = field(default_factory=lambda: ["tokens:1", "tokens:4", "all"])
    grids: list[Grid] = field(default_factory=lambda: [Grid.answer])
    caches: list[Cache] = field(default_factory=lambda: [Cache.exact])
    bounds: list[int] = field(default_factory=list)
    questions: int = 256
    sequences: int = 0
    contexts: int = 2048
    seed: int = 1000
    oracle: bool = False
    draw: bool = True
    out: str = ""

    def __post_init__(self) -> None:
        require_ranges(self, NUMBERS)
        for name in ("oracle", "draw"):
            if not isinstance(value := getattr(self, name), bool):
                raise UsageError(f"{name}: wanted true or false, got {value!r}; type {name}=true")
        if not isinstance(self.out, str):
            raise UsageError(f"out: wanted a folder, got {self.out!r}; type out=results/NAME")
        for name, kind in LISTS.items():
            values = getattr(self, name)
            if not isinstance(values, list):
                raise UsageError(f"{name}: wanted a list, got {values!r}; type {name}=[{values}]")
            try:
                found = [kind(value) for value in values]
            except (TypeError, ValueError, OverflowError) as error:
                raise UsageError(f"{name}: {error}") from None
            if kind is int and any(isinstance(v, bool) or not isinstance(v, int) or not 1 <= v <= MOST for v in values):
                raise UsageError(f"{name}: wanted whole numbers in 1..{MOST}, got {values}; type {name}=[4]")
            setattr(self, name, [str(value) if name == "paces" else value for value in found])


def read(words: list[str]) -> Evaluation:
    """What was typed. Raises UsageError for what cannot be evaluated."""
    names = [f.name for f in fields(Evaluation) if f.name != "runs"]
    places, values = places_and_values(words, "RUN folders", names)
    if not places:
        raise UsageError("evaluate: wanted one or more folders of finished runs, got none; type runs/NAME")
    return Evaluation(list(dict.fromkeys(path_of("RUN", place) for place in places)), **values)

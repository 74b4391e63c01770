"""What is asked of generate.py."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from ablate.core.blocks import Grid
from ablate.core.validation import UsageError, path_of, require_ranges
from ablate.decoding.protocol import Cache, Order, Protocol
from experiments.cli.places import require_place
from experiments.cli.words import places_and_values

MOST = 2**20  # tokens
NUMBERS = {"questions": (1, 1000), "new_tokens": (1, MOST), "block_size": (0, MOST), "seed": (0, 2**63 - 1)}


@dataclass
class Generation:
    """What a network is to write. prompt None: questions of its own corpus. Raises ValueError for values out of range.

    block_size 0: as many tokens as the network attends to in a block, 1 where it does not attend in blocks.
    """

    run: str
    prompt: str | None = None
    questions: int = 4
    new_tokens: int = 64
    block_size: int = 0
    order: str = str(Order.confidence)
    pace: str = "tokens:1"
    grid: str = ""
    temperature: float = 0.0
    top_p: float = 1.0
    cache: str = str(Cache.exact)
    stop: bool = True
    seed: int = 1000
    live: bool = True
    trace: str = ""

    def __post_init__(self) -> None:
        require_ranges(self, NUMBERS)
        for name in ("live", "stop"):
            if not isinstance(value := getattr(self, name), bool):
                raise UsageError(f"{name}: wanted true or false, got {value!r}; type {name}=false")
        if self.trace and Path(self.trace).suffix != ".png":
            raise UsageError(f"trace: wanted a file that ends in .png, got {self.trace!r}; type trace=order.png")
        self.protocol(1, Grid.answer)

    def protocol(self, attention_size: int, grid: Grid, ends: tuple[int, ...] = ()) -> Protocol:
        """How it is decoded, where the network attends in blocks of a size and has a grid and end tokens of its own."""
        for name in ("temperature", "top_p"):
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), int | float):
                raise UsageError(f"{name}: wanted a number, got {getattr(self, name)!r}; type {name}=1")
        size = self.block_size or max(1, attention_size)
        try:
            order, counted, cache = Order(self.order), Grid(self.grid or grid), Cache(self.cache)
        except ValueError as error:
            raise UsageError(f"{error}; type one of {', '.join((*Order, *Grid, *Cache))}") from None
        more = {"temperature": self.temperature, "top_p": self.top_p, "cache": cache}
        return Protocol(size, order, self.pace, counted, stop_at=ends if self.stop else (), **more)


def read(words: list[str]) -> Generation:
    """What was typed. Raises UsageError for what cannot be generated."""
    names = [f.name for f in fields(Generation) if f.name != "run"]
    places, values = places_and_values(words, "RUN", names, as_typed=("prompt", "trace", "pace"))
    if len(places) != 1:
        raise UsageError(f"generate: wanted one RUN, got {', '.join(places) or 'none'}; type runs/NAME or hf:FOLDER")
    if values.get("trace"):
        require_place(path_of("trace", values["trace"]).parent, "trace")
    return Generation(places[0], **values)

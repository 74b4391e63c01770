"""Windows of a split: its token ids lie in shards, one after another, and are read where they are asked for.

Shapes: T tokens of a split, S shards, D documents, W windows, N windows asked for, L positions.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ablate.core.rng import generator

Array = np.ndarray[Any, Any]
OPEN = 512  # memory maps that are kept open


class Packing(StrEnum):
    """How documents become windows. joined: one after another, cut every L tokens, the rest at the end left out.
    padded: every document by itself, cut every L tokens, its last window filled up with the separator."""

    joined = "joined"
    padded = "padded"


@dataclass(frozen=True)
class Tokens:
    """Token ids of a split: files of plain little-endian `dtype`, joined in their order and mapped into memory."""

    paths: tuple[Path, ...]
    tokens_S: tuple[int, ...]
    dtype: str
    _maps: OrderedDict[int, Array] = field(default_factory=OrderedDict, compare=False, repr=False)

    def __len__(self) -> int:
        return int(self._ends_S[-1]) if self.tokens_S else 0

    def read(self, start: int, tokens: int) -> Array:
        """(tokens,) ids from place `start` on, of the split's own dtype."""
        parts, shard = [], int(np.searchsorted(self._ends_S, start, side="right"))
        while tokens > 0:
            begin = start - int(self._ends_S[shard]) + self.tokens_S[shard]
            parts.append(self._map(shard)[begin : begin + tokens])
            start, tokens, shard = start + len(parts[-1]), tokens - len(parts[-1]), shard + 1
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype=self.dtype), *parts])

    @cached_property
    def _ends_S(self) -> Array:
        return np.cumsum(self.tokens_S, dtype=np.int64)

    def _map(self, shard: int) -> Array:
        if shard not in self._maps:
            if len(self._maps) >= OPEN:
                self._maps.popitem(last=False)
            # as a plain array: slices of a memmap cost several times as much
            self._maps[shard] = np.asarray(np.memmap(self.paths[shard], dtype=self.dtype, mode="r"))
        return self._maps[shard]


@dataclass(frozen=True)
class Windows:
    """All windows of a split, by number. lengths_D: tokens of each document, for padded windows; else None."""

    tokens: Tokens
    length: int
    separator: int
    lengths_D: Array | None = None

    def __len__(self) -> int:
        if self.lengths_D is None:
            return len(self.tokens) // self.length
        return int(self._windows_D[-1]) if len(self.lengths_D) else 0

    def shuffled(self, indices_N: Array, seed: int, stream: str) -> Array:
        """(N,) int64: numbers of the windows that stand at these indices. Of W windows, each run of W indices from a
        multiple of W is an epoch: every window once, in a new order."""
        epoch_N, place_N = np.divmod(indices_N, len(self))
        number_N = np.empty_like(place_N)
        for epoch in np.unique(epoch_N).tolist():
            here_N = epoch_N == epoch
            number_N[here_N] = _permutation(len(self), seed, stream, epoch)[place_N[here_N]]
        return number_N

    def rows(self, numbers_N: Array) -> Array:
        """(N, L) int64; what a document does not fill is separators."""
        rows_NL = np.full((len(numbers_N), self.length), self.separator, dtype=np.int64)
        start_N, filled_N = self._places(np.asarray(numbers_N, dtype=np.int64))
        for row_L, start, filled in zip(rows_NL, start_N.tolist(), filled_N.tolist(), strict=True):
            row_L[:filled] = self.tokens.read(start, filled)
        return rows_NL

    def filled(self, numbers_N: Array) -> Array:
        """(N,) int64: tokens of each window that stand in a document."""
        return self._places(np.asarray(numbers_N, dtype=np.int64))[1]

    def _places(self, numbers_N: Array) -> tuple[Array, Array]:
        """Where each window begins among the tokens, and how many of them it holds."""
        if self.lengths_D is None:
            return numbers_N * self.length, np.full_like(numbers_N, self.length)
        document_N = np.searchsorted(self._windows_D, numbers_N, side="right")
        whole_N = self.lengths_D[document_N]
        before_N = (numbers_N - self._windows_D[document_N] + -(-whole_N // self.length)) * self.length
        return self._ends_D[document_N] - whole_N + before_N, np.minimum(self.length, whole_N - before_N)

    @cached_property
    def _windows_D(self) -> Array:
        assert self.lengths_D is not None
        return np.cumsum(-(-self.lengths_D // self.length))

    @cached_property
    def _ends_D(self) -> Array:
        assert self.lengths_D is not None
        return np.cumsum(self.lengths_D)


@lru_cache(maxsize=8)
def _permutation(windows: int, seed: int, stream: str, epoch: int) -> Array:
    return generator(seed, stream, epoch).permutation(windows)

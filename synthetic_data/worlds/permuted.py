"""Any world whose tokens stand in other places, the same ones in every sequence of either domain.

    corpus = synthetic_data.make("permuted", swaps=3)

    <bos>abca3|7209   is read as, say,   <bos>2bca3|7a09

`swaps` pairs of places are exchanged, one after the other; <bos> stays. What is learned is the same, and so is what
random masks show: the posterior under a mask is that of the world itself under the mask moved back. Reading from left
to right meets other contexts: an answer that stands before what decides it is open. What it costs there is saved later,
as entropies from left to right add up to that of the sequence in every order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ablate.core.corpus import Domain, Query, Split
from ablate.core.rng import generator
from ablate.core.validation import require_range
from synthetic_data.engine.oracle import ChainOracle
from synthetic_data.worlds.trace import Trace
from synthetic_data.worlds.world import WORLD
from synthetic_data.worlds.wrapped import Wrapped

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]
MOST = 10_000  # swaps


@dataclass
class Permuted(Wrapped):
    """A world with tokens exchanged. swaps: pairs of places, of which more begin with the same ones. order: number of
    the list that they are taken from. domain, split: where given, are put into `corpus`. Raises ValueError for numbers
    out of range.
    """

    name: ClassVar[str] = "permuted"
    corpus: Any = field(default_factory=Trace)  # a world: a protocol cannot be a configuration's type
    swaps: int = 4
    order: int = 0
    domain: Domain | None = None
    split: Split | None = None

    def __post_init__(self) -> None:
        for key, (low, high) in {"swaps": (0, MOST), "order": WORLD}.items():
            require_range(f"corpus.{key}", getattr(self, key), low, high, of=" for permuted")
        self._settle()

    @cached_property
    def from_L(self) -> Array:
        """Of every place the place in the world inside whose token stands there."""
        from_L = np.arange(self.length)
        rng = generator(self.order, "permuted/swaps")
        for _ in range(self.swaps):
            pair = 1 + rng.choice(self.length - 1, 2, replace=False)
            from_L[pair] = from_L[pair[::-1]]
        return from_L

    @cached_property
    def oracle(self) -> ChainOracle:
        """The same distribution: cliques have their rows at other positions."""
        inner = self.corpus.oracle
        place_L = np.argsort(self.from_L)
        moved = [[clique.at(place_L[list(clique.positions)]) for clique in cliques] for cliques in inner.chains]
        return ChainOracle(moved, self.length, self.vocabulary, inner.noise)

    def batch(self, indices: Sequence[int] | Array, seed: int) -> Tensor:
        return self.corpus.batch(indices, seed)[:, self.from_L]

    def queries(self, n: int, seed: int) -> Query:
        """The same questions; what is decoded is moved back and held against the world's own answers."""
        asked, back_L = self.corpus.queries(n, seed), np.argsort(self.from_L)
        moved = {"tokens_BL": asked.tokens_BL[:, self.from_L], "answer_BL": asked.answer_BL[:, self.from_L]}
        return replace(asked, **moved, verify=lambda decoded_BL: asked.verify(decoded_BL[:, back_L]))

    def fingerprint(self) -> str:
        return self._hash(self.swaps, self.order)

"""Any world seen through noise: each token replaced with probability q by a symbol drawn uniformly (never MASK).

    corpus = synthetic_data.noisy(synthetic_data.make("trace"), q=0.05)

    <bos>abca3|7209   is read as, say,   <bos>abca3|72b9

What is visible is soft evidence of the clean sequence, so the oracle stays exact and its entropy is the floor that no
model can pass. Nothing else is held out than in the world itself. Answers are verified against the clean truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ablate.core.corpus import Corpus, Domain, Query, Split
from ablate.core.rng import uniform
from ablate.core.validation import require
from synthetic_data.engine.oracle import ChainOracle
from synthetic_data.worlds.trace import Trace
from synthetic_data.worlds.wrapped import Wrapped

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]

LEAST = 1e-9  # less noise than this underflows where several tokens of a clique contradict it


@dataclass
class Noisy(Wrapped):
    """A world seen through noise: each token replaced with probability q.

    domain, split: where given, are put into `corpus`. Raises ValueError for q outside 0..1, and for noise on
    noise.
    """

    name: ClassVar[str] = "noisy"
    corpus: Any = field(default_factory=Trace)  # a world: a protocol cannot be a configuration's type
    q: float = 0.05
    domain: Domain | None = None
    split: Split | None = None

    def __post_init__(self) -> None:
        wanted = f"0, or a probability from {LEAST:g} to 1"
        require("corpus.q", self.q, self.q == 0 or LEAST <= self.q <= 1, wanted, 0.05)
        if isinstance(self.corpus, Noisy):  # its oracle would know of the outer noise alone
            raise ValueError("noisy: wanted a clean world, got noisy; try corpus.q=p+q-pq for noise p and then q")
        self._settle()

    @cached_property
    def oracle(self) -> ChainOracle:
        return self.corpus.oracle.noisy(self.q)

    def batch(self, indices: Sequence[int] | Array, seed: int) -> Tensor:
        return self._replaced(self.corpus.batch(indices, seed), indices, seed, "train")

    def queries(self, n: int, seed: int) -> Query:
        """Questions as they are read, noise and all; what is decoded is held against the clean answers."""
        clean = self.corpus.queries(n, seed)
        return Query(self._replaced(clean.tokens_BL, range(n), seed, "queries"), clean.answer_BL, clean.verify)

    def fingerprint(self) -> str:
        return self._hash(self.q)

    def _replaced(self, tokens_BL: Tensor, indices: Sequence[int] | Array, seed: int, stream: str) -> Tensor:
        u_BL2 = uniform(seed, f"noisy/{stream}/{self.domain}/{self.split}", indices, (self.length, 2))
        stray_BL = (u_BL2[..., 1] * (len(self.vocabulary) - 1)).long()
        stray_BL += stray_BL >= self.vocabulary.mask_id  # every symbol but MASK
        return tokens_BL.where(u_BL2[..., 0] >= self.q, stray_BL)


def noisy(corpus: Corpus, q: float) -> Noisy:
    """`corpus` with each token replaced with probability q.

    Raises ValueError for q outside 0..1 and for real text, which has no oracle.
    """
    if not (corpus is None or isinstance(corpus, str)) and corpus.oracle is None:
        raise ValueError(f"noisy: wanted a world with an oracle, got {corpus.name}; try synthetic_data.make('trace')")
    return Noisy(corpus, q)

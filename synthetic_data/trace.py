"""Execution traces: `BOS op_1 .. op_n s | v_1 .. v_n` with v_i = table[op_i][v_{i-1}] and v_0 = s.

Example with four steps: the program `abca` started at 3, its running value written out after the bar:

    <bos>abca3|7209

Each operator is a random permutation of the values, fixed by `world` (apart from a run's seed). The general domain
uses the first operators, the new domain others, whose tables the base model has never seen. The test split holds the
programs whose operator numbers sum to 0 modulo `checksum`, the split `longer` programs of `longer` operations, more
than training ever shows. Questions show the program; the trace is the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ablate.corpus import Domain, Query, Split, Vocabulary, choice_of, split_of
from ablate.seeds import generator, uniform
from synthetic_data.checksum import accepted, draw_sequences
from synthetic_data.engine import ChainOracle, Clique
from synthetic_data.world import WORLD, fingerprint, require_range

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"


@dataclass
class Trace:
    """Execution traces of random programs over random permutations.

    values, general_operators, new_operators: numbers of symbols. operations: n, the length of a program; longer: the
    same in the split `longer`.
    Raises ValueError for sizes out of range.
    """

    name: ClassVar[str] = "trace"
    splits: ClassVar[tuple[Split, ...]] = (Split.train, Split.test, Split.longer, Split.whole)
    values: int = 10
    general_operators: int = 4
    new_operators: int = 16
    operations: int = 8
    longer: int = 16
    checksum: int = 5
    world: int = 0
    domain: Domain = Domain.new
    split: Split = Split.train

    def __post_init__(self) -> None:
        self.domain, self.split = choice_of(Domain, "domain", self.domain), split_of(self, self.split, self.splits)
        require_range(self, values=(2, len(DIGITS)), general_operators=(1, 500), new_operators=(1, 500),
                      operations=(1, 64), longer=(self.operations + 1, 128), checksum=(2, 64), world=WORLD)  # fmt: skip
        fewest = min(self.general_operators, self.new_operators)
        if fewest < 2:
            raise ValueError(f"corpus.general_operators and corpus.new_operators: wanted at least 2, got {fewest}")

    @property
    def length(self) -> int:
        return 2 * self._steps + 3

    @property
    def _steps(self) -> int:
        return self.longer if self.split is Split.longer else self.operations

    @cached_property
    def vocabulary(self) -> Vocabulary:
        operators = [f"g{i} " for i in range(self.general_operators)] + [f"n{i} " for i in range(self.new_operators)]
        symbols = ("<bos>", "|", *DIGITS[: self.values], *operators, "<mask>")
        return Vocabulary(symbols, mask_id=len(symbols) - 1)

    @cached_property
    def oracle(self) -> ChainOracle:
        bos, bar = self.vocabulary.ids(["<bos>", "|"])
        constants = Clique((0, self._steps + 2), np.array([[bos, bar]]))
        return ChainOracle([[constants], self._machine()], self.length, self.vocabulary)

    @property
    def empirical(self) -> None:
        return None

    def batch(self, indices: Sequence[int] | Array, seed: int) -> Tensor:
        return self._draw(indices, seed, "train")

    def queries(self, n: int, seed: int) -> Query:
        import torch

        tokens_BL = self._draw(range(n), seed, "queries")
        answer_BL = torch.zeros_like(tokens_BL, dtype=torch.bool)
        answer_BL[:, self._steps + 3 :] = True

        def verify(decoded_BL: Tensor) -> Tensor:
            return (decoded_BL == tokens_BL)[:, self._steps + 3 :].double().mean(1)

        return Query(tokens_BL, answer_BL, verify)

    def stale(self, n: int, seed: int) -> None:
        return None

    def fingerprint(self) -> str:
        return fingerprint(self)

    @property
    def _operators(self) -> int:
        return self.general_operators if self.domain is Domain.general else self.new_operators

    @cached_property
    def _tables(self) -> Array:
        """(operators, values): the value that follows each value."""
        first = 0 if self.domain is Domain.general else self.general_operators
        return np.stack(
            [generator(self.world, "trace/table", first + i).permutation(self.values) for i in range(self._operators)]
        )

    @property
    def _first_ids(self) -> tuple[int, int]:
        """Ids of value 0 and of this domain's first operator."""
        operator = 2 + self.values + (0 if self.domain is Domain.general else self.general_operators)
        return 2, operator

    def _draw(self, indices: Sequence[int] | Array, seed: int, stream: str) -> Tensor:
        import torch

        stream = f"trace/{stream}/{self.domain}/{self.split}"
        u = uniform(seed, stream, np.asarray(indices), (self._steps + 1,)).numpy()
        programs = draw_sequences(u[:, 1:], self._operators, self.checksum, self.split)
        value = np.floor(u[:, 0] * self.values).astype(np.int64)
        first_value, first_operator = self._first_ids
        tokens = np.empty((len(u), self.length), dtype=np.int64)
        tokens[:, 0], tokens[:, self._steps + 2] = 0, 1
        tokens[:, 1 : self._steps + 1] = first_operator + programs
        tokens[:, self._steps + 1] = first_value + value
        for i in range(self._steps):
            value = self._tables[programs[:, i], value]
            tokens[:, self._steps + 3 + i] = first_value + value
        return torch.from_numpy(tokens)

    def _machine(self) -> list[Clique]:
        """The running value and the checksum's residue as one state."""
        first_value, first_operator = self._first_ids
        values = np.arange(self.values)
        start = Clique((self._steps + 1,), (first_value + values)[:, None], target_R=values)
        residue, operator, value = (
            x.ravel() for x in np.meshgrid(range(self.checksum), range(self._operators), values, indexing="ij")
        )
        after = self._tables[operator, value]
        residue_after = (residue + operator) % self.checksum
        tokens_RK = np.stack((first_operator + operator, first_value + after), axis=1)
        source_R, target_R = residue * self.values + value, residue_after * self.values + after
        cliques = [start]
        for i in range(self._steps):
            keep = np.ones(len(source_R), dtype=bool)
            if i == 0:
                keep &= residue == 0
            if i == self._steps - 1:
                keep &= accepted(residue_after, self.split)
            positions = (1 + i, self._steps + 3 + i)
            cliques.append(Clique(positions, tokens_RK[keep], source_R[keep], target_R[keep]))
        return cliques

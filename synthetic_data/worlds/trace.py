"""Execution traces: `BOS op_1 .. op_n s | v_1 .. v_n` with v_i = table[op_i][v_{i-1}] and v_0 = s.

Example with four steps: the program `abca` started at 3, its running value written out after the bar:

    <bos>abca3|7209

Each operator is a random permutation of the values, fixed by `world` (apart from a run's seed). The general domain
uses the first operators, the new domain others, whose tables the base model has never seen. The test split holds the
programs whose operator numbers sum to 0 modulo `checksum`, the split `longer` programs of `longer` operations, more
than training ever shows. Questions show the program; the trace is the answer.

With `dialect=N` the new domain has N further operators, and a share `dialect_share` of its sequences is written in
these alone; within each kind programs are as likely as one another. The test split and `longer` are of the dialect
alone, so that what is measured there says what was learned of the rare kind.

Shapes: B sequences, K kinds of programs (of tokens_RK: positions of a clique), O operators of all kinds, R clique rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ablate.core.corpus import Domain, Query, Split, Vocabulary, choice_of, split_of
from ablate.core.rng import generator, uniform
from ablate.core.validation import require
from synthetic_data.engine.oracle import ChainOracle, Clique
from synthetic_data.worlds.held_out import accepted, draw_sequences
from synthetic_data.worlds.world import WORLD, fingerprint, require_fields

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"


@dataclass(frozen=True)
class Kind:
    """Programs over one set of operators, numbered on from `first` among all. share: of the split's sequences."""

    first: int
    operators: int
    share: float = 1.0


@dataclass
class Trace:
    """Execution traces of random programs over random permutations.

    values, general_operators, new_operators: numbers of symbols. operations: n, the length of a program; longer: the
    same in the split `longer`. dialect: number of the rare operators, 0 for none; dialect_share: of the new domain's
    sequences. Raises ValueError for sizes out of range.
    """

    name: ClassVar[str] = "trace"
    splits: ClassVar[tuple[Split, ...]] = (Split.train, Split.test, Split.longer, Split.whole)
    values: int = 10
    general_operators: int = 4
    new_operators: int = 16
    operations: int = 8
    longer: int = 16
    checksum: int = 5
    dialect: int = 0
    dialect_share: float = 0.02
    world: int = 0
    domain: Domain = Domain.new
    split: Split = Split.train

    def __post_init__(self) -> None:
        self.domain, self.split = choice_of(Domain, "domain", self.domain), split_of(self.name, self.split, self.splits)
        require_fields(
            self,
            values=(2, len(DIGITS)),
            general_operators=(1, 500),
            new_operators=(1, 500),
            operations=(1, 64),
            longer=(self.operations + 1, 128),
            checksum=(2, 64),
            dialect=(0, 500),
            world=WORLD,
        )
        fewest = min(self.general_operators, self.new_operators)
        if fewest < 2:
            raise ValueError(f"corpus.general_operators and corpus.new_operators: wanted at least 2, got {fewest}")
        require(
            "corpus.dialect", self.dialect, self.dialect != 1, "0 or 2..500 for trace", 2
        )  # a dialect's one program of n operations would be held out
        share = 0 < self.dialect_share < 1
        require("corpus.dialect_share", self.dialect_share, share, "a share above 0 and below 1 for trace", 0.02)

    @property
    def length(self) -> int:
        return 2 * self._steps + 3

    @property
    def _steps(self) -> int:
        return self.longer if self.split is Split.longer else self.operations

    @cached_property
    def vocabulary(self) -> Vocabulary:
        sets = {"g": self.general_operators, "n": self.new_operators, "d": self.dialect}
        operators = [f"{letter}{i} " for letter, count in sets.items() for i in range(count)]
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
    def _kinds(self) -> list[Kind]:
        """What the split mixes."""
        if self.domain is Domain.general:
            return [Kind(0, self.general_operators)]
        common, dialect = self.general_operators, self.general_operators + self.new_operators
        if not self.dialect:
            return [Kind(common, self.new_operators)]
        if self.split in (Split.test, Split.longer):
            return [Kind(dialect, self.dialect)]
        return [
            Kind(common, self.new_operators, 1 - self.dialect_share),
            Kind(dialect, self.dialect, self.dialect_share),
        ]

    @cached_property
    def _tables(self) -> Array:
        """(operators of all kinds, values): the value that follows each value."""
        count = self.general_operators + self.new_operators + self.dialect
        return np.stack([generator(self.world, "trace/table", i).permutation(self.values) for i in range(count)])

    @property
    def _first_ids(self) -> tuple[int, int]:
        """Ids of value 0 and of the first of all operators."""
        return 2, 2 + self.values

    def _draw(self, indices: Sequence[int] | Array, seed: int, stream: str) -> Tensor:
        import torch

        stream = f"trace/{stream}/{self.domain}/{self.split}"
        u = uniform(seed, stream, np.asarray(indices), (self._steps + 2,)).numpy()
        below = np.cumsum([kind.share for kind in self._kinds])[:-1]
        kind_B = np.searchsorted(below, u[:, -1], side="right")
        programs = np.empty((len(u), self._steps), dtype=np.int64)
        for k, kind in enumerate(self._kinds):
            drawn = draw_sequences(u[kind_B == k, 1:-1], kind.operators, self.checksum, self.split)
            programs[kind_B == k] = kind.first + drawn
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
        """The kind of program, the checksum's residue and the running value as one state.

        A step of one of m operators weighs 1 / m, as in a draw without hold-out, up to a constant.
        """
        first_value, first_operator = self._first_ids
        sizes, values = np.array([kind.operators for kind in self._kinds]), np.arange(self.values)
        kind_O = np.repeat(np.arange(len(sizes)), sizes)
        number_O = np.concatenate([np.arange(size) for size in sizes])
        operator_O = np.array([kind.first for kind in self._kinds])[kind_O] + number_O
        residue, o, value = (
            x.ravel() for x in np.meshgrid(range(self.checksum), range(len(kind_O)), values, indexing="ij")
        )
        after = self._tables[operator_O[o], value]
        residue_after = (residue + number_O[o]) % self.checksum
        tokens_RK = np.stack((first_operator + operator_O[o], first_value + after), axis=1)
        source_R = (kind_O[o] * self.checksum + residue) * self.values + value
        target_R = (kind_O[o] * self.checksum + residue_after) * self.values + after
        weight_R = (sizes[0] / sizes)[kind_O[o]]
        cliques = [self._start()]
        for i in range(self._steps):
            keep = np.ones(len(source_R), dtype=bool)
            if i == 0:
                keep &= residue == 0
            if i == self._steps - 1:
                keep &= accepted(residue_after, self.split)
            positions = (1 + i, self._steps + 3 + i)
            cliques.append(Clique(positions, tokens_RK[keep], source_R[keep], target_R[keep], weight_R[keep]))
        return cliques

    def _start(self) -> Clique:
        """The start value, of each kind with the weight that leaves the kind its share once the hold-out is made."""
        weight_K = np.array([kind.share / self._kept(kind.operators) for kind in self._kinds])
        kind, value = (x.ravel() for x in np.indices((len(weight_K), self.values)))
        tokens_RK = (self._first_ids[0] + value)[:, None]
        state = kind * self.checksum * self.values + value
        return Clique((self._steps + 1,), tokens_RK, target_R=state, weight_R=(weight_K / weight_K.max())[kind])

    def _kept(self, operators: int) -> float:
        """Share of all programs over so many operators that the split accepts."""
        residues = np.arange(self.checksum)
        step = np.zeros((self.checksum, self.checksum))
        np.add.at(step, (residues[:, None], (residues[:, None] + np.arange(operators)) % self.checksum), 1 / operators)
        return float(np.linalg.matrix_power(step, self._steps)[0, accepted(residues, self.split)].sum())

"""Arithmetic records: `a=1,b=2,a+b=3;a=3,b=4,a+b=7;`.

Each record binds two different random names to random numbers and applies an operator to them; numbers are zero-padded
and results are cut to the operands' length, or carry one more digit with `wrap=false`. With three digits:

    c=047,a=960,c+a=007;        layout=reversed: c+a=007,c=047,a=960;        layout=bare: 047960007

The general domain knows `+`; the new domain's operators have rules that the base model has never seen, fixed by
`world`. Up to two digits they are affine maps p x + q y + r modulo 10^digits, with p and q prime to 10, and random
tables; beyond that, small affine maps and random transducers with at most four carries.

The test split holds the operand pairs whose squared digits sum to 0 modulo `checksum`: an affine rule can be carried
over to them, a random table cannot, so rule and memory can be told apart. (The sum of the plain digits modulo 5 would
not do: it fixes the result of `+` modulo 5, so training would never show a result of 0 or 5.) The split `longer` holds
the pairs that hand on the largest carry over `chain` digits in a row, or more, which training never shows; with fewer
digits than that it does not exist. Questions show every binding; the results are the answer.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ablate.core.corpus import Domain, Query, Split, Stale, Vocabulary, choice_of, split_of
from synthetic_data.engine.oracle import ChainOracle, Clique
from synthetic_data.worlds.operators import (
    CARRIES,
    HeldOut,
    Machine,
    Table,
    Transducer,
    affine,
    new_tables,
    new_transducers,
    serial_cliques,
    share_held_out,
    table_cliques,
)
from synthetic_data.worlds.world import WORLD, draw, fingerprint, require_fields, require_rows

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]
MOST_ROWS = 1_000_000
NEW_SYMBOLS = "*-/%^&#@!?$~<>:_"


class Layout(StrEnum):
    """What stands where in a record: bindings first, the equation first, or the three numbers alone."""

    record = "record"
    reversed = "reversed"
    bare = "bare"


PARTS = {Layout.record: "n=X,m=Y,nom=Z;", Layout.reversed: "nom=Z,n=X,m=Y;", Layout.bare: "XYZ"}


class DigitOrder(StrEnum):
    """Which end of a number is written first."""

    big = "big"
    little = "little"


@dataclass
class Arithmetic:
    """Records that bind two names and apply an operator to them.

    records: in a sequence. digits: of every operand. names: to choose from. affine, tables: numbers of new operators
    (beyond two digits `tables` are random transducers). wrap: cut results to `digits`. chain: largest carries in a row
    that only the split `longer` has. Raises ValueError for sizes out of range and combinations that have no meaning.
    """

    name: ClassVar[str] = "arithmetic"
    splits: ClassVar[tuple[Split, ...]] = (Split.train, Split.test, Split.longer, Split.whole)
    records: int = 4
    digits: int = 1
    names: int = 6
    affine: int = 2
    tables: int = 2
    layout: Layout = Layout.record
    order: DigitOrder = DigitOrder.big
    wrap: bool = True
    checksum: int = 13
    chain: int = 4
    world: int = 0
    domain: Domain = Domain.new
    split: Split = Split.train

    def __post_init__(self) -> None:
        self.domain, self.split = choice_of(Domain, "domain", self.domain), split_of(self.name, self.split, self.splits)
        self.layout, self.order = choice_of(Layout, "layout", self.layout), choice_of(DigitOrder, "order", self.order)
        require_fields(self, records=(1, 64), digits=(1, 8), names=(2, 26), affine=(0, 8), tables=(0, 8))
        require_fields(self, checksum=(2, 31), chain=(1, 8), wrap=(False, True), world=WORLD)
        if self.affine + self.tables == 0:
            raise ValueError(
                "corpus.affine and corpus.tables: wanted at least one new operator, got none; try corpus.affine=1"
            )
        self._require_meaning()

    def _require_meaning(self) -> None:
        if self.layout is Layout.bare and len(self._operators) > 1:
            raise ValueError(
                f"corpus.layout=bare shows no operator, so it wants a domain that has one; {self.domain} has "
                f"{len(self._operators)}; try corpus.affine=1 corpus.tables=0"
            )
        if self.split is Split.longer and not self._counts_chains:
            raise ValueError(
                f"corpus.split=longer: wanted operators with carries and corpus.digits at least "
                f"corpus.chain={self.chain}, got digits={self.digits}; try corpus.digits=8"
            )
        if self._tabular and not self.wrap:
            raise ValueError("corpus.wrap=false: operators given by tables have no carry; try corpus.digits=3")
        rows = self._most_rows
        require_rows(self, rows, MOST_ROWS, "corpus.tables=2 corpus.records=1", rows * self.digits * self.records)
        held_out = share_held_out(self.digits, self.checksum)
        if not 0.05 <= held_out <= 0.5:
            raise ValueError(
                f"corpus.checksum={self.checksum}: wanted 5 to 50 % of the operand pairs held out, got "
                f"{held_out:.0%} with digits={self.digits}; try corpus.checksum=13"
            )

    @property
    def length(self) -> int:
        return self.records * self._record

    @cached_property
    def vocabulary(self) -> Vocabulary:
        symbols = (*string.digits, *"=,;+", *NEW_SYMBOLS[: self.affine + self.tables])
        names = tuple(range(len(symbols), len(symbols) + self.names))
        symbols = (*symbols, *string.ascii_lowercase[: self.names], "<mask>")
        return Vocabulary(symbols, mask_id=len(symbols) - 1, names=names)

    @cached_property
    def oracle(self) -> ChainOracle:
        one = self._chains()
        shifts = [record * self._record for record in range(self.records)]
        chains = [[c.at([p + shift for p in c.positions]) for c in chain] for shift in shifts for chain in one]
        return ChainOracle(chains, self.length, self.vocabulary)

    @property
    def empirical(self) -> None:
        return None

    def batch(self, indices: Sequence[int] | Array, seed: int) -> Tensor:
        return draw(self, indices, seed, "train")

    def queries(self, n: int, seed: int) -> Query:
        import torch

        tokens_BL = draw(self, range(n), seed, "queries")
        places_RD = np.arange(self.records)[:, None] * self._record + self._at["Z"]
        answer_BL = torch.zeros_like(tokens_BL, dtype=torch.bool)
        answer_BL[:, places_RD.ravel()] = True

        def verify(decoded_BL: Tensor) -> Tensor:
            return (decoded_BL == tokens_BL)[:, places_RD].all(-1).double().mean(1)

        return Query(tokens_BL, answer_BL, verify)

    def stale(self, n: int, seed: int) -> Stale | None:
        """`a=1,b=2,` hidden `a+b=` hidden: what is hidden binds both names again, so the visible bindings are stale."""
        import torch

        if self.records < 2 or self.layout is not Layout.record:
            return None
        tokens_BL = draw(self, range(n), seed, "stale")
        first, second = ({part: start + at for part, at in self._at.items()} for start in (0, self._record))
        for part in "nom":  # the second equation speaks of the first one's names and operator
            tokens_BL[:, second[part][-1]] = tokens_BL[:, first[part][-1]]
        stale_BL, asked_BL = tokens_BL.clone(), torch.zeros_like(tokens_BL, dtype=torch.bool)
        stale_BL[:, second["Z"]] = tokens_BL[:, first["Z"]]
        asked_BL[:, second["Z"]] = True
        hidden_BL = asked_BL.clone()
        hidden_BL[:, first[","][1] + 1 : second["n"][1]] = True
        return Stale(tokens_BL.masked_fill(hidden_BL, self.vocabulary.mask_id), asked_BL, stale_BL)

    def fingerprint(self) -> str:
        return fingerprint(self)

    @property
    def _widths(self) -> dict[str, int]:
        return {"X": self.digits, "Y": self.digits, "Z": self.digits + (not self.wrap)}

    @property
    def _record(self) -> int:
        return sum(self._widths.get(part, 1) for part in PARTS[self.layout])

    @cached_property
    def _at(self) -> dict[str, Array]:
        """Places of a record's parts in it; those of a number X, Y or Z with the most significant digit first."""
        layout = [part for part in PARTS[self.layout] for _ in range(self._widths.get(part, 1))]
        places = {part: np.flatnonzero([p == part for p in layout]) for part in "nmo=,;XYZ"}
        for part in "XYZ" if self.order is DigitOrder.little else "":
            places[part] = places[part][::-1]
        return places

    @property
    def _tabular(self) -> bool:
        return self.domain is Domain.new and self.digits <= 2

    @property
    def _most_rows(self) -> int:
        """Upper bound of a digit's rows over domains and splits, so that base and arms are refused alike."""
        if self.digits <= 2:
            return (self.affine + self.tables) * 100**self.digits
        states = self.checksum * CARRIES * (self.chain + 1)
        return (self.affine + self.tables) * states * 100

    @property
    def _counts_chains(self) -> bool:
        return self.digits >= self.chain and not self._tabular

    @cached_property
    def _operators(self) -> list[Transducer] | list[Table]:
        if self.domain is Domain.general:
            return [affine("+", 1, 1, 0)]
        symbols = NEW_SYMBOLS[: self.affine + self.tables]
        build = new_tables if self._tabular else new_transducers
        return build(symbols[: self.affine], symbols[self.affine :], self.digits, self.world)

    def _chains(self) -> list[list[Clique]]:
        """A record's independent parts: punctuation, names, and numbers with their operator."""
        signs = {s: Clique((0,), np.array([self.vocabulary.ids(s)])) for s in "=,;"}
        chains = [[clique.at(p)] for s, clique in signs.items() for p in self._at[s][:, None]]
        if len(self._at["n"]):
            chains.append([Clique((*self._at["n"], *self._at["m"]), self._names[:, [0, 0, 1, 1]])])
        return [*chains, self._numbers()]

    @property
    def _names(self) -> Array:
        """(names * (names - 1), 2) token ids of the ordered pairs of different names."""
        first = self.vocabulary.names[0]
        i, j = np.divmod(np.arange(self.names * self.names), self.names)
        return first + np.stack((i, j), axis=1)[i != j]

    def _numbers(self) -> list[Clique]:
        at, whole = self._at, self.split is Split.whole
        tokens = self.vocabulary.ids([op.symbol for op in self._operators])
        if self._tabular:
            tables = [op for op in self._operators if isinstance(op, Table)]
            return table_cliques(tables, tokens, self.split, self.checksum, at)
        counted = self._counts_chains and not whole
        modulus = 1 if whole or self.split is Split.longer else self.checksum
        transducers = [op for op in self._operators if isinstance(op, Transducer)]
        machine = Machine(transducers, HeldOut(self.split, modulus, self.chain if counted else 0))
        places_DK = np.stack([at[part][::-1][: self.digits] for part in "XYZ"], axis=1)
        written = (at["o"][0], tokens) if len(at["o"]) else None
        return serial_cliques(machine, places_DK, written, None if self.wrap else at["Z"][0])

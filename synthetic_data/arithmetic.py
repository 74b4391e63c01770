"""Arithmetic records: `a=1,b=2,a+b=3;a=3,b=4,a+b=7;`.

Each record binds two different random names to random numbers and applies an operator to them, modulo 10^digits,
all numbers zero-padded. The general domain knows `+`; the new domain's operators have rules that the base model has
never seen: affine maps p x + q y + r with p and q prime to 10, and random tables, all fixed by `world`. The test split
holds the operand pairs whose squared digits sum to 0 modulo `checksum`: an affine rule can be carried over to them, a
table cannot, so rule and memory can be told apart. (The sum of the plain digits modulo 5 would not do: it fixes the
result of `+` modulo 5, so training would never show a result of 0 or 5.) Questions show every binding; the results are
the answer.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ablate.corpus import Domain, Query, Split, Vocabulary, split_of
from ablate.seeds import generator, uniform
from synthetic_data.checksum import accepted
from synthetic_data.engine import ChainOracle, Clique
from synthetic_data.world import fingerprint, require_range

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]
NEW_SYMBOLS = "*-/%^&#@!?$~<>:_"


@dataclass
class Arithmetic:
    """Records that bind two names and apply an operator to them.

    records: in a sequence. digits: of every number. names: to choose from. affine, tables: numbers of new operators.
    Raises ValueError for sizes out of range.
    """

    name: ClassVar[str] = "arithmetic"
    splits: ClassVar[tuple[Split, ...]] = (Split.train, Split.test, Split.whole)
    records: int = 4
    digits: int = 1
    names: int = 6
    affine: int = 2
    tables: int = 2
    checksum: int = 13
    world: int = 0
    domain: Domain = Domain.new
    split: Split = Split.train

    def __post_init__(self) -> None:
        self.domain, self.split = Domain(self.domain), split_of(self, self.split, self.splits)
        require_range(
            self, records=(1, 64), digits=(1, 2), names=(2, 26), affine=(0, 8), tables=(0, 8), checksum=(2, 31)
        )
        if self.affine + self.tables == 0:
            raise ValueError(
                "corpus.affine and corpus.tables: wanted at least one new operator, got none; try corpus.affine=1"
            )
        held_out = int(self._accepted(Split.test).sum()) / 100**self.digits
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
        symbols = (*symbols, *string.ascii_lowercase[: self.names], "<mask>")
        return Vocabulary(symbols, mask_id=len(symbols) - 1)

    @cached_property
    def oracle(self) -> ChainOracle:
        chains = [[clique] for record in range(self.records) for clique in self._cliques(record * self._record)]
        return ChainOracle(chains, self.length, self.vocabulary)

    def batch(self, indices: Sequence[int] | Array, seed: int) -> Tensor:
        return self._draw(indices, seed, "train")

    def queries(self, n: int, seed: int) -> Query:
        import torch

        tokens_BL = self._draw(range(n), seed, "queries")
        result = np.concatenate([self._columns(r * self._record)["z"] for r in range(self.records)])
        answer_BL = torch.zeros_like(tokens_BL, dtype=torch.bool)
        answer_BL[:, result] = True

        def verify(decoded_BL: Tensor) -> Tensor:
            right = (decoded_BL == tokens_BL)[:, result].unflatten(1, (self.records, self.digits))
            return right.all(-1).double().mean(1)

        return Query(tokens_BL, answer_BL, verify)

    def fingerprint(self) -> str:
        return fingerprint(self)

    @property
    def _record(self) -> int:
        return 11 + 3 * self.digits

    def _columns(self, start: int) -> dict[str, Array]:
        """Positions of a record's parts: names n, operand digits x and y, operator, result digits z, punctuation."""
        layout = ["n", "=", *"x" * self.digits, ",", "m", "=", *"y" * self.digits, ",", "n", "o", "m", "=",
                  *"z" * self.digits, ";"]  # fmt: skip
        return {part: start + np.flatnonzero([p == part for p in layout]) for part in set(layout)}

    @cached_property
    def _rules(self) -> tuple[list[int], Array]:
        """Token ids of this domain's operators; (operators, pairs) results, pair = x * 10^digits + y."""
        size = 10**self.digits
        x, y = np.divmod(np.arange(size * size), size)
        if self.domain is Domain.general:
            return self.vocabulary.ids("+"), ((x + y) % size)[None]
        rules = []
        for i in range(self.affine):
            rng = generator(self.world, "arithmetic/affine", i)
            p, q = rng.choice(np.flatnonzero(np.gcd(np.arange(size), 10) == 1)[1:], 2)  # without 1: not `+` again
            rules.append((p * x + q * y + rng.integers(size)) % size)
        for i in range(self.tables):
            rules.append(generator(self.world, "arithmetic/table", i).integers(size, size=size * size))
        return self.vocabulary.ids(NEW_SYMBOLS[: len(rules)]), np.stack(rules)

    def _accepted(self, split: Split) -> Array:
        """bool, (pairs,): does a pair belong to the split? The squares of all its digits decide, in whatever order."""
        pairs = np.arange(100**self.digits)
        squares = sum((pairs // 10**k % 10) ** 2 for k in range(2 * self.digits))
        return accepted(squares % self.checksum, split)

    @cached_property
    def _pairs(self) -> Array:
        """Operand pairs of this split, as x * 10^digits + y."""
        return np.flatnonzero(self._accepted(self.split))

    @cached_property
    def _names(self) -> Array:
        """(names * (names - 1), 2) token ids of the ordered pairs of different names."""
        first = len(self.vocabulary) - 1 - self.names
        i, j = np.divmod(np.arange(self.names * self.names), self.names)
        return first + np.stack((i, j), axis=1)[i != j]

    def _digit_ids(self, numbers: Array) -> Array:
        """(..., digits) token ids of zero-padded numbers; the ids of the digits are 0..9."""
        return numbers[..., None] // 10 ** np.arange(self.digits)[::-1] % 10

    def _draw(self, indices: Sequence[int] | Array, seed: int, stream: str) -> Tensor:
        import torch

        stream = f"arithmetic/{stream}/{self.domain}/{self.split}"
        u_BR3 = uniform(seed, stream, np.asarray(indices), (self.records, 3)).numpy()
        symbols, results = self._rules
        names, pairs, operators = (
            np.floor(u_BR3[..., k] * n).astype(np.int64)
            for k, n in enumerate((len(self._names), len(self._pairs), len(symbols)))
        )
        names, pairs = self._names[names], self._pairs[pairs]
        x, y = np.divmod(pairs, 10**self.digits)
        tokens_BL = np.empty((len(u_BR3), self.length), dtype=np.int64)
        tokens_BRT = tokens_BL.reshape(len(u_BR3), self.records, self._record)
        at = self._columns(0)
        for symbol in "=,;":
            tokens_BRT[..., at[symbol]] = self.vocabulary.ids(symbol)[0]
        tokens_BRT[..., at["n"]], tokens_BRT[..., at["m"]] = names[..., :1], names[..., 1:]
        tokens_BRT[..., at["o"]] = np.asarray(symbols)[operators][..., None]
        for part, numbers in (("x", x), ("y", y), ("z", results[operators, pairs])):
            tokens_BRT[..., at[part]] = self._digit_ids(numbers)
        return torch.from_numpy(tokens_BL)

    def _cliques(self, start: int) -> list[Clique]:
        """A record's three independent parts: punctuation, names, and operands with operator and result."""
        at = self._columns(start)
        punctuation = [(p, self.vocabulary.ids(s)[0]) for s in "=,;" for p in at[s]]
        constants = Clique(tuple(p for p, _ in punctuation), np.array([[i for _, i in punctuation]]))
        names = Clique((*at["n"], *at["m"]), self._names[:, [0, 0, 1, 1]])
        symbols, results = self._rules
        operator, pair = (x.ravel() for x in np.meshgrid(range(len(symbols)), self._pairs, indexing="ij"))
        x, y = np.divmod(pair, 10**self.digits)
        numbers = [self._digit_ids(v) for v in (x, y, results[operator, pair])]
        tokens_RK = np.concatenate((np.asarray(symbols)[operator][:, None], *numbers), axis=1)
        return [constants, names, Clique((*at["o"], *at["x"], *at["y"], *at["z"]), tokens_RK)]

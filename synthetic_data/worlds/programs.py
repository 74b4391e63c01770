"""Programs: assignments that build on one another, and a question about one of the values.

Example with three variables modulo 5:

    <bos>x=3;y=x+1;z=y*x;z?2

The first variable gets a constant. Every later one gets `A o B`, where A and B are constants or variables assigned
before, at least one of them a variable. The question asks for a variable that was assigned by an expression. The split
is uniform over all such programs and questions. The general domain knows + - and *; the new domain's operators are
random tables fixed by `world`, which the base model has never seen.

The test split holds the programs with at least one held-out combination of an expression's shape and its depth; see
`synthetic_data.worlds.expressions.held_out`. All three shapes remain in training, except with two variables, where
depth 1 is the only one and `x o x` is held out. Every operator is shown with every pair of values, so that the test
asks for new compositions and not for unseen entries of a table. The answer is the value asked for.

Exact state: the values of the variables assigned so far, and their depths as long as the split is undecided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ablate.core.corpus import Domain, Query, Split, Vocabulary, choice_of, split_of
from ablate.core.rng import generator
from synthetic_data.engine.oracle import ChainOracle, Clique
from synthetic_data.worlds.expressions import Environments, expressions
from synthetic_data.worlds.world import WORLD, draw, fingerprint, require_fields, require_rows

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]
VARIABLES = "xyzw"
GENERAL_SYMBOLS = "+-*"
NEW_SYMBOLS = "&|^@#!$%"
MOST_ROWS = 250_000  # they share no states, so that each is swept for every sequence: some 10 ms


@dataclass
class Programs:
    """Assignments of arithmetic expressions and a question.

    variables: assigned in a program. modulus: p, the number of values. new_operators: random tables of the new domain,
    fixed by `world`. Raises ValueError for sizes out of range, and for those whose exact oracle would be too large.
    """

    name: ClassVar[str] = "programs"
    splits: ClassVar[tuple[Split, ...]] = (Split.train, Split.test, Split.whole)
    variables: int = 3
    modulus: int = 5
    new_operators: int = 3
    world: int = 0
    domain: Domain = Domain.new
    split: Split = Split.train

    def __post_init__(self) -> None:
        self.domain, self.split = choice_of(Domain, "domain", self.domain), split_of(self.name, self.split, self.splits)
        require_fields(
            self, variables=(2, len(VARIABLES)), modulus=(2, 7), new_operators=(1, len(NEW_SYMBOLS)), world=WORLD
        )
        require_rows(self, self._most_rows, MOST_ROWS, "corpus.modulus=5")

    @property
    def length(self) -> int:
        return self._question + 3

    @cached_property
    def vocabulary(self) -> Vocabulary:
        digits = [str(value) for value in range(self.modulus)]
        symbols = ("<bos>", *digits, *VARIABLES[: self.variables], *"=;?", *GENERAL_SYMBOLS)
        symbols = (*symbols, *NEW_SYMBOLS[: self.new_operators], "<mask>")
        return Vocabulary(symbols, mask_id=len(symbols) - 1)

    @cached_property
    def oracle(self) -> ChainOracle:
        return ChainOracle([[self._constants()], self._machine()], self.length, self.vocabulary)

    @property
    def empirical(self) -> None:
        return None

    def batch(self, indices: Sequence[int] | Array, seed: int) -> Tensor:
        return draw(self, indices, seed, "train")

    def queries(self, n: int, seed: int) -> Query:
        import torch

        tokens_BL = draw(self, range(n), seed, "queries")
        answer_BL = torch.zeros_like(tokens_BL, dtype=torch.bool)
        answer_BL[:, -1] = True

        def verify(decoded_BL: Tensor) -> Tensor:
            return (decoded_BL == tokens_BL)[:, -1].double()

        return Query(tokens_BL, answer_BL, verify)

    def stale(self, n: int, seed: int) -> None:
        return None

    def fingerprint(self) -> str:
        return fingerprint(self)

    @property
    def _most_rows(self) -> int:
        """Upper bound of the largest oracle's rows over domains and splits, so that base and arms are refused alike."""
        operators, rows = max(len(GENERAL_SYMBOLS), self.new_operators), 0
        for k in range(1, self.variables):
            environments = self.modulus**k * (math.factorial(k - 1) + 1)  # undecided, by depths; and decided
            rows += environments * operators * (2 * self.modulus * k + k * k)
        return rows + (self.variables - 1) * self.modulus ** (self.variables - 1)

    @property
    def _question(self) -> int:
        """Position of the variable asked for."""
        return self._statement(self.variables)

    def _statement(self, k: int) -> int:
        """Position of the name that statement k assigns to, k from 0."""
        return 1 if k == 0 else 5 + 6 * (k - 1)

    @cached_property
    def _tables(self) -> Array:
        """(operators, p, p): the value of `a o b` in this domain."""
        if self.domain is Domain.new:
            draws = (generator(self.world, "programs/table", i) for i in range(self.new_operators))
            return np.stack([rng.integers(self.modulus, size=(self.modulus, self.modulus)) for rng in draws])
        a, b = np.indices((self.modulus, self.modulus))
        return np.stack((a + b, a - b, a * b)) % self.modulus

    def _constants(self) -> Clique:
        """What every program has in common: names assigned to, and punctuation."""
        fixed = {0: "<bos>", self._question + 1: "?"}
        for k, name in enumerate(VARIABLES[: self.variables]):
            at = self._statement(k)
            fixed |= {at: name, at + 1: "=", self._statement(k + 1) - 1: ";"}
        return Clique(tuple(fixed), np.array([self.vocabulary.ids(list(fixed.values()))]))

    def _machine(self) -> list[Clique]:
        """A clique for each statement, then the question. Operand tokens: constants, then variables, from id 1 on."""
        symbols = GENERAL_SYMBOLS if self.domain is Domain.general else NEW_SYMBOLS[: self.new_operators]
        operators = np.array(self.vocabulary.ids(symbols))
        now = Environments.start(self.modulus, settled=self.split is Split.whole)
        cliques = [Clique((3,), 1 + now.values_SK, target_R=np.arange(self.modulus))]
        for k in range(1, self.variables):
            table_E3 = expressions(k, self.modulus, len(operators))
            after = now.assign(table_E3, self._tables)
            last = k == self.variables - 1
            keep = self._possible(after.settled_S, last)
            source_R, row_R = np.divmod(np.flatnonzero(keep), len(table_E3))
            a, o, b = table_E3[row_R].T
            after = after.select(keep)
            now, target_R = (after.answers() if last else after).distinct()
            at = self._statement(k) + 2
            cliques.append(Clique((at, at + 1, at + 2), np.stack((1 + a, operators[o], 1 + b), 1), source_R, target_R))
        return [*cliques, self._asked(now.values_SK)]

    def _possible(self, settled: Array, last: bool) -> Array:
        """bool: whether such an environment can still lead into the split. Once it is settled it stays so."""
        if self.split is Split.train:
            return ~settled
        return settled | (not last)

    def _asked(self, values_SA: Array) -> Clique:
        """Rows (values of the variables that expressions assigned; name asked for, its value)."""
        state, asked = (x.ravel() for x in np.indices(values_SA.shape))
        tokens_RK = np.stack((2 + self.modulus + asked, 1 + values_SA[state, asked]), axis=1)
        return Clique((self._question, self._question + 2), tokens_RK, state)

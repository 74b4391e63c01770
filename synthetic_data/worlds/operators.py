"""Operators on numbers of D digits, and the cliques that carry them out.

Up to two digits an operator may be any table. Beyond that it is a transducer, which reads both operands from the least
significant digit on, writes a digit of the result and hands on a carry: addition, small affine maps p x + q y + r, and
random ones.

Shapes: C carries, X and Y digits of the operands, R rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ablate.core.corpus import Split
from ablate.core.rng import generator
from synthetic_data.engine.clique import Clique
from synthetic_data.worlds.held_out import accepted

Array = np.ndarray[Any, Any]
DIGIT = np.arange(10)
CARRIES = 4  # of a transducer, at most
# (p, q, r) whose carries are few enough, apart from addition
AFFINE = [(p, q, r) for p in (1, 2, 3) for q in (1, 2, 3) if 2 < p + q <= CARRIES for r in range(p + q)]


@dataclass(frozen=True)
class Transducer:
    """Least significant digit first: digit_CXY is written, carry_CXY handed on; `start` is the first carry."""

    symbol: str
    start: int
    digit_CXY: Array
    carry_CXY: Array


@dataclass(frozen=True)
class Table:
    """result_XY, over whole operands."""

    symbol: str
    result_XY: Array


def affine(symbol: str, p: int, q: int, r: int) -> Transducer:
    """p x + q y + r for r below p + q, which is the number of carries."""
    total_CXY = np.arange(p + q)[:, None, None] + (p * DIGIT)[:, None] + q * DIGIT
    return Transducer(symbol, r, total_CXY % 10, total_CXY // 10)


def random_transducer(symbol: str, rng: np.random.Generator) -> Transducer:
    """At least two carries; every digit and every carry drawn uniformly."""
    carries = int(rng.integers(2, CARRIES + 1))
    shape = (carries, 10, 10)
    return Transducer(
        symbol, int(rng.integers(carries)), rng.integers(10, size=shape), rng.integers(carries, size=shape)
    )


@dataclass(frozen=True)
class HeldOut:
    """The rule that parts the operand pairs, as a machine that reads a pair's digits together with the carries.

    modulus: of the sum of squared digits; residue 0 is the test split. chain: so many carries in a row, each the
    largest there is, make the split `longer`; 0 means that none are counted. A state is (residue, run so far); a run
    that has reached `chain` stays.
    """

    split: Split
    modulus: int
    chain: int

    def step(self, residue: int, run: int, largest_XY: Array) -> tuple[Array, Array]:
        residue_XY = (residue + DIGIT[:, None] ** 2 + DIGIT**2) % self.modulus
        grown_XY = np.where(largest_XY, run + 1, 0)
        return residue_XY, np.full_like(grown_XY, run) if 0 < self.chain == run else np.minimum(grown_XY, self.chain)

    def allowed(self, run_R: Array) -> Array:
        """bool: whether a sequence of the split may pass through."""
        return (run_R < self.chain) | (self.chain == 0) | (self.split not in (Split.train, Split.test))

    def ends(self, residue_R: Array, run_R: Array) -> Array:
        """bool: whether the split holds what ends in this state."""
        if self.split is Split.longer:
            return run_R == self.chain
        return accepted(residue_R, self.split) & self.allowed(run_R)


State = tuple[int, int, int, int]  # operator, residue, carry, run


class Machine:
    """The rows of one digit: every state that can be reached, with both operands' digits and the result's."""

    def __init__(self, operators: list[Transducer], held_out: HeldOut):
        self.held_out = held_out
        self.states: list[State] = []
        self.index: dict[State, int] = {}
        self.starts = [self._state((i, 0, op.start, 0)) for i, op in enumerate(operators)]
        parts = [self._rows(state, operators[state[0]]) for state in self.states]  # which grows as they are found
        self.tokens_RK, self.source_R, self.target_R = (np.concatenate(part) for part in zip(*parts, strict=True))
        states = np.array(self.states)
        self.carry_S, self.ends_S = states[:, 2], held_out.ends(states[:, 1], states[:, 3])

    def _state(self, state: State) -> int:
        if state not in self.index:
            self.index[state] = len(self.states)
            self.states.append(state)
        return self.index[state]

    def _rows(self, state: State, operator: Transducer) -> tuple[Array, Array, Array]:
        """(R, 3) digits x, y and z, with R source and target states."""
        i, residue, carry, run = state
        carry_XY = operator.carry_CXY[carry]
        residue_XY, run_XY = self.held_out.step(residue, run, carry_XY == len(operator.carry_CXY) - 1)
        after_R3 = np.stack((residue_XY, carry_XY, run_XY), axis=-1).reshape(-1, 3)
        distinct, after_R = np.unique(after_R3, axis=0, return_inverse=True)
        keep_R = self.held_out.allowed(after_R3[:, 2])
        targets = [
            self._state((i, residue, carry, run)) if self.held_out.allowed(run) else -1
            for residue, carry, run in distinct.tolist()
        ]
        x, y = np.divmod(np.arange(100), 10)
        tokens_RK = np.stack((x, y, operator.digit_CXY[carry].ravel()), axis=1)
        return tokens_RK[keep_R], np.full(keep_R.sum(), self.index[state]), np.array(targets)[after_R.ravel()][keep_R]


def serial_cliques(
    machine: Machine, positions_DK: Array, operator: tuple[int, list[int]] | None, top: int | None
) -> list[Clique]:
    """The chain of D digits, least significant first.

    positions_DK: of the digits of x, y and z. operator: its position and the operators' tokens, or None where it is
    not written (then there is only one). top: position of the last carry, or None where the result is cut.
    """
    m = machine
    every = Clique((0, 0, 0), m.tokens_RK, m.source_R, m.target_R)
    last = len(positions_DK) - 1

    def digit(d: int) -> Clique:
        first, final = d == 0 and operator is None, d == last and top is None
        if not first and not final:
            return every.at(positions_DK[d])
        keep = np.ones(len(m.source_R), dtype=bool)
        source_R = m.source_R
        if first:
            keep &= source_R == m.starts[0]
            source_R = np.zeros_like(source_R)
        if final:
            keep &= m.ends_S[m.target_R]
        return Clique(positions_DK[d], m.tokens_RK[keep], source_R[keep], m.target_R[keep])

    cliques = [digit(d) for d in range(last + 1)]
    if operator is not None:
        place, tokens = operator
        cliques.insert(0, Clique((place,), np.array(tokens)[:, None], target_R=np.array(m.starts)))
    if top is not None:
        states = np.flatnonzero(m.ends_S)
        cliques.append(Clique((top,), m.carry_S[states][:, None], states))
    return cliques


def table_cliques(
    tables: list[Table], tokens: list[int], split: Split, modulus: int, positions: dict[str, Array]
) -> list[Clique]:
    """Operator and first operand, then second operand and result: two cliques, so that the rows are short.

    positions: of o, X, Y and Z, most significant digit first; o has none where it is not written.
    """
    size = len(tables[0].result_XY)
    digits = len(positions["X"])
    x, y = np.divmod(np.arange(size * size), size)
    squares = np.sum([(number // 10**k % 10) ** 2 for number in (x, y) for k in range(digits)], axis=0)
    pair_R = np.flatnonzero(accepted(squares % modulus, split))
    i, first = np.divmod(np.arange(len(tables) * size), size)
    written = np.array(tokens)[i][:, None][:, : len(positions["o"])]
    start = Clique(
        (*positions["o"], *positions["X"]),
        np.concatenate((written, digit_tokens(first, digits)), axis=1),
        target_R=np.arange(len(i)),
    )
    results = np.concatenate([table.result_XY.ravel()[pair_R] for table in tables])
    pairs = np.tile(pair_R, len(tables))
    source_R = np.repeat(np.arange(len(tables)) * size, len(pair_R)) + x[pairs]
    rows = np.concatenate((digit_tokens(y[pairs], digits), digit_tokens(results, len(positions["Z"]))), axis=1)
    return [start, Clique((*positions["Y"], *positions["Z"]), rows, source_R)]


def digit_tokens(numbers: Array, digits: int) -> Array:
    """(..., digits) of zero-padded numbers, most significant first; a digit's token is the digit."""
    return numbers[..., None] // 10 ** np.arange(digits)[::-1] % 10


def share_held_out(digits: int, modulus: int) -> float:
    """Share of all operand pairs whose squared digits sum to 0."""
    share_M = np.eye(modulus)[0]
    for _ in range(2 * digits):
        share_M = sum((np.roll(share_M, d * d) for d in range(10)), np.zeros(modulus)) / 10
    return float(share_M[0])


def new_tables(affine_symbols: str, random_symbols: str, digits: int, world: int) -> list[Table]:
    """Affine maps with factors prime to 10, none twice, and random tables."""
    size = 10**digits
    x, y = np.divmod(np.arange(size * size), size)
    tables = []
    prime = np.flatnonzero(np.gcd(np.arange(size), 10) == 1)[1:]  # without 1: not `+` again
    maps: list[tuple[int, ...]] = []
    for i, symbol in enumerate(affine_symbols):
        rng = generator(world, "arithmetic/affine", i)
        while len(maps) == i:
            drawn = (*map(int, rng.choice(prime, 2)), int(rng.integers(size)))
            maps += [drawn] * (drawn not in maps)
        p, q, r = maps[i]
        tables.append(Table(symbol, ((p * x + q * y + r) % size).reshape(size, size)))
    for i, symbol in enumerate(random_symbols):
        result = generator(world, "arithmetic/table", i).integers(size, size=size * size)
        tables.append(Table(symbol, result.reshape(size, size)))
    return tables


def new_transducers(affine_symbols: str, random_symbols: str, digits: int, world: int) -> list[Transducer]:
    """Small affine maps, none twice, and random transducers; the rules do not depend on the number of digits."""
    chosen = generator(world, "arithmetic/small affine").permutation(len(AFFINE))
    maps = [affine(symbol, *AFFINE[i]) for symbol, i in zip(affine_symbols, chosen, strict=False)]
    rngs = [generator(world, "arithmetic/transducer", i) for i in range(len(random_symbols))]
    return [*maps, *(random_transducer(symbol, rng) for symbol, rng in zip(random_symbols, rngs, strict=True))]

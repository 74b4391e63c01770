"""Cliques: the rows of a distribution, and what evidence leaves of them.

A clique lists its rows (state in, tokens at some positions, state out, weight). What a pass along the chain needs is
the total weight of each pair of states, and of each cell: a pair of states with one token. Both depend on the visible
tokens of the clique alone, so they are computed once for each distinct set of visible tokens, its *view*, and looked
up by every sequence that shows it.

Shapes: R rows, K positions of a clique, P pairs of states, C cells, U views, N columns (see `semiring`), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthetic_data.engine.semiring import Groups, Semiring

Array = np.ndarray[Any, Any]
VIEWS_AT_ONCE = 32  # at least: fewer columns would be swept mostly in vain
CACHED = 2**17  # numbers of an array that is worked on at once: about the size of a core's cache


@dataclass(frozen=True)
class Cells:
    """Pairs of states by the token at one position. `pair_C` is None where a pair knows its token: cells are pairs."""

    groups: Groups | None
    pair_C: Array | None
    by_token: Groups


class Rows:
    """Rows as arrays sorted by state out and in, grouped by pair of states and by cell.

    matrix: (R, symbols of all positions one after the other), 1 where a row has the symbol.
    """

    def __init__(self, tokens_RK: Array, source_R: Array, target_R: Array, weight_R: Array):
        from scipy.sparse import csr_array  # slow to load, and --help needs none

        order = np.lexsort((source_R, target_R))
        self.tokens_RK, self.weight_R = tokens_RK[order], weight_R[order]
        self.source_R, self.target_R = source_R[order], target_R[order]
        self.sources, self.targets = int(source_R.max()) + 1, int(target_R.max()) + 1
        alphabets = [np.unique(column_R, return_inverse=True) for column_R in self.tokens_RK.T]
        self.symbols = [symbols for symbols, _ in alphabets]
        self.local_RK = np.stack([local_R for _, local_R in alphabets], axis=1) if alphabets else self.tokens_RK
        first_K = np.cumsum([0, *(len(symbols) for symbols in self.symbols)])
        starts = len(self.symbols) * np.arange(len(self) + 1)
        self.matrix = csr_array(
            (np.ones(starts[-1], np.float32), (self.local_RK + first_K[:-1]).ravel(), starts),
            shape=(len(self), first_K[-1]),
        )
        self._group()

    def __len__(self) -> int:
        return len(self.weight_R)

    @property
    def width(self) -> int:
        """Numbers that one view takes."""
        return self.pairs.size + sum(cells.groups.size for cells in self.cells if cells.groups)

    @property
    def widest(self) -> int:
        """Numbers that one view takes in the largest array."""
        return max(self.pairs.size, *(cells.groups.size for cells in self.cells if cells.groups), 1)

    def _group(self) -> None:
        """Pairs and cells where they are fewer than the rows by enough to pay for their lookup, else the rows."""
        label_R = self.target_R * self.sources + self.source_R
        pair_R = np.cumsum(np.diff(label_R, prepend=label_R[0]) != 0)
        pairs = int(pair_R[-1]) + 1
        cells = [np.unique(local_R * pairs + pair_R, return_inverse=True) for local_R in self.local_RK.T]
        # sweeps over the data: 7 a pair and 4 a cell, against 7 a row and 1 a row and position
        if 7 * pairs + 4 * sum(len(c) for c, _ in cells) > len(self) * (7 + len(cells)):
            pair_R, pairs, cells = np.arange(len(self)), len(self), []
        self.pairs = Groups(pair_R, pairs)
        first_P = np.searchsorted(pair_R, np.arange(pairs))
        self.pair_source, self.pair_target = self.source_R[first_P], self.target_R[first_P]
        self.cells = []
        for k, symbols in enumerate(self.symbols):
            label_C, cell_R = cells[k] if cells else (pair_R, pair_R)
            if len(label_C) == pairs:
                self.cells.append(Cells(None, None, Groups(self.local_RK[first_P, k], len(symbols))))
            else:
                token_C, pair_C = np.divmod(label_C, pairs)
                self.cells.append(Cells(Groups(cell_R, len(label_C)), pair_C, Groups(token_C, len(symbols))))


@dataclass(frozen=True)
class Evidence:
    """What a visible token says of the token that stood there: weight `hit` if it is the same, else `miss`."""

    hit: float = 1.0
    miss: float = 0.0

    def rows(self, rows: Rows, tokens_UK: Array, mask_id: int, ring: Semiring) -> Array:
        """(R, U): each row's weight times what each view says of its tokens; in a Boolean semiring 0 or 1.

        With v visible tokens of which m are a row's own that is hit^m miss^(v - m): one sparse product counts m.
        """
        same_SU = np.concatenate([symbols[:, None] == tokens_UK[:, k] for k, symbols in enumerate(rows.symbols)])
        alike_RU = (rows.matrix @ same_SU.astype(np.float32)).astype(np.intp)
        visible_U, most = (tokens_UK != mask_id).sum(1), tokens_UK.shape[1] + 1
        hit, miss = ring.lift(np.array([self.hit, self.miss]))
        visible, alike = np.indices((most, most))
        said = np.where(alike <= visible, hit**alike * miss ** np.maximum(visible - alike, 0), 0).astype(ring.dtype)
        return said.ravel()[alike_RU + most * visible_U] * ring.lift(rows.weight_R)[:, None]


@dataclass(frozen=True)
class Potentials:
    """Total weights under each view: pairs_PU, and for each position cells_CU where cells are not pairs."""

    pairs_PU: Array
    cells_CU: list[Array | None]


def potentials(rows: Rows, tokens_UK: Array, evidence: Evidence, mask_id: int, ring: Semiring) -> Potentials:
    """What each view leaves of the rows."""
    views = len(tokens_UK)
    pairs_PU = np.empty((rows.pairs.size, views), dtype=ring.dtype)
    cells_CU = [np.empty((c.groups.size, views), dtype=ring.dtype) if c.groups else None for c in rows.cells]
    columns = max(VIEWS_AT_ONCE, CACHED // len(rows))
    for start in range(0, views, columns):
        part = slice(start, start + columns)
        weight_RU = evidence.rows(rows, tokens_UK[part], mask_id, ring)
        pairs_PU[:, part] = rows.pairs.reduce(weight_RU, ring)
        for cells, out_CU in zip(rows.cells, cells_CU, strict=True):
            if out_CU is not None:
                out_CU[:, part] = cells.groups.reduce(weight_RU, ring)
    return Potentials(pairs_PU, cells_CU)


class Clique:
    """Rows at positions. `at` puts the same rows at other positions, which costs nothing more to prepare."""

    def __init__(
        self,
        positions: tuple[int, ...],
        tokens_RK: Array,
        source_R: Array | None = None,
        target_R: Array | None = None,
        weight_R: Array | None = None,
    ):
        nothing_R = np.zeros(len(tokens_RK), dtype=np.int64)
        self.positions = tuple(int(p) for p in positions)
        self.rows = Rows(
            np.asarray(tokens_RK, dtype=np.int64),
            nothing_R if source_R is None else source_R,
            nothing_R if target_R is None else target_R,
            np.ones(len(tokens_RK)) if weight_R is None else weight_R,
        )

    def at(self, positions: Iterable[int]) -> Clique:
        clique = object.__new__(Clique)
        clique.positions, clique.rows = tuple(int(p) for p in positions), self.rows
        return clique


def views(tokens_NK: Array) -> tuple[Array, Array]:
    """Distinct views among columns: (U, K) tokens, and for each column which one it shows, (N,).

    Tokens that no row has at a position are told apart too: under noise they say the same, but they are few.
    """
    code_N, bound = np.zeros(len(tokens_NK), dtype=np.int64), 1
    for k in range(tokens_NK.shape[1]):
        radix = int(tokens_NK[:, k].max(initial=0)) + 1
        if bound * radix >= 2**62:
            distinct, code_N = np.unique(code_N, return_inverse=True)
            bound = len(distinct)
        code_N, bound = code_N * radix + tokens_NK[:, k], bound * radix
    if bound > 8 * len(code_N):
        _, first_U, view_N = np.unique(code_N, return_index=True, return_inverse=True)
        return tokens_NK[first_U], view_N
    column = np.full(bound, -1)
    column[code_N] = np.arange(len(code_N))
    first_U = column[column >= 0]
    column[column >= 0] = np.arange(len(first_U))
    return tokens_NK[first_U], column[code_N]

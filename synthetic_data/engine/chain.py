"""Inference along a chain of cliques: one upward and one downward pass (Pearl, 1988; Rabiner, 1989).

Shapes: see `clique`; S states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from synthetic_data.engine.clique import CACHED, Clique, Evidence, Potentials, Rows, potentials, views
from synthetic_data.engine.semiring import Groups, Semiring

Array = np.ndarray[Any, Any]
Choose = Callable[[Array], Array]  # (R, N) weights -> (N,) rows


@dataclass(frozen=True)
class Seen:
    """What columns show of a chain's cliques: the distinct views of each set of rows, and which one a column shows."""

    views: dict[Rows, Array]
    view_CN: list[Array]

    @property
    def columns(self) -> int:
        return len(self.view_CN[0])


class Chain:
    """Cliques in inference order; the first has the single source 0, and every state of the last is accepted."""

    def __init__(self, cliques: list[Clique]):
        self.cliques = cliques
        self.rows = [clique.rows for clique in cliques]
        self.states = [1, *(max(a.targets, b.sources) for a, b in pairwise(self.rows)), self.rows[-1].targets]
        self.by_target = [Groups(r.pair_target, states) for r, states in zip(self.rows, self.states[1:], strict=True)]
        self.by_source = [Groups(r.pair_source, states) for r, states in zip(self.rows, self.states[:-1], strict=True)]

    def see(self, tokens_CNK: list[Array]) -> Seen:
        """Views are pooled over the cliques that have the same rows."""
        seen, view_CN = {}, [np.empty(0)] * len(self.rows)
        for rows in dict.fromkeys(self.rows):
            places = [c for c, other in enumerate(self.rows) if other is rows]
            pooled_NK = np.concatenate([tokens_CNK[c] for c in places])
            seen[rows], view_N = views(pooled_NK)
            for c, part_N in zip(places, np.split(view_N, len(places)), strict=True):
                view_CN[c] = part_N
        return Seen(seen, view_CN)

    def run(self, seen: Seen, evidence: Evidence, mask_id: int, ring: Semiring) -> Iterator[Pass]:
        """Passes over blocks of columns that fit into a core's cache."""
        known = {rows: potentials(rows, tokens_UK, evidence, mask_id, ring) for rows, tokens_UK in seen.views.items()}
        found = [known[rows] for rows in self.rows]
        columns = max(16, CACHED // max(rows.widest for rows in self.rows))
        for start in range(0, seen.columns, columns):
            part = slice(start, min(start + columns, seen.columns))
            yield Pass(self, seen, part, found, ring)

    def prior(self, uniform_CN: Array) -> Iterator[tuple[int, Array]]:
        """Yields (clique, (N,) rows) drawn from the prior, one uniform number a clique."""
        state_N = np.zeros(uniform_CN.shape[1], dtype=np.int64)
        for c in reversed(range(len(self.rows))):
            upto_R, bounds = self._cumulative[c]
            first_N, last_N = bounds[state_N], bounds[state_N + 1]
            low_N, high_N = upto_R[first_N], upto_R[last_N]
            # the sum may round up to high_N, where a row without weight would be drawn
            at_N = np.minimum(low_N + uniform_CN[c] * (high_N - low_N), np.nextafter(high_N, low_N))
            row_N = np.searchsorted(upto_R, at_N, side="right") - 1
            row_N = np.clip(row_N, first_N, last_N - 1)
            yield c, row_N
            state_N = self.rows[c].source_R[row_N]

    @cached_property
    def _cumulative(self) -> list[tuple[Array, Array]]:
        """Of every clique: its rows' cumulative weights, and where each state out begins among them."""
        message_S, out = np.ones(1), []
        for rows, states in zip(self.rows, self.states[1:], strict=True):
            weight_R = message_S[rows.source_R] * rows.weight_R
            bounds = np.searchsorted(rows.target_R, np.arange(states + 1))
            upto_R = np.concatenate(([0.0], np.cumsum(weight_R)))
            message_S = np.bincount(rows.target_R, weight_R, states)
            message_S /= message_S.sum()
            out.append((upto_R, bounds))
        out[-1] = (out[-1][0], np.array([0, len(self.rows[-1])]))  # the end state is free: all rows as one group
        return out


class Pass:
    """Messages of one block of columns; made by the upward pass."""

    def __init__(self, chain: Chain, seen: Seen, part: slice, found: list[Potentials], ring: Semiring):
        self.chain, self.seen, self.part, self.found, self.ring = chain, seen, part, found, ring
        self.view_CN = [view_N[part] for view_N in seen.view_CN]
        columns = part.stop - part.start
        self.messages, self.log_factor_N = [np.ones((1, columns), dtype=ring.dtype)], np.zeros(columns)
        self.pairs_CPN, self.upward_CPN = [], []
        for c, rows in enumerate(chain.rows):
            pairs_PN = found[c].pairs_PU[:, self.view_CN[c]]
            upward_PN = self.messages[-1][rows.pair_source] * pairs_PN
            message_SN, factor_N = ring.normalise(chain.by_target[c].reduce(upward_PN, ring))
            with np.errstate(divide="ignore"):
                self.log_factor_N += np.log(factor_N)
            self.messages.append(message_SN)
            self.pairs_CPN.append(pairs_PN)
            self.upward_CPN.append(upward_PN)

    def marginals(self) -> Iterator[tuple[int, int, Array]]:
        """The downward pass: yields (clique, k, (symbols, N) weight of each symbol at its position k)."""
        chain, ring = self.chain, self.ring
        message_SN = np.ones((chain.states[-1], len(self.log_factor_N)), dtype=ring.dtype)
        for c in reversed(range(len(chain.rows))):
            rows = chain.rows[c]
            below_PN = message_SN[rows.pair_target]
            joint_PN = self.upward_CPN[c] * below_PN
            around_PN = None
            for k, (cells, cells_CU) in enumerate(zip(rows.cells, self.found[c].cells_CU, strict=True)):
                joint_CN = joint_PN
                if cells_CU is not None:
                    around_PN = self.messages[c][rows.pair_source] * below_PN if around_PN is None else around_PN
                    joint_CN = cells_CU[:, self.view_CN[c]] * around_PN[cells.pair_C]
                yield c, k, cells.by_token.reduce(joint_CN, ring)
            if c:
                below_PN *= self.pairs_CPN[c]
                message_SN, _ = ring.normalise(chain.by_source[c].reduce(below_PN, ring))

    def complete(self, evidence: Evidence, mask_id: int, choose: Choose) -> Iterator[tuple[int, Array]]:
        """Yields (clique, (N,) rows) from the last clique to the first, each chosen given the rows after it."""
        state_N = np.zeros(0)
        for c in reversed(range(len(self.chain.rows))):
            rows = self.chain.rows[c]
            weight_RN = evidence.rows(rows, self.seen.views[rows][self.view_CN[c]], mask_id, self.ring)
            weight_RN *= self.messages[c][rows.source_R]
            if len(state_N):
                weight_RN *= rows.target_R[:, None] == state_N
            row_N = choose(weight_RN)
            yield c, row_N
            state_N = rows.source_R[row_N]


def sampler(rng: np.random.Generator) -> Choose:
    """Chooses a row in proportion to its weight."""

    def choose(weight_RN: Array) -> Array:
        upto_RN = np.cumsum(weight_RN, axis=0)
        return (upto_RN <= rng.random(weight_RN.shape[1]) * upto_RN[-1]).sum(0)

    return choose


def most_probable(weight_RN: Array) -> Array:
    """Chooses the row of the largest weight."""
    return weight_RN.argmax(0)

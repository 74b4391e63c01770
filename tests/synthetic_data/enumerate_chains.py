"""The dumb way for the engine: hand-made chains with weights, and the weight of every sequence.

Shapes: N all sequences, L positions, S states, R rows, K positions of a clique.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ablate.core.corpus import Vocabulary
from ablate.core.rng import uniform
from synthetic_data.engine.clique import Clique
from synthetic_data.engine.oracle import ChainOracle
from tests.synthetic_data.enumeration import masked

VOCABULARY = Vocabulary(("a", "b", "<mask>", "c"), mask_id=2)  # MASK is not the last symbol
SYMBOLS, MASK, LENGTH = np.array([0, 1, 3]), 2, 9
EVERY = SYMBOLS[np.indices((3,) * LENGTH).reshape(LENGTH, -1).T]  # (N, L)


@dataclass(frozen=True)
class Table:
    """One clique's rows as they were made."""

    positions: tuple[int, ...]
    tokens_RK: np.ndarray
    source_R: np.ndarray
    target_R: np.ndarray
    weight_R: np.ndarray

    def clique(self):
        return Clique(self.positions, self.tokens_RK, self.source_R, self.target_R, self.weight_R)

    def dense(self, ring, sequences_NL):
        """(N, S, S) what the rows with a sequence's tokens weigh together, or the heaviest of them."""
        powers_K = len(VOCABULARY) ** np.arange(len(self.positions))
        table = np.zeros((len(VOCABULARY) ** len(self.positions), 4, 4))
        ring.at(table, (self.tokens_RK @ powers_K, self.source_R, self.target_R), self.weight_R)
        return table[sequences_NL[:, self.positions] @ powers_K]


def weights(chains, sequences_NL=EVERY, ring=np.add):
    """(N,) total weight of each sequence over all paths of states, or with np.maximum of its heaviest path."""
    out_N = np.ones(len(sequences_NL))
    for tables in chains:
        message_NS = np.eye(4)[[0] * len(sequences_NL)]
        for table in tables:
            message_NS = ring.reduce(message_NS[:, :, None] * table.dense(ring, sequences_NL), axis=1)
        out_N *= ring.reduce(message_NS, axis=1)
    return out_N


PLACES = [[(4,), (0, 7, 2), (5, 1)], [(8, 3), (6,)]]  # two chains, scattered


def hand_made(kind, seed):
    """Two chains. many: rows that repeat pairs of states. few: rows that hardly do. told: rows whose first token is
    the state that they go to. single: rows of which each state and tokens allow one, so that tokens tell the path."""
    rng = np.random.default_rng(seed)
    chains = []
    for places in PLACES:
        tables = []
        for c, positions in enumerate(places):
            k, sources = len(positions), 1 if c == 0 else 3
            rows = {"many": 30 * 3**k, "few": 3 + 4 * k, "told": 30 * 3**k, "single": 3**k * sources}[kind]
            tokens, source = rng.choice(SYMBOLS, (rows, k)), rng.integers(sources, size=rows)
            if kind == "single":
                tokens = SYMBOLS[np.indices((3,) * k).reshape(k, -1).T].repeat(sources, axis=0)
                source = np.tile(np.arange(sources), 3**k)
            target = rng.integers(3, size=rows)
            if kind == "told":
                tokens[:, 0] = SYMBOLS[target]
            weight = 10 ** rng.uniform(-3, 1, rows) * (rng.random(rows) < 0.9)  # some rows weigh nothing
            tables.append(Table(positions, tokens, source, target, weight))
        chains.append(tables)
    return chains


def oracle_of(chains, noise=0.0):
    return ChainOracle([[t.clique() for t in tables] for tables in chains], LENGTH, VOCABULARY, noise)


KINDS = ["many", "few", "told", "single"]
CASES = [(kind, seed) for kind in KINDS for seed in range(3)]


def some_contexts(weight_N, n, stream="masks"):
    """n possible sequences with random masks."""
    possible_NL = EVERY[weight_N > 0]
    chosen = (uniform(0, stream, range(n)).numpy() * len(possible_NL)).astype(int)
    return masked(torch.from_numpy(possible_NL[chosen]), MASK, stream)


def agreeing(row):
    """bool (N,): which sequences agree with what is visible."""
    return ((row == EVERY) | (row == MASK)).all(1)

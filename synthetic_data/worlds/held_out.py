"""The held-out rule: a checksum modulo m, which exact inference can carry as a state.

Whatever has residue 0 belongs to the test split, the rest to the training split. Unlike a hash, such a predicate
leaves each split an exact distribution of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ablate.core.corpus import Split

Array = np.ndarray[Any, Any]


def accepted(residues: Array, split: Split) -> Array:
    """bool, same shape: whether the residue belongs to the split. `longer` and `whole` take any, others as train."""
    everything = np.ones_like(residues, dtype=bool)
    rule = {Split.test: residues == 0, Split.longer: everything, Split.whole: everything}
    return rule.get(split, residues != 0)


def draw_sequences(uniform_BN: Array, options: int, modulus: int, split: Split) -> Array:
    """Sequences of N numbers below `options`, uniform among those whose sum mod `modulus` belongs to the split.

    Inverse transform of uniform_BN, symbol by symbol: each symbol's probability is in proportion to the number of
    accepted ways to go on from it. Returns (B, N) int64.
    """
    batch, length = uniform_BN.shape
    ways = [accepted(np.arange(modulus), split).astype(float)]
    step = (np.arange(modulus)[:, None] + np.arange(options)) % modulus
    for _ in range(length):
        ways.append(ways[-1][step].sum(1) / options)
    sequence_BN = np.empty((batch, length), dtype=np.int64)
    residue_B = np.zeros(batch, dtype=np.int64)
    for i in range(length):
        cumulative = np.cumsum(ways[length - 1 - i][step], axis=1)
        threshold_B = uniform_BN[:, i] * cumulative[residue_B, -1]
        sequence_BN[:, i] = (cumulative[residue_B] <= threshold_B[:, None]).sum(1)
        residue_B = (residue_B + sequence_BN[:, i]) % modulus
    return sequence_BN

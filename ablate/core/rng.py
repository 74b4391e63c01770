"""Addressed random numbers: every draw is a pure function of (seed, stream, index).

Nothing is consumed, so adding a probe, changing the number of devices or resuming changes no other draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS = 6  # of the Feistel network; four with random functions are a strong pseudorandom permutation (Luby & Rackoff)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def address(seed: int, stream: str, index: int = 0) -> int:
    """128-bit key of (seed, stream, index): a hash, so that neighbouring seeds share nothing."""
    digest = hashlib.blake2b(f"{int(seed)}\0{stream}\0{int(index)}".encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")


def generator(seed: int, stream: str, index: int = 0) -> np.random.Generator:
    """NumPy generator that belongs to (seed, stream, index) alone."""
    return np.random.Generator(np.random.Philox(key=address(seed, stream, index)))


def uniform(seed: int, stream: str, indices: Sequence[int] | np.ndarray, shape: tuple[int, ...] = ()) -> Tensor:
    """Uniform numbers in [0, 1): float64, shape (len(indices), *shape); row i depends on (seed, stream, indices[i]).

    Counter-based: the SplitMix64 finaliser (Steele, Lea & Flood, 2014) applied to a hashed row key plus a counter,
    so that the noise of any row of any batch is made without making its neighbours'.
    """
    import torch

    key = address(seed, stream)
    low, high = np.uint64(key & (2**64 - 1)), np.uint64(key >> 64)
    rows = np.asarray(indices)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ValueError(f"uniform: wanted a row of whole numbers as indices, got {rows.dtype} of shape {rows.shape}")
    rows = rows.astype(np.uint64)
    columns = np.arange(1, int(np.prod(shape, dtype=np.int64)) + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        row_keys = _mix(low ^ _mix(rows * _GOLDEN + high))
        bits = _mix(row_keys[:, None] + columns[None, :] * _GOLDEN)
    values = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return torch.from_numpy(values.reshape(len(rows), *shape))


def permuted(seed: int, stream: str, index: int, n: int, places: np.ndarray) -> np.ndarray:
    """What a random order of 0..n-1, that of (seed, stream, index), has at these places; the order is never listed.

    A Feistel network on the next even number of bits; what it sends beyond n is sent on until it falls below (Black &
    Rogaway, 2002, cycle walking). At most 2^62 numbers.
    """
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = [np.uint64(address(seed, f"{stream}/round {i}", index) & (2**64 - 1)) for i in range(ROUNDS)]
    out = np.asarray(places).astype(np.uint64)
    todo = np.ones(out.shape, dtype=bool)
    with np.errstate(over="ignore"):
        while todo.any():
            left, right = out[todo] >> half, out[todo] & mask
            for key in keys:
                left, right = right, left ^ (_mix(right * _GOLDEN ^ key) & mask)
            out[todo] = (left << half) | right
            todo &= out >= np.uint64(n)
    return out.astype(np.int64)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

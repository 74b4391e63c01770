"""Duplicate texts: near ones, found by sketches of their word 5-grams, or equal ones.

Shapes: N words, G word 5-grams.
"""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
WORD = re.compile(r"\w+")
SHINGLE, SKETCH, SAME = 5, 128, 0.8


class Duplicates(StrEnum):
    """Which documents are left out because another one stands before them. near: see `Seen`; it takes about 12 KB of
    memory for each document. exact: equal ones; about 0.4 KB."""

    near = "near"
    exact = "exact"


@dataclass
class Seen:
    """Duplicate detector: bottom-k sketches of the sets of word 5-grams (Broder, 1997), all pairs of them.

    Two texts are the same when the estimated Jaccard index of their sets is at least 0.8; spacing, case and
    punctuation do not count, and up to 128 different 5-grams the index is exact.
    """

    sketches: list[Array] = field(default_factory=list)
    shared: list[int] = field(default_factory=list)
    holders: dict[int, list[int]] = field(default_factory=dict)

    def admits(self, new: Array) -> bool:
        """Whether a text is new, by its sketch; if so it is remembered.

        Of the values in order, `shared` at least are common to the first ones of both wherever two sketches share four
        fifths of each (prefix filtering; Wang, Li & Feng, 2012), so only the first ones are kept in the index.
        """
        needed = math.ceil(SAME * len(new) - 1e-9)
        shared = -(-needed // 4)
        first = new[: len(new) - needed + shared].tolist()
        met = Counter(i for value in first for i in self.holders.get(value, ()))
        if any(n >= min(shared, self.shared[i]) and _jaccard(new, self.sketches[i]) >= SAME for i, n in met.items()):
            return False
        for value in first:
            self.holders.setdefault(value, []).append(len(self.sketches))
        self.shared.append(shared)
        self.sketches.append(new)
        return True


def sketch(text: str, kind: Duplicates = Duplicates.near) -> Array:
    """Sorted uint64 values by which `Seen` compares texts: those of the word 5-grams, or one of the whole text."""
    if kind is Duplicates.exact:
        return np.array([int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())], dtype=np.uint64)
    words = WORD.findall(text.lower()) or ["".join(text.split())]
    words_N = np.array([zlib.crc32(word.encode()) for word in words], dtype=np.uint64)
    grams = max(1, len(words) - SHINGLE + 1)
    hash_G = np.zeros(grams, dtype=np.uint64)
    for i in range(min(SHINGLE, len(words))):
        hash_G = (hash_G + words_N[i : i + grams] + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        hash_G ^= hash_G >> np.uint64(29)
    return np.unique(hash_G)[:SKETCH]


def _jaccard(a: Array, b: Array) -> float:
    if np.array_equal(a, b):  # told much sooner
        return 1.0
    union = np.union1d(a, b)[:SKETCH]
    return float(np.isin(union, np.intersect1d(a, b)).mean())

"""Duplicate texts: near ones, found by sketches of their word 5-grams, or equal ones.

Shapes: N words, G word 5-grams.
"""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
WORD = re.compile(r"\w+")
SHINGLE, SKETCH, SAME = 5, 128, 0.8


class Duplicates(StrEnum):
    """Which documents are left out because another one stands before them. near: needs about 5 KB of memory for each
    document, exact about 0.3 KB."""

    near = "near"
    exact = "exact"


@dataclass
class Seen:
    """Duplicate detector: bottom-k sketches of the sets of word 5-grams (Broder, 1997), all pairs of them.

    Two texts are the same when the estimated Jaccard index of their sets is at least 0.8; spacing, case and
    punctuation do not count, and up to 128 different 5-grams the index is exact.
    """

    sketches: list[Array] = field(default_factory=list)
    holders: dict[int, list[int]] = field(default_factory=dict)

    def admits(self, new: Array) -> bool:
        """Whether a text is new, by its sketch; if so it is remembered.

        Sketches of which each shares four fifths with the other have a value in common among the least fifth of both
        (prefix filtering, Chaudhuri et al., 2006), so only those values are kept in the index.
        """
        least = new[: len(new) - math.ceil(SAME * len(new) - 1e-9) + 1].tolist()
        near = {i for value in least for i in self.holders.get(value, ())}
        if any(_jaccard(new, self.sketches[i]) >= SAME for i in near):
            return False
        for value in least:
            self.holders.setdefault(value, []).append(len(self.sketches))
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
    union = np.union1d(a, b)[:SKETCH]
    return float(np.isin(union, np.intersect1d(a, b)).mean())

"""Near-duplicate texts, found by sketches of their word 5-grams.

Shapes: N words, G word 5-grams.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
WORD = re.compile(r"\w+")
SHINGLE, SKETCH, SAME = 5, 128, 0.8


@dataclass
class Seen:
    """Near-duplicate detector: bottom-k sketches of the sets of word 5-grams (Broder, 1997), all pairs of them.

    Two texts are the same when the estimated Jaccard index of their sets is at least 0.8; spacing, case and
    punctuation do not count, and up to 128 different 5-grams the index is exact.
    """

    sketches: list[Array] = field(default_factory=list)
    holders: dict[int, list[int]] = field(default_factory=dict)

    def admits(self, text: str) -> bool:
        """Whether the text is new; if so it is remembered."""
        new = _sketch(text)
        shared = Counter(i for value in new.tolist() for i in self.holders.get(value, ()))
        if any(n >= SAME * len(new) and _jaccard(new, self.sketches[i]) >= SAME for i, n in shared.items()):
            return False
        for value in new.tolist():
            self.holders.setdefault(value, []).append(len(self.sketches))
        self.sketches.append(new)
        return True


def _sketch(text: str) -> Array:
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

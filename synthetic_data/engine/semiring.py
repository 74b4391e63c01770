"""Semirings, and sums of rows that share a label.

Shapes: R rows, N columns (sequences, or parts of sequences that have the same distribution), S states.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Semiring:
    """How alternatives combine, in which numbers; along a chain numbers multiply.

    lift(weights) -> numbers of the semiring. normalise((S, N)) -> the message in a safe range, and the (N,) factor that
    was taken out of it.
    """

    plus: np.ufunc
    dtype: type
    lift: Callable[[Array], Array]
    normalise: Callable[[Array], tuple[Array, Array]]


def _by(total: Callable[[Array], Array]) -> Callable[[Array], tuple[Array, Array]]:
    def normalise(message_SN: Array) -> tuple[Array, Array]:
        factor_N = total(message_SN)
        return message_SN / np.where(factor_N > 0, factor_N, 1.0), factor_N

    return normalise


def _binary(message_SN: Array) -> tuple[Array, Array]:
    return (message_SN > 0).astype(message_SN.dtype), np.ones(message_SN.shape[1])


SUM_PRODUCT = Semiring(np.add, np.float64, np.asarray, _by(lambda message: message.sum(0)))
MAX_PRODUCT = Semiring(np.maximum, np.float64, np.asarray, _by(lambda message: message.max(0)))
# True is any positive number: sums and products of zeros and ones say exactly what `or` and `and` say
BOOLEAN = Semiring(np.add, np.float32, lambda weight: (weight > 0).astype(np.float32), _binary)


class Groups:
    """Rows by label: `reduce` maps (R, N) to (labels, N)."""

    def __init__(self, labels_R: Array, size: int):
        self.size = size
        self.identity = size == len(labels_R) and bool(np.all(labels_R == np.arange(size)))
        self.order = np.argsort(labels_R, kind="stable")
        self.bounds = np.searchsorted(labels_R[self.order], np.arange(size + 1))
        self._matrices: dict[type, csr_array] = {}

    def reduce(self, values_RN: Array, ring: Semiring) -> Array:
        if self.identity:
            return values_RN
        if ring.plus is np.add:
            return self._matrix(ring.dtype) @ values_RN
        present = self.bounds[:-1] < self.bounds[1:]
        out_SN = np.zeros((self.size, values_RN.shape[1]), dtype=ring.dtype)
        out_SN[present] = ring.plus.reduceat(values_RN[self.order], self.bounds[:-1][present], axis=0)
        return out_SN

    def _matrix(self, dtype: type) -> csr_array:
        """Zeros and ones, (labels, R): a sparse product gathers and adds in one sweep."""
        from scipy.sparse import csr_array  # slow to load, and --help needs none

        if dtype not in self._matrices:
            ones_R = np.ones(len(self.order), dtype=dtype)
            self._matrices[dtype] = csr_array((ones_R, self.order, self.bounds), shape=(self.size, len(self.order)))
        return self._matrices[dtype]

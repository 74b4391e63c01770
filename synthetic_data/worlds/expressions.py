"""Expressions `A o B` over constants and assigned variables, and what a run of them leaves behind.

An operand is a number: 0..p-1 is that constant, p + i is variable i. Shapes are numbered: 0 constant-operator-variable,
1 variable-operator-constant, 2 variable-operator-variable; two constants are no expression. The depth of a variable is
0 for a constant's, else 1 + the greatest depth among its operands.

Shapes: S environments, K variables assigned so far, E expressions, O operators, p modulus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
SHAPES = 3


def expressions(assigned: int, modulus: int, operators: int) -> Array:
    """(E, 3) all (operand, operator, operand) with at least one of the `assigned` variables: E = O (2 p K + K^2)."""
    operands = modulus + assigned
    a, o, b = (x.ravel() for x in np.meshgrid(range(operands), range(operators), range(operands), indexing="ij"))
    return np.stack((a, o, b), axis=1)[(a >= modulus) | (b >= modulus)]


def held_out(shape: Array | int, depth: Array | int) -> Array:
    """bool: whether the combination is kept from training.

    A Latin rule: each depth lacks one shape, and no shape is lacking at two depths in a row. Depth 1 lacks `x o x`,
    depth 2 lacks variable-operator-constant, depth 3 lacks constant-operator-variable.
    """
    return np.asarray((np.asarray(shape) + np.asarray(depth)) % SHAPES == 0)


@dataclass(frozen=True)
class Environments:
    """What is to be known of a program after K assignments.

    values_SK, depths_SK: int64, of each variable. settled_S: bool, nothing that follows can change the program's split;
    depths are 0 then, which joins environments that have the same future.
    """

    values_SK: Array
    depths_SK: Array
    settled_S: Array

    @classmethod
    def start(cls, modulus: int, settled: bool) -> Environments:
        """After `x=c`: one environment for each constant."""
        values_SK = np.arange(modulus)[:, None]
        return cls(values_SK, np.zeros_like(values_SK), np.full(modulus, settled))

    def assign(self, expressions_E3: Array, tables_Opp: Array) -> Environments:
        """All E continuations of each environment, S E in all: the next variable has the expression's value.

        tables_Opp: values of `a o b`. An environment is settled from its first held-out combination on.
        """
        modulus, size = tables_Opp.shape[1], len(self.values_SK)
        a, o, b = expressions_E3.T
        values = np.hstack((np.tile(np.arange(modulus), (size, 1)), self.values_SK))
        depths = np.hstack((np.full((size, modulus), -1), self.depths_SK))  # -1: a constant adds no depth
        depth_SE = 1 + np.maximum(depths[:, a], depths[:, b])
        shape_E = 2 * (a >= modulus) + (b >= modulus) - 1
        settled = (self.settled_S[:, None] | held_out(shape_E, depth_SE)).ravel()

        def extend(before_SK: Array, new_SE: Array) -> Array:
            return np.hstack((before_SK.repeat(len(a), axis=0), new_SE.reshape(-1, 1)))

        depths_RK = extend(self.depths_SK, depth_SE) * ~settled[:, None]
        return Environments(extend(self.values_SK, tables_Opp[o, values[:, a], values[:, b]]), depths_RK, settled)

    def select(self, keep_S: Array) -> Environments:
        return Environments(self.values_SK[keep_S], self.depths_SK[keep_S], self.settled_S[keep_S])

    def answers(self) -> Environments:
        """What a question needs after the last assignment: the values that expressions gave, and no depths."""
        values_SA = self.values_SK[:, 1:]
        return Environments(values_SA, np.zeros_like(values_SA), np.ones_like(self.settled_S))

    def distinct(self) -> tuple[Environments, Array]:
        """Each environment once, and for every row of these its number among them."""
        columns = np.hstack((self.values_SK, self.depths_SK, self.settled_S[:, None]))
        key = np.ravel_multi_index(tuple(columns.T), tuple(columns.max(0) + 1))
        _, first, number_S = np.unique(key, return_index=True, return_inverse=True)
        return self.select(first), number_S

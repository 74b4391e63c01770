"""The dumb way for `arithmetic`: every sequence of a shrunken law, worked out on whole numbers, and counted.

Only the definitions of the operators are shared with the world; they are read at their published addresses.

Shapes: N sequences or operand pairs, L positions, D digits from the least significant on, V vocabulary.
"""

from __future__ import annotations

import itertools
import math
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ablate.core.rng import generator
from synthetic_data.worlds.operators import AFFINE, random_transducer

TEMPLATE = {"record": "n=X,m=Y,nom=Z;", "reversed": "nom=Z,n=X,m=Y;", "bare": "XYZ"}
SYMBOLS = "*-/%^&#@!?$~<>:_"  # of the new operators, in their order
SIZES = {
    "1": {"digits": 1, "names": 3, "affine": 1, "tables": 1},
    "1, one new": {"digits": 1, "names": 2, "affine": 0, "tables": 1, "chain": 1},
    "2": {"digits": 2, "names": 2, "affine": 1, "tables": 1, "chain": 2},
    "2, one new": {"digits": 2, "names": 2, "affine": 1, "tables": 0, "chain": 2, "world": 1},
    "3, affine": {"digits": 3, "affine": 1, "tables": 0, "chain": 2},
    "3, transducer": {"digits": 3, "affine": 0, "tables": 1, "chain": 3},
    "3, both": {"digits": 3, "names": 2, "affine": 1, "tables": 1, "chain": 2, "world": 2},
    "two records": {"records": 2, "names": 2, "affine": 1, "tables": 0, "chain": 1},
}


def exists(size, domain, split, layout, order, wrap):
    """Has the law a meaning? Only serial operators carry; a bare record shows no operator."""
    fields = {"digits": 1, "chain": 4} | SIZES[size]
    serial = domain == "general" or fields["digits"] > 2
    return (
        (split != "longer" or (serial and fields["digits"] >= fields["chain"]))
        and (wrap or serial)
        and (layout != "bare" or domain == "general" or fields["affine"] + fields["tables"] == 1)
    )


def affine_rule(p, q, r, digits):
    """z with its last carry in front of it, and whether each digit hands on the largest carry."""

    def rule(x_N, y_N):
        powers_D = 10 ** np.arange(1, digits + 1)
        carry_ND = (p * (x_N[:, None] % powers_D) + q * (y_N[:, None] % powers_D) + r) // powers_D
        return p * x_N + q * y_N + r, carry_ND == p + q - 1

    return rule


def transducer_rule(op, digits):
    """The same for a table of digits and a table of carries, read digit by digit."""

    def rule(x_N, y_N):
        carry_N, z_N, carries = np.full(len(x_N), op.start), np.zeros_like(x_N), []
        for k in range(digits):
            at = carry_N, x_N // 10**k % 10, y_N // 10**k % 10
            z_N, carry_N = z_N + 10**k * op.digit_CXY[at], op.carry_CXY[at]
            carries.append(carry_N == len(op.carry_CXY) - 1)
        return z_N + 10**digits * carry_N, np.stack(carries, axis=1)

    return rule


def table_rules(c) -> list[Callable]:
    """Operators on one or two digits, which have no carries."""
    size = 10**c.digits
    nothing = np.zeros((1, 1), dtype=int)
    prime = [p for p in range(2, size) if math.gcd(p, 10) == 1]
    rules, maps = [], []
    for i in range(c.affine):
        rng = generator(c.world, "arithmetic/affine", i)
        while len(rules) == i:
            p, q = (int(number) for number in rng.choice(prime, 2))
            r = int(rng.integers(size))
            if (p, q, r) not in maps:
                maps.append((p, q, r))
                rules.append(lambda x, y, p=p, q=q, r=r: ((p * x + q * y + r) % size, nothing))
    for i in range(c.tables):
        result = generator(c.world, "arithmetic/table", i).integers(size, size=size**2)
        rules.append(lambda x, y, result=result: (result[size * x + y], nothing))
    return rules


def operators(c) -> dict[str, Callable]:
    """{symbol: rule}; rule(x_N, y_N) -> (results, carries_ND)."""
    if c.domain == "general":
        return {"+": affine_rule(1, 1, 0, c.digits)}
    if c.digits <= 2:
        return dict(zip(SYMBOLS, table_rules(c), strict=False))
    order = generator(c.world, "arithmetic/small affine").permutation(len(AFFINE))
    rules = [affine_rule(*AFFINE[i], c.digits) for i in order[: c.affine]]
    for i in range(c.tables):
        rules.append(transducer_rule(random_transducer("?", generator(c.world, "arithmetic/transducer", i)), c.digits))
    return dict(zip(SYMBOLS, rules, strict=False))


def longest_run(carry_ND):
    """(N,) the most digits in a row that hand on the largest carry."""
    best_N = run_N = np.zeros(len(carry_ND), dtype=int)
    for carry_N in carry_ND.T:
        run_N = np.where(carry_N != 0, run_N + 1, 0)
        best_N = np.maximum(best_N, run_N)
    return best_N


def belongs(c, x_N, y_N, carry_ND):
    """bool (N,): is the pair in the split?"""
    squares_N = sum((n_N // 10**k % 10) ** 2 for n_N in (x_N, y_N) for k in range(c.digits))
    held_out_N = squares_N % c.checksum == 0
    counted = c.domain == "general" or c.digits > 2
    long_N = (longest_run(carry_ND) >= c.chain) & (counted and c.digits >= c.chain)
    return {
        "train": ~held_out_N & ~long_N,
        "test": held_out_N & ~long_N,
        "longer": long_N & np.ones_like(held_out_N),
        "whole": np.ones_like(held_out_N),
    }[c.split]


def every_record(c):
    """(L, N) uint8, all records of the law."""
    x_N, y_N = (n.ravel() for n in np.indices((10**c.digits,) * 2))
    blocks = []
    for symbol, rule in operators(c).items():
        z_N, carry_ND = rule(x_N, y_N)
        keep_N = belongs(c, x_N, y_N, carry_ND)
        numbers = {"X": (x_N, c.digits), "Y": (y_N, c.digits), "Z": (z_N, c.digits + (not c.wrap))}
        pairs = itertools.permutations(string.ascii_lowercase[: c.names], 2) if c.layout != "bare" else [("", "")]
        for n, m in pairs:
            columns = []
            for part in TEMPLATE[c.layout]:
                if part in numbers:
                    number_N, width = numbers[part]
                    digits = [number_N[keep_N] // 10**k % 10 for k in range(width)]
                    columns += digits[::-1] if c.order == "big" else digits
                else:
                    token = c.vocabulary.ids([{"n": n, "m": m, "o": symbol}.get(part, part)])[0]
                    columns.append(np.full(keep_N.sum(), token))
            blocks.append(np.stack(columns).astype(np.uint8))
    return np.concatenate(blocks, axis=1)


def every_arithmetic(c):
    """(L, N) uint8, all sequences of the law, each as likely as the others."""
    record_LN = every_record(c)
    choices = np.indices((record_LN.shape[1],) * c.records).reshape(c.records, -1)
    return np.concatenate([record_LN[:, choice_N] for choice_N in choices])


def read(corpus, row):
    """(operator, x, y, z) of a sequence's records, read from their text."""
    text = corpus.vocabulary.text(row)
    number, result = (rf"(\d{{{width}}})" for width in (corpus.digits, corpus.digits + (not corpus.wrap)))
    parts = {"X": number, "Y": number, "Z": result, "o": r"(\W|_)"}
    pattern = "".join(parts.get(part, "[a-z]" if part in "nm" else part) for part in TEMPLATE[corpus.layout])
    order = [part for part in TEMPLATE[corpus.layout] if part in parts]
    records = re.findall(pattern, text)
    assert len(records) == corpus.records, text
    turn = (lambda digits: digits[::-1]) if corpus.order == "little" else str
    for record in records:
        said = dict(zip(order, record, strict=True))
        yield said.get("o", "+"), *(int(turn(said[part])) for part in "XYZ")


@dataclass(frozen=True)
class Counted:
    """Posteriors by counting the columns of sequences_LN that agree with what is visible."""

    sequences_LN: np.ndarray
    mask_id: int
    size: int

    @cached_property
    def _prior(self):
        return self._counts(np.full(len(self.sequences_LN), self.mask_id))

    def _counts(self, tokens_L):
        agree_N = np.arange(self.sequences_LN.shape[1])
        for column_N, token in zip(self.sequences_LN, tokens_L, strict=True):
            if token != self.mask_id:
                agree_N = agree_N[column_N[agree_N] == token]
        counts_LV = np.zeros((len(tokens_L), self.size))
        for position, token in enumerate(tokens_L):
            if token == self.mask_id:
                counts_LV[position] = np.bincount(self.sequences_LN[position, agree_N], minlength=self.size)
            else:
                counts_LV[position, token] = len(agree_N)
        return counts_LV, len(agree_N)

    def posterior(self, tokens_L):
        """(p_LV, support_LV, log evidence) of a row."""
        nothing = bool((tokens_L == self.mask_id).all())
        counts_LV, agree = self._prior if nothing else self._counts(tokens_L)
        return counts_LV / agree, counts_LV > 0, math.log(agree / self.sequences_LN.shape[1])


def sum_digits(x_ND, y_ND, z_NE, mask_id):
    """(N, D + 1) different digits that each digit of x + y can still be: sets of carries from both ends.

    Digits come least significant first; z has one more.
    """
    count, digits = x_ND.shape
    may = [np.where(n[..., None] == mask_id, True, n[..., None] == np.arange(10)) for n in (x_ND, y_ND, z_NE)]
    before, after = [np.stack((np.ones(count, bool), np.zeros(count, bool)), axis=1)], [may[2][:, -1, :2]]
    x, y, carry = (index.ravel() for index in np.indices((10, 10, 2)))
    z, handed_on = (x + y + carry) % 10, (x + y + carry) // 10

    def ways(k, carries_N2, next_N2):
        free = may[0][:, k, x] & may[1][:, k, y]
        return free & carries_N2[:, carry] & next_N2[:, handed_on]

    def any_of(ways_NR, label_R, size):
        return np.stack([ways_NR[:, label_R == label].any(1) for label in range(size)], axis=1)

    both = np.ones((count, 2), dtype=bool)
    for k in range(digits):
        before.append(any_of(ways(k, before[-1], both) & may[2][:, k, z], handed_on, 2))
    for k in reversed(range(digits)):
        after.insert(0, any_of(ways(k, both, after[0]) & may[2][:, k, z], carry, 2))
    sizes = [any_of(ways(k, before[k], after[k + 1]) & may[2][:, k, z], z, 10).sum(1) for k in range(digits)]
    return np.stack([*sizes, (before[-1] & after[-1]).sum(1)], axis=1)

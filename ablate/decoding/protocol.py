"""A decoding protocol: in which blocks, in which order and at which pace an answer is revealed.

A score says something of a model under a protocol, so every score is kept with its protocol.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from ablate.core.blocks import Grid
from ablate.core.storage import LATER, describe, digest
from ablate.core.validation import require

MOST = 2**32  # tokens or passes: more are a slip of the finger


class Order(StrEnum):
    """Which open token of a block is revealed next.

    left_to_right: the leftmost. random: uniformly, by address. confidence: the one whose distribution has the largest
    maximum. confidence_of_sample: the one whose own drawn token is most probable (LLaDA, Nie et al., 2025); biased
    where tokens are drawn, since a place that drew a rare token waits and draws again. margin: largest lead of the
    first candidate over the second. entropy: lowest entropy. oracle_k: smallest K(c) = 2^H of the exact posterior,
    whatever the model believes; for worlds, which have an oracle.
    """

    left_to_right = "left_to_right"
    random = "random"
    confidence = "confidence"
    confidence_of_sample = "confidence_of_sample"
    margin = "margin"
    entropy = "entropy"
    oracle_k = "oracle_k"


class SuffixRead(StrEnum):
    """What a model reads behind the block that is being revealed: the rest of the answer as MASK, or nothing."""

    mask = "mask"
    cut = "cut"


class Cache(StrEnum):
    """What a pass takes over from earlier ones of the same row.

    exact: at most what no later token can change, which alters nothing but rounding. prefix: all that stands before the
    block at work, as the block's first pass read it (Fast-dLLM's prefix cache, Wu et al., 2025); approximate, and for
    networks with full attention alone.
    """

    exact = "exact"
    prefix = "prefix"


class Rule(StrEnum):
    """How many tokens a pass reveals, at least one; see `Pace`."""

    tokens = "tokens"
    passes = "passes"
    threshold = "threshold"
    dynamic = "dynamic"
    all = "all"


@dataclass(frozen=True)
class Pace:
    """How many tokens of a block a forward pass reveals, typed as rule:number.

    tokens:n, n of them. passes:n, so many that the block is full after n passes. threshold:p, in the protocol's order
    as long as the confidence is at least p. dynamic:f, the first n as long as (n + 1)(1 - c) < f for the least
    confidence c among them (Fast-dLLM's factor, Wu et al., 2025). all, the whole block. At least one, always.
    """

    rule: Rule
    number: float = 0.0

    @classmethod
    def read(cls, typed: str) -> Pace:
        """From the words of the command line. Raises ValueError for others."""
        rule, colon, number = str(typed).partition(":")
        try:
            pace = cls(Rule(rule), float(number or 0))
        except ValueError:
            pace = None
        legal = {
            Rule.tokens: lambda n: 1 <= n <= MOST and n == int(n),
            Rule.passes: lambda n: 1 <= n <= MOST and n == int(n),
            Rule.threshold: lambda p: 0 < p <= 1,
            Rule.dynamic: lambda f: f > 0,
            Rule.all: lambda _: not colon,
        }
        holds = pace is not None and math.isfinite(pace.number) and legal[pace.rule](pace.number)
        wanted = "tokens:N, passes:N, threshold:P with 0 < P <= 1, dynamic:F with F > 0, or all"
        require("pace", typed, holds, wanted, "tokens:1")
        assert pace is not None
        return pace

    def __str__(self) -> str:
        number = int(self.number) if self.number == int(self.number) else self.number
        return str(self.rule) if self.rule is Rule.all else f"{self.rule}:{number}"


@dataclass
class Protocol:
    """How an answer is decoded, block by block from left to right.

    block_size: tokens a block. order, pace: see `Order` and `Pace`. grid: where blocks are counted from. remask: the n
    tokens of a full block that were least confident are hidden and revealed once more, given the others. temperature: 0
    takes the most probable token, else one is drawn from p^(1/temperature); top_p: from the most probable tokens that
    have this mass together. suffix: see `SuffixRead`. cache: see `Cache`. stop_at: tokens that end an answer: once one
    is revealed, and all before it, the rest of the answer is not decoded. Raises ValueError for values out of range.
    """

    block_size: int = 32
    order: Order = Order.confidence
    pace: str = "tokens:1"
    grid: Grid = Grid.answer
    remask: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    suffix: SuffixRead = SuffixRead.mask
    cache: Cache = field(default=Cache.exact, metadata=LATER)
    stop_at: tuple[int, ...] = field(default=(), metadata=LATER)

    def __post_init__(self) -> None:
        self.order, self.grid, self.suffix = Order(self.order), Grid(self.grid), SuffixRead(self.suffix)
        self.pace, self.cache, self.stop_at = str(Pace.read(self.pace)), Cache(self.cache), tuple(self.stop_at)
        self.temperature, self.top_p = float(self.temperature), float(self.top_p)
        require("block_size", self.block_size, self.block_size >= 1, "at least 1", 4)
        require("remask", self.remask, self.remask >= 0, "0 or more tokens a block", 1)
        hot = 0 <= self.temperature < math.inf
        require("temperature", self.temperature, hot, "0, which is greedy, or more", 1.0)
        mass = 0 < self.top_p <= 1 and (self.temperature > 0 or self.top_p == 1)
        require("top_p", self.top_p, mass, "a mass in (0, 1], 1 where temperature is 0", 1.0)

    def fingerprint(self) -> str:
        """Hash of everything that determines how is decoded."""
        return digest(describe(self, whole=False))

    @property
    def rest(self) -> str:
        """What block size, order, pace and grid do not say, and the fingerprint: the column `protocol` of records."""
        drawn = f"temperature {self.temperature:g}, top_p {self.top_p:g}" if self.temperature else "greedy"
        again = f"; remask {self.remask}" if self.remask else ""
        kept = "; prefix cache, approximate" if self.cache is Cache.prefix else ""
        ends = f"; stops at {', '.join(map(str, self.stop_at))}" if self.stop_at else ""
        return f"{drawn}; suffix {self.suffix}{again}{kept}{ends}; {self.fingerprint()[:8]}"

    @property
    def words(self) -> str:
        """The whole protocol in a line."""
        return f"blocks of {self.block_size} counted from the {self.grid}; {self.order}; {self.pace}; {self.rest}"

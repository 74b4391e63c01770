"""How much of training and of measuring a run does."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from ablate.core.blocks import Grid
from ablate.core.storage import LATER
from ablate.core.validation import require
from ablate.decoding.protocol import Order, Protocol

MOST = 10**12  # tokens, sizes and counts beyond this are slips of the finger


@dataclass
class Budget:
    """How much is spent. base_tokens and tokens: training tokens in the general and the new domain.

    evaluations: probes, evenly spaced, apart from those at 0 and around each switch. questions: decoded at each of
    `block_sizes` on each split, most confident first, one token a pass, but no more than can be decoded by reading
    `decoded` tokens. contexts: rows drawn by each context sampler. every: steps between logged rows.
    decoding: protocols asked on the new domain's test split beside these. grids: where all blocks are counted from;
    empty for the answer and, where a stage trains in blocks, also the sequence. evaluate_at: steps of the probes, in
    place of evenly spaced ones.
    """

    base_tokens: int = 1_250_000
    tokens: int = 1_750_000
    evaluations: int = 16
    questions: int = 64
    decoded: int = 32_768
    contexts: int = 128
    every: int = 20
    block_sizes: list[int] = field(default_factory=lambda: [1, 2, 32])
    decoding: list[Protocol] = field(
        default_factory=lambda: [Protocol(32, pace="tokens:4"), Protocol(32, order=Order.random)], metadata=LATER
    )
    grids: list[Grid] = field(default_factory=list, metadata=LATER)
    evaluate_at: list[int] = field(default_factory=list, metadata=LATER)

    def __post_init__(self) -> None:
        self.grids = [Grid(grid) for grid in self.grids]
        require("budget.grids", self.grids, len(self.grids) == len(set(self.grids)), "each once", "[answer,sequence]")
        for f in (f for f in dataclasses.fields(self) if f.name not in ("decoding", "grids", "evaluate_at")):
            value = getattr(self, f.name)
            values, example = (value, "[1,2,32]") if f.name == "block_sizes" else ([value], f.default)
            whole = isinstance(values, list) and all(isinstance(v, int) and 1 <= v <= MOST for v in values)
            holds = whole and 0 < len(values) == len(set(values))
            wanted = f"1..{MOST:.0e}{', each once' * (len(values) != 1)}"
            require(f"budget.{f.name}", value, holds, wanted, example)
        for i, protocol in enumerate(self.decoding):
            key, wanted = f"budget.decoding.{i}.grid", "answer: it is asked on each of budget.grids"
            require(key, protocol.grid, protocol.grid is Grid.answer, wanted, "answer")
        asked = [(p.block_size, p.order, p.pace) for p in map(Protocol, self.block_sizes)]
        asked += [(p.block_size, p.order, p.pace) for p in self.decoding]
        twice = [one for one in asked if asked.count(one) > 1]
        key, wanted = "budget.decoding", "other block sizes, orders or paces than each other and budget.block_sizes"
        require(key, [" ".join(map(str, one)) for one in twice], not twice, wanted, "[{block_size:32,order:random}]")

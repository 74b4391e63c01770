"""How much of training and of measuring a run does."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from ablate.core.validation import require

MOST = 10**12  # tokens, sizes and counts beyond this are slips of the finger


@dataclass
class Budget:
    """How much is spent. base_tokens and tokens: training tokens in the general and the new domain.

    evaluations: probes, evenly spaced, apart from those at 0 and around each switch. questions: decoded at each of
    `block_sizes` on each split, but no more than can be decoded by reading `decoded` tokens. contexts: rows drawn by
    each context sampler. every: steps between logged rows.
    """

    base_tokens: int = 1_250_000
    tokens: int = 1_750_000
    evaluations: int = 16
    questions: int = 64
    decoded: int = 32_768
    contexts: int = 128
    every: int = 20
    block_sizes: list[int] = field(default_factory=lambda: [1, 2, 32])

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            values, example = (value, "[1,2,32]") if f.name == "block_sizes" else ([value], f.default)
            whole = isinstance(values, list) and all(isinstance(v, int) and 1 <= v <= MOST for v in values)
            holds = whole and 0 < len(values) == len(set(values))
            wanted = f"1..{MOST:.0e}{', each once' * (len(values) != 1)}"
            require(f"budget.{f.name}", value, holds, wanted, example)

"""What a training of a given size takes: memory, arithmetic, time. Nothing is trained and no weight is made.

Shapes: B sequences, L positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablate.compute.device import Device, Precision, Recompute, Strategy, attention_form
from ablate.compute.flops import Work
from ablate.core.corpus import Vocabulary
from ablate.core.validation import require, require_ranges
from ablate.model.attention import Pattern
from ablate.model.config import ModelConfig
from ablate.noise.options import BatchAddress
from ablate.objectives.problem import Objective
from ablate.objectives.regime import Regime, Stage

GB = 1e9  # a card of "80 GB" has 85e9 bytes, of which driver, libraries and fragments take what is left
POSED = 16  # sequences whose masks say how many outputs are scored in the mean
DAY = 86_400  # seconds
LIMITS = {
    "gpus": (1, 2**20),
    "gpus_per_machine": (1, 2**20),
    "batch": (1, 2**20),
    "global_batch": (1, 2**30),
    "length": (2, 2**24),  # position 0 is unscored
    "vocabulary": (1, 2**24),
    "steps": (1, 10**12),
    "recompute_every": (1, 2**20),
}


@dataclass
class Plan:
    """A training to be planned: `steps` steps of a regime on `gpus` processors.

    batch: sequences of a micro-step on one processor. global_batch: of a step over all of them; the paper does not say
    what it took, 512 is ours. length: tokens a sequence. vocabulary: of a model that has as many as its corpus. mfu:
    the share of `peak` (FLOP/s of a processor; an H100 SXM has 989e12 in bf16) that is expected. memory: GB (1e9
    bytes) of a processor. gpus_per_machine: among these FSDP shards, each machine has a copy. out: a .json file of all
    numbers, none where empty.
    Raises ValueError for values out of range.
    """

    model: ModelConfig
    regime: Regime
    gpus: int = 1
    gpus_per_machine: int = 8
    batch: int = 1
    global_batch: int = 512
    length: int = 4096
    vocabulary: int = 32_768
    steps: int = 135_000
    device: Device = Device.cuda
    precision: Precision = Precision.bf16
    strategy: Strategy = Strategy.auto
    recompute: Recompute = Recompute.none
    recompute_every: int = 1
    mfu: float = 0.4
    peak: float = 989e12
    memory: float = 80.0
    out: str = ""

    def __post_init__(self) -> None:
        self.device, self.precision = Device(self.device), Precision(self.precision)
        self.strategy, self.recompute = Strategy(self.strategy), Recompute(self.recompute)
        self.device = Device.cuda if self.device is Device.auto else self.device
        self.precision = Precision.bf16 if self.precision is Precision.auto else self.precision
        require_ranges(self, LIMITS)
        require("mfu", self.mfu, 0 < self.mfu <= 1, "more than 0 and at most 1", 0.4)
        require("peak", self.peak, 0 < self.peak < math.inf, "more than 0", 989e12)
        require("memory", self.memory, 0 < self.memory < math.inf, "more than 0", 80)
        together = self.gpus * self.batch
        multiple = max(1, self.global_batch // together) * together
        wanted = f"a multiple of gpus={self.gpus} x batch={self.batch}"
        require("global_batch", self.global_batch, self.global_batch % together == 0, wanted, multiple)
        for i, stage in enumerate(self.regime.stages):
            size = stage.objective.reading.size
            wanted = f"at least a block of regime.stages.{i}, {size} tokens"
            require("length", self.length, size <= self.length, wanted, max(size, 4096))
        require("out", self.out, not self.out or self.out.endswith(".json"), "a .json file", "plan.json")

    @property
    def accumulate(self) -> int:
        """Micro-steps a step."""
        return self.global_batch // (self.gpus * self.batch)

    @property
    def symbols(self) -> int:
        """Rows of the embedding."""
        return self.model.vocabulary or self.vocabulary

    @property
    def chosen(self) -> Strategy:
        """How processors share the work; auto is what a run makes of it."""
        auto = Strategy.ddp if self.gpus > 1 else Strategy.auto
        return auto if self.strategy is Strategy.auto else self.strategy

    @property
    def sharded(self) -> bool:
        return self.chosen is Strategy.fsdp and self.shares > 1

    @property
    def shares(self) -> int:
        """Processors among which a copy of weights, gradients and optimizer can be divided."""
        return min(self.gpus, self.gpus_per_machine)

    @property
    def carried(self) -> bool:
        """Whether gradients exist from the beginning: of earlier micro-steps, or in DDP's buckets."""
        return self.accumulate > 1 or self.chosen is Strategy.ddp

    def summary(self) -> dict[str, Any]:
        """What does not depend on the stage. Bytes are those of one processor."""
        parameters = self.model.parameters(self.symbols)
        share = self.shares if self.sharded else 1
        return {
            "parameters": parameters,
            "bytes": {
                "weights": 4 * parameters / share,
                "gradients": 4 * parameters / share,
                "optimizer": 8 * parameters / share,
            },
            "strategy": self.chosen.value,
            "accumulate": self.accumulate,
            "tokens_a_step": self.global_batch * self.length,
            "tokens": self.steps * self.global_batch * self.length,
        }

    def stages(self) -> list[dict[str, Any]]:
        """A row for every stage: FLOPs a token, bytes of a processor, tokens a second of all processors, days."""
        return [
            self._stage(stage, steps)
            for stage, steps in zip(self.regime.stages, self.regime.steps(self.steps), strict=True)
        ]

    def _stage(self, stage: Stage, steps: int) -> dict[str, Any]:
        pattern = pattern_of(stage.objective)
        scored = mean_scored(stage.objective, self.length)
        work = Work(self.model, self.symbols, pattern, self.length, scored)
        processed = self.gpus * self.mfu * self.peak / self.model.flops(self.length, self.symbols)
        clean = processed / work.rows
        return {
            "objective": stage.objective.label,
            "steps": steps,
            "rows_read": work.rows,
            "scored_share": scored / self.length,
            "flops": {
                "convention_per_processed_token": work.convention / self.length / work.rows,
                "convention_per_clean_token": work.convention / self.length,
                "computed_per_processed_token": work.computed / self.length / work.rows,
                "computed_per_clean_token": work.computed / self.length,
                "attention_per_clean_token": work.attention / self.length,
                "recomputed_per_clean_token": work.again(self.recompute, self.recompute_every) / self.length,
            },
            "bytes": self._memory(pattern),
            "processed_tokens_per_second": processed,
            "clean_tokens_per_second": clean,
            "days": steps * self.global_batch * self.length / clean / DAY,
        }

    def _memory(self, pattern: Pattern) -> dict[str, float]:
        """Bytes of one processor: its parts at their largest, and the peak, where they need not come together."""
        from ablate.compute.memory import LASTING, Part, Step, memory_of  # loads torch

        scored = self.batch * (self.length - 1) * max(1, pattern.draws)  # all that can be: a draw of masks may ask it
        form = attention_form(self.device, self.precision)
        found = memory_of(
            Step(
                self.model,
                self.symbols,
                pattern,
                self.length,
                self.batch,
                scored,
                self.device,
                self.precision,
                form,
                self.recompute,
                self.recompute_every,
                self.carried,
                self.sharded,
            )
        )
        parts = self.summary()["bytes"] | {part.value: float(found.most[part]) for part in Part if part not in LASTING}
        if self.sharded:
            return parts | self._sharded_peak(found.peak)
        return parts | {"peak": float(found.peak)}

    def _sharded_peak(self, passing: int) -> dict[str, float]:
        """What FSDP2 has whole beside a processor's parts, an estimate, and the peak. The root's weights (embedding,
        head, last norm) are whole from first to last. While activations are there, so are two layers' weights, one
        layer's gradients and their fp32 sum, and the head's gradient; when they are gone, the root's gradients and sum.
        """
        low = 2 if self.precision is Precision.bf16 else 4
        layer = self.model.matrices // self.model.layers
        root = self.model.parameters(self.symbols) - layer * self.model.layers
        early = low * (root + 2 * layer) + (low + 4) * layer + low * self.symbols * self.model.width
        late = low * root + (low + 4) * root
        own = self.summary()["bytes"]
        carried = own["gradients"] if self.carried else 0.0
        peak = own["weights"] + own["optimizer"] + max(carried + passing + early, own["gradients"] + late)
        return {"unsharded": max(early, late), "peak": peak}


def pattern_of(objective: Objective) -> Pattern:
    """The pattern of an objective's problems: it poses a short one."""
    return _posed(objective, max(objective.reading.size, 2), 1).pattern


def mean_scored(objective: Objective, length: int) -> float:
    """Outputs scored of a sequence, the mean over masks that are drawn, warmups apart."""
    return float((_posed(objective, length, POSED).weight_RL > 0).sum()) / POSED


def _posed(objective: Objective, length: int, rows: int) -> Any:
    import torch

    tokens_BL = torch.zeros(rows, length, dtype=torch.long)
    return objective.pose(tokens_BL, BatchAddress(0, 0, np.arange(rows), rows), Vocabulary.unnamed(2))

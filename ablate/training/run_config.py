"""A run: one arm, one seed. Base model, stages, probes; what it leaves is whole, checked and resumable."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from ablate.compute.device import Compile, Device, Precision, Recompute, Strategy, resolve_threads
from ablate.core.blocks import Grid
from ablate.core.corpus import Corpus, Domain, Split
from ablate.core.storage import LATER, MEANS, WHERE, describe, digest
from ablate.core.validation import Rules, path_of, refuse, require, require_ranges
from ablate.decoding.protocol import Order
from ablate.model.config import ModelConfig
from ablate.model.hf_weights import content_hash
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.regime import OptimizerState, Regime, Stage
from ablate.training.budget import Budget

RANGES = {
    "seed": (0, 2**63 - 1),
    "batch": (1, 2**20),
    "accumulate": (1, 2**20),
    "threads": (0, 1024),
    "processes": (0, 2**20),
    "unique": (0, 2**31),
    "recompute_every": (1, 2**20),
    "pack": (1, 1024),
    "loaders": (0, 1024),
    "fork_step": (0, 2**31),
}
TEXTS = ("out", "cache", "fork", "fork_weights", "init")
KINDS = {"model": ModelConfig, "regime": Regime, "budget": Budget, "base": Stage, **dict.fromkeys(TEXTS, str)}
CHOICES = {"device": Device, "precision": Precision, "compile": Compile, "strategy": Strategy, "recompute": Recompute}


@dataclass
class Run:
    """One arm on one seed. Raises ValueError for illegal values and combinations.

    batch: sequences a step over all devices, in `accumulate` micro-batches. threads: of each process, 0: by the size of
    a step. processes: 0: as many as torchrun started. unique: training sequences of the new domain, which come again in
    another order every epoch; 0: all are fresh. out: folder of results, * stands for the run's label. cache: folder of
    base models. draw: the figure at the end? recompute: activations recomputed, in each `recompute_every`-th layer.
    loaders: processes that read batches ahead, 0: the training process does. pack: runs of one command that train
    together at most (see `packs`). fork: folder of a trunk, a run that this one leaves at the end of a
    stage; fork_step: at which, 0: the last one up to which both agree; fork_weights: the hash of its weights there.
    keep_at: steps whose checkpoints stay, for forks. init: "hf:FOLDER": a checkpoint as base model; init_pickle: from
    pickles too?
    """

    corpus: Any  # a Corpus: a protocol cannot be a configuration's type
    model: ModelConfig
    regime: Regime
    budget: Budget
    base: Stage = field(default_factory=lambda: Stage(Autoregressive(), lr=2e-3))
    seed: int = 0
    batch: int = 64
    accumulate: int = 1
    device: Device = Device.auto
    precision: Precision = Precision.auto
    compile: Compile = Compile.auto
    threads: int = 0
    processes: int = 0
    unique: int = 0
    out: str = ""
    cache: str = "runs/.base"
    draw: bool = True
    strategy: Strategy = field(default=Strategy.auto, metadata=LATER)
    recompute: Recompute = field(default=Recompute.none, metadata=LATER)
    recompute_every: int = field(default=1, metadata=LATER)
    loaders: int = field(default=0, metadata=LATER)
    pack: int = field(default=1, metadata=LATER)
    fork: str = ""
    fork_step: int = field(default=0, metadata=LATER)
    fork_weights: str = field(default="", metadata=LATER)
    keep_at: list[int] = field(default_factory=list, metadata=LATER)
    init: str = field(default="", metadata=LATER)
    init_pickle: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        self._corpora: dict[tuple[Domain, Split], Corpus] = {}
        for name, kind in KINDS.items():
            value = getattr(self, name)
            wanted = "text" if kind is str else f"a {kind.__name__}"
            require(name, value, isinstance(value, kind), wanted, "NAME" if kind is str else "the group's NAME")
        for f in ("device", "precision", "compile", "strategy", "recompute"):
            setattr(self, f, CHOICES[f](getattr(self, f)))
        require_ranges(self, RANGES)
        require("accumulate", self.accumulate, self.batch % self.accumulate == 0, f"a divisor of batch={self.batch}", 1)
        refuse(self._rules())

    def _rules(self) -> Rules:
        yield (
            self.base.share == 1 and self.base.optimizer is OptimizerState.reset,
            "base.share and base.optimizer have no effect; type base.steps=N or budget.base_tokens=N",
        )
        yield (
            not any(stage.until for stage in self.regime.stages),
            "regime.stages: until has no effect on a stage; type regime.stages.0.until=0, or the key of the one meant",
        )
        yield (
            not self.base.until or self.corpus.oracle is not None,
            f"base.until: only a world's oracle knows excess bits, got {self.corpus.name}; type base.until=0 and "
            "base.steps=N",
        )
        yield (
            (self.corpus.domain, self.corpus.split) == (Domain.new, Split.train),
            f"corpus.domain={self.corpus.domain}, corpus.split={self.corpus.split}: a run sets both itself (it "
            "trains on general, then new, and is tested on each); leave both out",
        )
        asks_oracle = any(protocol.order is Order.oracle_k for protocol in self.budget.decoding)
        yield (
            not asks_oracle or self.corpus.oracle is not None,
            f"budget.decoding: order=oracle_k wants a world, got {self.corpus.name}; type order=confidence",
        )
        length = self.corpus.length
        for i, stage in enumerate(self.regime.stages):
            size = stage.objective.reading.size
            yield (
                size <= length,
                f"regime.stages.{i}.objective.size={size}: wanted at most corpus.length, {length} tokens; "
                f"type regime.stages.{i}.objective.size={length}, which is masked diffusion",
            )

    @property
    def grids(self) -> list[Grid]:
        """Where the blocks of its probes are counted from."""
        own = {stage.objective.grid for stage in self.regime.stages}
        return self.budget.grids or [grid for grid in Grid if grid in own | {Grid.answer}]

    def corpus_for(self, domain: Domain, split: Split) -> Corpus:
        """The run's corpus under another domain or split; one instance of each, since real text loads its shards."""
        if (domain, split) not in self._corpora:
            self._corpora[domain, split] = dataclasses.replace(self.corpus, domain=domain, split=split)
        return self._corpora[domain, split]

    def steps(self, tokens: int) -> int:
        """Training steps that see at least `tokens` tokens, at least one."""
        return max(1, -(-tokens // (self.batch * self.corpus.length)))

    @property
    def stage_steps(self) -> list[int]:
        return self.regime.steps(self.steps(self.budget.tokens))

    @property
    def base_steps(self) -> int:
        return 0 if self.init else self.base.steps or self.steps(self.budget.base_tokens)

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding, MASK's among them. Raises ValueError if the shape has too few for the corpus."""
        needed = len(self.corpus.vocabulary)
        if not self.init and 0 < self.model.vocabulary < needed:
            raise ValueError(
                f"model.vocabulary={self.model.vocabulary}: wanted {needed} or more, the corpus's tokens, or 0 for "
                "just as many; type model.vocabulary=0"
            )
        return max(self.model.vocabulary, needed)

    def flops_after(self, step: int) -> float:
        """Of training on the new domain up to this step: of every row that is read, as if it were read whole."""
        per_row = float(self.model.flops(self.corpus.length, self.vocabulary)) * self.corpus.length
        done, flops = 0, 0.0
        for stage, steps in zip(self.regime.stages, self.stage_steps, strict=True):
            flops += per_row * self.batch * stage.objective.rows_read * min(max(step - done, 0), steps)
            done += steps
        return flops

    @property
    def flops(self) -> float:
        """Of training on the new domain."""
        return self.flops_after(sum(self.stage_steps))

    def pauses(self) -> list[int]:
        """Steps after which the model is evaluated, in order: the budget's, every stage's end, those of `keep_at`."""
        total, ends = sum(self.stage_steps), accumulate(self.stage_steps)
        even = [round(total * (i + 1) / self.budget.evaluations) for i in range(self.budget.evaluations)]
        return sorted({*(self.budget.evaluate_at or even), *ends, *self.keep_at} - {0})

    @property
    def ranks(self) -> tuple[int, int]:
        """This process's rank and the number of processes, as torchrun sets them."""
        return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))

    @cached_property
    def origin(self) -> str:
        """Hash of the checkpoint that it begins at; taken once, since a long run may outlive the folder."""
        return content_hash(self.init, self.init_pickle)

    def fingerprint(self) -> str:
        """Hash of what a resolved run computes, rounding apart: others may go on by other means, such as processes."""
        content = {k: v for k, v in describe(self, whole=False).items() if k not in (*WHERE, *MEANS)}
        content["processes"] = min(self.processes, 1)
        content["compile"] = Compile.never  # one of the means as well, told as when labels had it
        if self.processes > 1:
            content["threads"] = resolve_threads(0, self.flops / sum(self.stage_steps), 1)
        content["corpus"] = {k: v for k, v in content["corpus"].items() if k not in (*WHERE, *MEANS)}
        if self.init:  # it says where, as the tokenizer there does, and counts as what lies there
            content["init"] = self.origin
            content["corpus"].pop("tokenizer", None)
        return digest(content)

    @property
    def trunk(self) -> Path:
        """The folder that it is forked from."""
        return path_of("fork", self.fork)

    @property
    def label(self) -> str:
        return f"{self.corpus.name}-{self.regime.name}-seed{self.seed}-{self.fingerprint()[:8]}"

    @property
    def folder(self) -> Path:
        return path_of("out", (self.out or "runs/*").replace("*", self.label))

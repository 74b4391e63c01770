"""Stages and regimes: which objective, in which order, for how long, at which learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from ablate.core.storage import LATER
from ablate.core.validation import require, require_name
from ablate.noise.options import NO_WARMUP, Phase
from ablate.objectives.problem import Objective


class OptimizerState(StrEnum):
    """What a stage begins with: fresh AdamW moments, or those of the stage before."""

    reset = "reset"
    keep = "keep"


class Decay(StrEnum):
    """ModelConfig of the learning rate after its warmup; `linear` and `cosine` end at 0."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


@dataclass
class MaskWarmup:
    """Rising mask rates at the start of a stage (Stable-DiffCoder): t ~ U(0, u_max), u_max from u_init to 1 in S steps.

    share: S as a share of the stage's steps; `steps`, where not 0, overrides it; both 0 mean no warmup. cap: is the
    rate capped? drop_weight: do hidden tokens weigh 1 meanwhile? clip: are the objective's clip and guard on meanwhile?
    Raises ValueError for values out of range.
    """

    share: float = 0.0
    steps: int = 0
    u_init: float = 1e-3
    cap: bool = True
    drop_weight: bool = True
    clip: bool = False

    def __post_init__(self) -> None:
        for name, holds, wanted, example in (
            ("share", 0 <= self.share <= 1, "0..1", 0.01),
            ("steps", 0 <= self.steps < 2**31, "0 (from share) or more, below 2**31", 0),
            ("u_init", 0 < self.u_init <= 1, "more than 0 and at most 1", 1e-3),
        ):
            key = f"mask_warmup.{name}"
            require(key, getattr(self, name), holds, wanted, example, f"regime.stages.0.{key}")

    def phase(self, step: int, steps: int) -> Phase:
        """What it makes of the noise of step `step` (from 0) of a stage of `steps`."""
        length = self.steps or round(self.share * steps)
        if step >= length:
            return NO_WARMUP
        cap = self.u_init + (1 - self.u_init) * step / length if self.cap else 1.0
        return Phase(cap, not self.drop_weight, self.clip)


@dataclass
class Stage:
    """A stretch of training under one objective.

    share: of the budget's steps; `steps`, where not 0, overrides it. lr: peak learning rate. warmup: steps over which
    the learning rate rises linearly. clip_norm: gradients of a larger norm are scaled down to it. mask_warmup: of the
    noise, which an objective without noise cannot have. until: of a base model, which is trained for its
    steps, or twice, four times, eight times as many, each round by this schedule, until its excess bits on the general
    domain are no more; 0: one round. noise: number of the draw of what is masked, for arms that differ in chance alone.
    Raises ValueError for values out of range.
    """

    objective: Objective
    share: float = 1.0
    steps: int = 0
    lr: float = 1e-3
    warmup: int = 50
    decay: Decay = Decay.constant
    optimizer: OptimizerState = OptimizerState.reset
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    mask_warmup: MaskWarmup = field(default_factory=MaskWarmup)
    until: float = field(default=0.0, metadata=LATER)
    noise: int = field(default=0, metadata=LATER)

    def __post_init__(self) -> None:
        self.decay, self.optimizer = Decay(self.decay), OptimizerState(self.optimizer)
        for name, holds, wanted in (
            ("share", 0 <= self.share <= 1, "0..1"),
            ("steps", 0 <= self.steps < 2**31, "0 (from share) or more, below 2**31"),
            ("lr", 0 < self.lr < math.inf, "more than 0"),
            ("warmup", 0 <= self.warmup < 2**31, "0 or more steps, below 2**31"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("clip_norm", self.clip_norm > 0, "more than 0"),
            ("until", 0 <= self.until < math.inf, "0 or more bits"),
            ("noise", 0 <= self.noise < 2**31, "0 or more, below 2**31"),
        ):
            example = f"{Stage.__dataclass_fields__[name].default}, or the key of the stage that is meant"
            require(f"{name} of a stage", getattr(self, name), holds, wanted, example, f"regime.stages.0.{name}")
        if (self.mask_warmup.share or self.mask_warmup.steps) and not self.objective.noisy:
            raise ValueError(
                f"mask_warmup of a stage of {self.objective.label}: it draws no mask rate that could rise; type "
                "regime.stages.0.mask_warmup.share=0, or the key of the stage that is meant"
            )

    @property
    def depends_on_length(self) -> bool:
        """Do its first steps depend on how many there are?"""
        return self.decay is not Decay.constant or (self.mask_warmup.share > 0 and not self.mask_warmup.steps)

    def phase(self, step: int, steps: int) -> Phase:
        """What the stage's warmup makes of the noise of step `step` (from 0) of `steps`."""
        return self.mask_warmup.phase(step, steps)

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step `step` (from 0) of `steps`."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        left = 1 - (step - self.warmup) / max(steps - self.warmup, 1)
        factor = {Decay.constant: 1.0, Decay.linear: left, Decay.cosine: 0.5 - 0.5 * math.cos(math.pi * left)}
        return self.lr * factor[self.decay]


@dataclass
class Regime:
    """An order of learning: the stages that follow the base model. Raises ValueError for illegal combinations."""

    name: str
    stages: list[Stage]

    def __post_init__(self) -> None:
        require_name("regime.name", self.name)
        if not self.stages:
            raise ValueError(f"regime {self.name}: wanted at least one stage, got none")
        shares = sum(stage.share for stage in self.stages if not stage.steps)
        if shares > 1 + 1e-9:
            raise ValueError(
                f"regime.stages: wanted shares of the budget that add up to 1 or less, got {shares:g}; "
                "lower a share or give stages their own steps"
            )
        if self.stages[0].optimizer is OptimizerState.keep:
            raise ValueError(
                "regime.stages.0.optimizer=keep: the base model is cached as weights alone, so its optimizer state "
                "does not exist; use regime.stages.0.optimizer=reset"
            )

    def steps(self, total: int) -> list[int]:
        """Steps of each stage when the budget allows `total`: rounded ends, so that shares of 1 fill it exactly."""
        ends, reached = [0], 0.0
        for stage in self.stages:
            reached += stage.share
            ends.append(round(total * reached))
        return [stage.steps or b - a for stage, a, b in zip(self.stages, ends[:-1], ends[1:], strict=True)]

"""The choices that a mask is drawn by, and its address. Light: configurations are made of these, without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np


@dataclass(frozen=True)
class BatchAddress:
    """Address of some rows of a global batch: the noise of a row depends on this and on nothing else.

    redraw: number of the masks that are drawn at the same levels; training draws them once. ahead: steps whose noise is
    made at once, as they will be asked for one after another; it changes no number.
    """

    seed: int
    step: int
    indices: np.ndarray
    global_batch: int
    redraw: int = 0
    ahead: int = 1

    @property
    def sample_numbers(self) -> np.ndarray:
        """Sample numbers counted over the whole training run."""
        return self.step * self.global_batch + self.indices

    @property
    def whole_batch(self) -> BatchAddress:
        """All rows of the same global batch."""
        return replace(self, indices=np.arange(self.global_batch))

    def following(self, steps: int) -> BatchAddress:
        """The same rows of this step and those after it, so many in all: indices count on."""
        counted = np.arange(steps)[:, None] * self.global_batch + self.indices
        return replace(self, indices=counted.ravel(), ahead=1)


@dataclass(frozen=True)
class Phase:
    """What a warmup makes of the noise at one step.

    cap: levels are drawn from (0, cap]. weighted: else every hidden token counts 1. clipped: are clip and guard on?
    """

    cap: float = 1.0
    weighted: bool = True
    clipped: bool = True


NO_WARMUP = Phase()  # no warmup


class Strata(StrEnum):
    """How levels are spread over the global batch: independently, a stratum each and permuted, or a stratum each in
    the order of rows and blocks, which ties the level to the place (a flaw of published code, kept to be measured)."""

    none = "none"
    permuted = "permuted"
    in_order = "in_order"


class MaskSampling(StrEnum):
    """How a block is masked: each token at rate u; N ~ Uniform{1..n} of its n tokens; or its last N of them."""

    rate = "rate"
    count = "count"  # type: ignore[assignment]  # hides str.count, which no mask sampling needs
    suffix = "suffix"


class Guard(StrEnum):
    """What happens to a block without a masked token: nothing; one token is masked, chosen uniformly; masks are drawn
    until there is one; or there is a second copy in which the first one's visible tokens are masked."""

    none = "none"
    force = "force"
    resample = "resample"
    complementary = "complementary"


class Clip(StrEnum):
    """How rates of a block too low to mask anything are avoided: not at all; max(u, 1/size), which puts an atom there
    (Stable-DiffCoder); or u ~ U(1/size, 1)."""

    none = "none"
    atom = "atom"
    interval = "interval"


class Per(StrEnum):
    """What one level rules."""

    block = "block"
    sequence = "sequence"


class Denominator(StrEnum):
    """What a loss is divided by: all scorable tokens; the masked tokens of the global batch, so that its scale depends
    on the batch; or each sequence by its own masked tokens, then the mean."""

    all = "all"
    masked = "masked"
    sequence = "sequence"


RULES = ("1/t", "1/q", "1/realised", "1")  # what a hidden token weighs, see `ablate.noise.masking.WEIGHTS`

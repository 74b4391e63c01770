"""Training objectives. They differ only in `pose`: what the network reads and what it is scored on.

Shapes: B rows of this process and micro-batch, L positions. Position 0 of a sequence is given: it is never masked
and never scored, under any objective, so that every arm is charged for the same L - 1 tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ablate.attention import Attention
from ablate.schedule import Linear, NoiseSchedule
from ablate.seeds import generator, uniform

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Address of some rows of a global batch: the noise of a row depends on this and on nothing else."""

    seed: int
    step: int
    indices: np.ndarray
    global_batch: int

    @property
    def addresses(self) -> np.ndarray:
        """Sample numbers counted over the whole training run."""
        return self.step * self.global_batch + self.indices


@dataclass(frozen=True)
class Problem:
    """What the network reads and what its outputs are scored on.

    inputs_BL: int64. attention: the pattern of the pass. targets_BL: int64, the token that output i predicts.
    weight_BL: float32; 0 where nothing is scored. The loss is sum(weight * cross-entropy) / (global batch * (L - 1)).
    """

    inputs_BL: Tensor
    attention: Attention
    targets_BL: Tensor
    weight_BL: Tensor


@dataclass
class Objective(ABC):
    """A training objective. With `shift`, output i - 1 predicts token i, as in an AR model; else output i does."""

    attention: Attention
    shift: bool

    def __post_init__(self) -> None:
        self.attention = Attention(self.attention)

    @abstractmethod
    def pose(self, tokens_BL: Tensor, rows: Rows, mask_id: int) -> Problem:
        """The problem that these rows pose. Noise is addressed by `rows`, so it is independent of devices."""

    def aligned(self, inputs_BL: Tensor, targets_BL: Tensor, weight_BL: Tensor) -> Problem:
        """Problem whose targets and weights, given per token, stand at the outputs that predict them."""
        if self.shift:  # position 0 has weight 0, so nothing wraps around
            targets_BL, weight_BL = targets_BL.roll(-1, dims=1), weight_BL.roll(-1, dims=1)
        return Problem(inputs_BL, self.attention, targets_BL, weight_BL)

    @property
    def left_to_right(self) -> bool:
        """True if one pass over clean tokens predicts each from its left alone."""
        return self.attention is Attention.causal and self.shift


@dataclass
class Autoregressive(Objective):
    """Next-token prediction: each token from the tokens to its left; weight 1."""

    attention: Attention = Attention.causal
    shift: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.left_to_right:
            raise ValueError(
                f"Autoregressive(attention={self.attention}, shift={self.shift}): it reads the left only, so attention "
                "must be causal and shift true; for other patterns use a masked-diffusion regime such as regime=bidllm"
            )

    def pose(self, tokens_BL: Tensor, rows: Rows, mask_id: int) -> Problem:
        import torch

        weight_BL = torch.ones_like(tokens_BL, dtype=torch.float32)
        weight_BL[:, 0] = 0
        return self.aligned(tokens_BL, tokens_BL, weight_BL)


@dataclass
class MaskedDiffusion(Objective):
    """Masked diffusion: tokens are hidden independently at rate m(t) and predicted from what is left.

    One t a sequence, stratified over the global batch and then permuted (in order, strata would tie t to the row).
    The weight is derived from the schedule; the mean weight of a token is 1 (Sahoo et al., 2024; Shi et al., 2024).
    With attention="causal" this is the paper's ARDLLM, with "full" its BiDLLM.
    """

    attention: Attention = Attention.full
    shift: bool = True
    schedule: NoiseSchedule = field(default_factory=Linear)

    def pose(self, tokens_BL: Tensor, rows: Rows, mask_id: int) -> Problem:
        import torch

        t_B1 = times(rows)[:, None]
        draws_BL = uniform(rows.seed, "mask", rows.addresses, tuple(tokens_BL.shape[1:]))
        hidden_BL = draws_BL < self.schedule.mask_rate(t_B1)
        hidden_BL[:, 0] = False
        weight_BL = torch.where(hidden_BL, self.schedule.weight(t_B1), 0.0).float()
        device = tokens_BL.device
        inputs_BL = tokens_BL.masked_fill(hidden_BL.to(device), mask_id)
        return self.aligned(inputs_BL, tokens_BL, weight_BL.to(device))


def times(rows: Rows) -> Tensor:
    """t in (0, 1] for each row, float64: one stratum a row of the global batch, the strata permuted."""
    import torch

    strata = generator(rows.seed, "strata", rows.step).permutation(rows.global_batch)[rows.indices]
    offsets_B = uniform(rows.seed, "time", rows.addresses)
    return (torch.from_numpy(strata) + 1.0 - offsets_B) / rows.global_batch

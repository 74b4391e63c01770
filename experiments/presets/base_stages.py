"""Base models by name: as what the general domain was learned before a regime begins."""

from __future__ import annotations

from ablate.noise.options import MaskSampling
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.in_turn import InTurn
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.regime import Decay, Stage

RATE = 2e-3
KNOWN = 0.05  # excess bits
# All with shift: what an output predicts must not depend on the attention that it is read with. Masks by count have the
# loss of masks at random rates in the mean, and less variance. They seldom hide all that follows a token, as decoding
# from left to right does; suffix masks do. The rate ends at 0 in each round: what is looked at is not its noise.
MASKS = (MaskSampling.count, MaskSampling.suffix)
MASKED = [MaskedDiffusion(mask_sampling=sampling) for sampling in MASKS]
MIXED = InTurn([Autoregressive(), *MASKED, BlockDiffusion(4, shift=True)])
BASES = {
    "ar": Stage(Autoregressive(), lr=RATE),
    "bidllm": Stage(MaskedDiffusion(), lr=RATE),
    "mixed": Stage(MIXED, lr=RATE, decay=Decay.linear, until=KNOWN),
}

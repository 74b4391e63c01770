"""Regimes by name: the order of objectives, which is what the experiment varies."""

from __future__ import annotations

from ablate.model.attention import Attention
from ablate.noise.options import Clip, Guard, MaskSampling
from ablate.noise.schedules import Cap
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.problem import Objective
from ablate.objectives.regime import OptimizerState, Regime, Stage

SWITCH = 100 / 135  # of the steps: the paper switches at 100k of 135k

AR = Autoregressive
ARDLLM, BIDLLM = (lambda: MaskedDiffusion(Attention.causal)), (lambda: MaskedDiffusion(Attention.full))


def block(size: int) -> BlockDiffusion:
    """The paper's: rates clipped at 1/size, one token masked by force where none is, no shift."""
    return BlockDiffusion(size, clip=Clip.atom, guard=Guard.force)


def switched(name: str, first: Objective, *later: Objective) -> Regime:
    """Stages that share what the first leaves; a change of objective starts fresh moments and a warmup, as base to
    first stage does in every arm."""
    share, stages = (1 - SWITCH) / len(later), [Stage(first, SWITCH)]
    for objective in later:
        same = objective == stages[-1].objective
        stages.append(Stage(objective, share, **{"optimizer": OptimizerState.keep, "warmup": 0} if same else {}))
    return Regime(name, stages)


# First the paper's arms. Then small blocks: the recipe's own path and growing ones, without shift from the first block
# on, so that outputs change what they predict once. Then arms that separate attention,
# mask sampling and number of supervised tokens, which AR and masked diffusion change all at once.
REGIMES = {
    r.name: r
    for r in (
        switched("ar", AR(), AR()),
        switched("ardllm", ARDLLM(), ARDLLM()),
        switched("bidllm", BIDLLM(), BIDLLM()),
        switched("ar_to_bidllm", AR(), BIDLLM()),
        switched("ardllm_to_bidllm", ARDLLM(), BIDLLM()),
        switched("ar_to_block", AR(), block(4)),
        switched("block_to_bidllm", block(4), MaskedDiffusion(shift=False)),
        switched("ar_to_block_to_bidllm", AR(), block(4), block(8), MaskedDiffusion(shift=False)),
        switched("ar_half_loss", AR(loss_share=0.5), BIDLLM()),
        switched("ar_masked_input", AR(input_mask=0.15), BIDLLM()),
        switched("bidir_suffix", MaskedDiffusion(mask_sampling=MaskSampling.suffix), BIDLLM()),
        switched("lowcap", MaskedDiffusion(schedule=Cap(0.1)), BIDLLM()),
        switched("r2l_ar", AR(Attention.anticausal), BIDLLM()),
    )
}

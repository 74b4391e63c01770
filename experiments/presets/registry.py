"""The only place where a name meets a thing: regimes, corpora, models and budgets by name, each with what it is."""

from __future__ import annotations

from typing import Any

from ablate.model.attention import Attention
from ablate.noise.options import Clip, Guard, MaskSampling
from ablate.noise.schedules import Cap
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.problem import Objective
from ablate.objectives.regime import OptimizerState, Regime, Stage
from ablate.text.corpora import PythonSource, Text
from ablate.training.budget import Budget
from experiments.presets.followup_studies import STUDIES
from experiments.presets.model_sizes import MODELS
from experiments.presets.search_spaces import SWEEPS
from synthetic_data import Arithmetic, Facts, Noisy, Programs, Trace

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
# sampler of masks and number of supervised tokens, which AR and masked diffusion change all at once.
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
NOISY = Noisy()
NOISY.domain = NOISY.split = None  # left to the world inside, so that its own keys are heeded
WORLDS = (Trace(), Arithmetic(), Facts(), Programs(), NOISY)
CORPORA: dict[str, Any] = {corpus.name: corpus for corpus in (*WORLDS, PythonSource(), Text())}
BUDGETS = {
    "default": Budget(),
    "long": Budget(base_tokens=12_000_000, tokens=16_000_000, evaluations=32),
    "study": Budget(base_tokens=250_000, tokens=500_000, evaluations=12, questions=32, contexts=64),
    "smoke": Budget(base_tokens=60_000, tokens=120_000, evaluations=2, questions=8, contexts=16, every=5),
}
GROUPS: dict[str, dict[str, Any]] = {
    "regime": REGIMES,
    "corpus": CORPORA,
    "model": MODELS,
    "budget": BUDGETS,
    "study": STUDIES,
    "sweep": SWEEPS,
}
DEFAULTS = {
    "regime": "ar_to_bidllm",
    "corpus": "trace",
    "model": "tiny",
    "budget": "default",
    "study": "regimes",
    "sweep": "block_and_warmup",
}


def context_samplers() -> dict[str, Any]:
    """Laws of contexts by name: what objectives show in training, and AR, which is also decoding token by token."""
    from ablate.evaluation.contexts import Blocks, RandomMasks, Suffix  # loads torch

    return {
        "AR": Blocks(1),
        "AR backwards": Blocks(1, backwards=True),
        "suffix masks": Suffix(),
        **{f"block {size}": Blocks(size) for size in (2, 4, 8, 16, 32)},
        "random masks": RandomMasks(),
        "random masks, causal": RandomMasks(causal=True),
        **{f"random masks, t <= {cap:g}": RandomMasks(0.0, cap) for cap in (0.1, 0.5)},
    }

"""Up to which rate a second stage learns: what the paper's warmup of mask rates is for.

Arms leave one AR trunk. Gradients are clipped in no stage, since a clip would hide what the warmup is there for. The
grid was chosen on development seed 100: at 8e-3 no arm knew anything in the end, and no loss was infinite even at
3.2e-2, so what fails is knowledge: an arm learns where it ends nearer to the oracle than chance is.
"""

from __future__ import annotations

from ablate.studies.design import Setting, Study
from experiments.presets.order_studies import WORDS, WORLDS
from experiments.presets.studies import WARMUPS, arm, second

SEEDS = list(range(380, 388))
WORLD = 4  # number of the trace
RATES = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
LATER = 400  # steps of the second stage
SHARE = 0.25  # of them, with a warmup: 100 steps


def warmed(cap: bool, drop: bool) -> list[str]:
    """Words of a warmup over SHARE of the second stage."""
    said = {"share": SHARE, "cap": str(cap).lower(), "drop_weight": str(drop).lower()}
    return [f"regime.stages.1.mask_warmup.{key}={value}" for key, value in said.items()]


WAYS = {
    "none": [],
    **{name: warmed(*parts) for name, parts in WARMUPS.items()},  # both: the paper's
    "attention": second(mask_sampling="suffix"),  # full attention, and the masks of AR
    "masks": second(attention="causal"),  # the attention of AR, and random masks
}
STABILITY = Study(
    name="stability",
    question="Up to which rate does a second stage of masked diffusion learn, with which part of the paper's warmup, "
    "and is it the attention or the masks that makes it fail? (exploratory)",
    arms=[
        arm("ar_to_bidllm", *words, f"regime.stages.1.lr={rate:g}", name=f"{name}_lr_{rate:g}")
        for name, words in WAYS.items()
        for rate in RATES
    ],
    seeds=SEEDS,
    predictions=[f"ST{i}" for i in range(1, 6)],
    conditions=[Setting("trace", list(WORLDS["trace"].words))],
    words=[
        *WORDS,
        f"corpus.world={WORLD}",
        f"regime.stages.0.steps={WORLDS['trace'].switch}",
        f"regime.stages.1.steps={LATER}",
        f"budget.evaluate_at=[{WORLDS['trace'].switch},{WORLDS['trace'].switch + LATER}]",
        "budget.decoding=[]",
        *(f"regime.stages.{i}.clip_norm=1e9" for i in (0, 1)),  # beyond what any gradient has
    ],
    fork=True,
    cost="20 minutes on one core",
)

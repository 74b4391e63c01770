"""Studies that others gave rise to: reasons for what was refuted, and confirmation of what a sweep found."""

from __future__ import annotations

from ablate.studies.design import Setting, Study
from experiments.presets.atlas_studies import ADMISSION, ATLAS_RATES, MEASURED
from experiments.presets.block_studies import BLOCK_SIZES
from experiments.presets.dial_studies import DIALS
from experiments.presets.noise_studies import SCHEDULES
from experiments.presets.order_studies import ORDER, ORDER_LONG, ORDER_PYTHON, ORDER_RATES
from experiments.presets.stability_study import STABILITY
from experiments.presets.stale_study import STALE
from experiments.presets.studies import (
    COMMON,
    FACTS,
    FIRST,
    FRESH,
    LONG_TRACE,
    SHIFTED,
    arm,
    rate,
    second,
)
from experiments.presets.switch_studies import AGAIN, SPLIT, SPLIT_RATES
from experiments.presets.twin_studies import TWIN, TWIN_FLOPS, TWIN_RATES, TWIN_RATES_WIDE

# `regimes` refuted a signature of the paper: before the switch AR decoded blocks of 32 better than diffusion did.
FOLLOW_UP = Study(
    name="followup",
    question="Before the switch AR was ahead at block 32, where the paper has diffusion ahead: is the budget too "
    "small, or is it the logit shift of diffusion?",
    arms=[arm("ar_to_bidllm"), arm("bidllm")],
    seeds=FRESH[:4],
    predictions=["F1", "F2"],
    conditions=[Setting("budget_3x", [*FACTS, "budget.tokens=1500000"]), Setting("no_shift", FACTS)],
    cells=[
        Setting("no_shift/ar_to_bidllm", second(shift="false")),
        Setting("no_shift/bidllm", ["regime.stages.0.objective.shift=false", *second(shift="false")]),
    ],
    words=COMMON,
    cost="8 minutes on 2 cores",
)

PAPERS_BLOCKS = second(size=4, clip="atom", guard="force")  # without shift, as arm `ar_to_block` has it


def block_warmup(share: float) -> list[str]:
    """The paper's warmup of mask rates over this share of the second stage."""
    return [f"regime.stages.1.mask_warmup.share={share:g}"]


CONFIRM = Study(
    name="confirm",
    question="Is the best of 40 trials of the sweep block_and_warmup (results/block_and_warmup) better than the "
    "paper's setting, on seeds that the sweep has not seen?",
    arms=[
        arm("ar_to_block", *words, name=name)
        for name, words in {
            "paper": [*PAPERS_BLOCKS, *block_warmup(0.1), *rate(1e-3)],
            "paper_shift_rate": [*PAPERS_BLOCKS, *SHIFTED, *block_warmup(0.1), *rate(0.00436)],
            "best": [*second(size=16, clip="atom", guard="force"), *SHIFTED, *block_warmup(0.367), *rate(0.00436)],
        }.items()
    ],
    seeds=FRESH,
    predictions=["B1", "B2"],
    conditions=[Setting("long_trace", LONG_TRACE)],
    words=[*COMMON, "budget.tokens=400000", "budget.evaluations=6"],
    cost="6 minutes on 2 cores",
)
FURTHER = (
    FOLLOW_UP,
    CONFIRM,
    ORDER_RATES,
    ORDER,
    ORDER_LONG,
    ORDER_PYTHON,
    AGAIN,
    SPLIT_RATES,
    SPLIT,
    TWIN_RATES,
    TWIN_RATES_WIDE,
    TWIN,
    TWIN_FLOPS,
    ATLAS_RATES,
    ADMISSION,
    MEASURED,
    SCHEDULES,
    STABILITY,
    STALE,
    BLOCK_SIZES,
    *DIALS,
)
STUDIES = {study.name: study for study in (*FIRST, *FURTHER)}

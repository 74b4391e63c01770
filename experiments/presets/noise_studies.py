"""Ways out of blocks without a signal, for several block sizes: arms that leave one AR trunk, on the world of `order`.

Exploratory: all arms have the rates that `order_rates` found for AR first after an AR base, none has its own.
"""

from __future__ import annotations

from ablate.studies.design import Setting, Study
from experiments.presets import order_studies
from experiments.presets.order_studies import WORDS, WORLDS, rates
from experiments.presets.studies import GUARDED, arm, second

SEEDS = list(range(364, 380))
WORLD = 3  # number of the trace
SIZES = (2, 4, 8)
WAYS = {
    "none": GUARDED["plain"],
    "clip": GUARDED["clip"],
    "force": GUARDED["force"],  # weighed by 1/q: unbiased
    "clip_force": GUARDED["both"],  # the paper's
    "count": second(clip="none", guard="none", mask_sampling="count"),
    "interval": second(clip="interval", guard="none"),
    "complementary": second(clip="none", guard="complementary"),  # two copies of each block: twice the rows
}
SCHEDULES = Study(
    name="schedules",
    question="Which way out of blocks without a signal is best: clip, force, a count, an interval, complementary "
    "pairs, and does it depend on the block size? (exploratory)",
    arms=[arm("ar_to_block", *second(shift="true"), *words, name=name) for name, words in WAYS.items()],
    seeds=SEEDS,
    predictions=["N1", "N2", "N3"],
    conditions=[
        Setting(f"size_{size}", [*second(size=size), f"budget.block_sizes=[1,{size}]", f"corpus.world={WORLD}"])
        for size in SIZES
    ],
    words=[
        *WORDS,
        *WORLDS["trace"].words,
        *WORLDS["trace"].steps(order_studies.LENGTHS["4x"]),
        *rates(*order_studies.RATES["trace_ar-ar_to_bidllm"]),
    ],
    fork=True,
    cost="not run yet",
)

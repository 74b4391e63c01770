"""Which block size to train with, and which to decode in, by arms that leave one AR trunk and know the task.

The shift is kept, so that no arm has to learn anew what its outputs predict. Chosen on `dial_block`: after 150 steps AR
has about an eighth of what knowing nothing costs, and blocks of 4 know the task after 600. Exploratory: rates are those
of `rates`.
"""

from __future__ import annotations

from ablate.studies.design import Setting, Study
from experiments.presets.order_studies import rates
from experiments.presets.studies import COMMON, LONG_TRACE, RATES, arm

SEEDS, WORLD = list(range(428, 436)), 6
SWITCH, SECOND = 150, 900  # steps
SIZES = (1, 2, 4, 8, 16, 32)  # of blocks in which all are asked
TRAINED = (2, 4, 8, 32)
FIRST_RATE, SECOND_RATE = RATES["trace", "ar"], RATES["trace", "ar_to_block"]


def stages(*seconds: int) -> list[str]:
    """Words of the steps and rates of an AR trunk and of what follows it."""
    words = [f"regime.stages.0.steps={SWITCH}", *rates(FIRST_RATE, SECOND_RATE)]
    for i, steps in enumerate(seconds, 1):
        words += [f"regime.stages.{i}.steps={steps}", f"regime.stages.{i}.lr={SECOND_RATE:g}"]
    return [*words, f"regime.stages.{len(seconds)}.decay=linear"]


def block(size: int) -> list[str]:
    return [f"regime.stages.1.objective.{key}={value}" for key, value in {"size": size, "shift": "true"}.items()]


GROWING = [f"regime.stages.{i}.objective.shift=true" for i in (1, 2, 3)]
LOOKS = [SWITCH, SWITCH + SECOND // 3, SWITCH + 2 * SECOND // 3, SWITCH + SECOND]
BLOCK_SIZES = Study(
    name="block_sizes",
    question="After one AR trunk: is the block size to train with the one to decode in, and does growing from 4 to the "
    "whole help? (exploratory)",
    arms=[
        *(arm("ar_to_block", *block(size), *stages(SECOND), name=f"block_{size}") for size in TRAINED),
        arm("ar_to_block_to_bidllm", *GROWING, *stages(*[SECOND // 3] * 3), name="growing"),
        arm("ar_to_bidllm", *stages(SECOND), name="whole"),
    ],
    seeds=SEEDS,
    predictions=[f"BS{i}" for i in range(1, 6)],
    conditions=[Setting("long_trace", LONG_TRACE)],
    words=[
        *COMMON,
        f"corpus.world={WORLD}",
        "budget.contexts=128",
        f"budget.block_sizes=[{','.join(map(str, SIZES))}]",
        f"budget.evaluate_at=[{','.join(map(str, LOOKS))}]",
    ],
    fork=True,
    cost="20 minutes on one core, other work beside it",
)

"""Dials: one condition turned at a time, eight settings each, and the sign of what every arm does written beforehand.

`choices` turns K(c) at equal contexts and visits; `unique` turns visits; `block` the decoding block, hence the mismatch
between training and inference; `permuted` turns K of AR's answers and leaves that of masked diffusion as it is.
Learning rates are those of the study `rates`; blocks have masked diffusion's.
"""

from __future__ import annotations

from ablate.studies.design import Setting, Study
from experiments.presets.studies import (
    COMMON,
    LONG_TRACE,
    RATES,
    TRACE,
    arm,
    first_alone,
    rate,
    second,
    second_alone,
)

SEEDS = list(range(500, 508))
STEPS = 600
SWITCHED = [f"regime.stages.0.steps={STEPS}", f"regime.stages.1.steps={STEPS}", "regime.stages.1.decay=linear"]
LOOKS = "budget.evaluate_at=[150,300,600]"


def arms(world: str) -> list[Setting]:
    """AR, masked diffusion, and blocks of 4 with the shift kept, each from the first step to the last."""
    ar, diffusion = (rate(RATES[world, f"{name}bidllm"]) for name in ("ar_to_", ""))
    return [
        arm("ar", *first_alone(STEPS), *ar),
        arm("bidllm", *first_alone(STEPS), *diffusion),
        arm("ar_to_block", *second_alone(STEPS), *second(shift="true"), *diffusion, name="block"),
    ]


def dial(
    name: str, question: str, settings: list[Setting], arms: list[Setting], predictions: list[str], *words: str
) -> Study:
    return Study(
        name=f"dial_{name}",
        question=question,
        arms=arms,
        seeds=SEEDS,
        predictions=predictions,
        conditions=settings,
        words=[*COMMON, *words],
        cost="10 to 20 minutes on one core, other work beside it",
    )


CHOICES = dial(
    "choices",
    "Does each arm know less of contexts with larger K(c), met as often?",
    [Setting(f"choices_{m}", [f"corpus.choices={m}", f"corpus.values={8 * m}"]) for m in range(1, 9)],
    arms("facts"),
    ["D1", "D2", "D3"],
    *("corpus=facts", "corpus.people=60", "corpus.attributes=1", LOOKS),  # knowing nothing costs 3 bits at each setting
)
UNIQUE = dial(
    "unique",
    "Does each arm know more where there are more sequences to see, at as many steps?",
    [Setting(f"unique_{n}", [f"unique={n}"]) for n in (25, 50, 100, 200, 400, 800, 1600, 3200)],
    arms("trace"),
    ["D4", "D5", "D6"],
    *(*TRACE, LOOKS),
)
SIZES = (1, 2, 3, 4, 6, 8, 12, 16)
BLOCK = dial(
    "block",
    "Does each arm know less in blocks farther from those of its training?",
    [Setting("block", [])],
    arms("trace"),
    ["D7", "D8", "D9"],
    *(*LONG_TRACE, f"budget.block_sizes=[{','.join(map(str, SIZES))}]", LOOKS),
)
# Mean entropy in bits of AR's answers, by the oracle, and the permutation that has it (a test computes them).
PLACES = {
    0.0: (0, 0),
    0.66: (0, 2),
    0.98: (7, 6),
    1.3: (3, 16),
    1.66: (0, 6),
    1.97: (13, 14),
    2.16: (13, 16),
    2.63: (10, 14),
}
PERMUTED = dial(
    "permuted",
    "Does AR first lose what it gains where answers stand before what decides them?",
    [
        Setting(f"bits_{bits:g}", [f"corpus.order={order}", f"corpus.swaps={swaps}"])
        for bits, (order, swaps) in PLACES.items()
    ],
    [arm(regime, *SWITCHED, *rate(RATES["trace", regime])) for regime in ("ar_to_bidllm", "bidllm")],
    ["D10", "D11"],
    *("corpus=permuted", "corpus.corpus.operations=5", "corpus.corpus.new_operators=12"),
    "base=bidllm",  # its contexts are the same in any order; one trained by AR would know less where entropies rise
    "budget.evaluate_at=[300,600,750,900,1200]",
)
DIALS = (CHOICES, UNIQUE, BLOCK, PERMUTED)

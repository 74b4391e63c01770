"""Dials: one condition turned at a time, eight settings each, and the sign of what every arm does written beforehand.

`choices` turns K(c) at equal contexts and visits; `unique` turns visits; `block` the decoding block, hence the mismatch
between training and inference; `permuted` turns K of AR's answers and leaves that of masked diffusion as it is.
Learning rates are those of the study `rates`.
"""

from __future__ import annotations

from ablate.studies.design import Setting, Study
from experiments.presets.studies import COMMON, LONG_TRACE, RATES, TRACE, arm, rate

SEEDS = list(range(500, 508))
STEPS = 600
ALONE = [f"regime.stages.0.steps={STEPS}", "regime.stages.1.steps=0", "regime.stages.1.share=0"]  # one stage
SWITCHED = [f"regime.stages.0.steps={STEPS}", f"regime.stages.1.steps={STEPS}", "regime.stages.1.decay=linear"]
LOOKS = "budget.evaluate_at=[150,300,600]"


def arms(world: str, *words: str) -> list[Setting]:
    """AR, masked diffusion, and blocks of 4 with the shift kept, each from the first step to the last."""
    ar, diffusion = (rate(RATES[world, f"{name}bidllm"]) for name in ("ar_to_", ""))
    return [
        arm("ar", *words, *ar),
        arm("bidllm", *words, *diffusion),
        arm("block_to_bidllm", "regime.stages.0.objective.shift=true", *words, *diffusion, name="block"),
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
        cost="not run yet",
    )


CHOICES = dial(
    "choices",
    "Does each arm know less of contexts with larger K(c), met as often?",
    [Setting(f"choices_{m}", [f"corpus.choices={m}"]) for m in range(1, 9)],
    arms("facts", *ALONE),
    ["D1", "D2", "D3"],
    *("corpus=facts", "corpus.people=60", "corpus.attributes=1", "corpus.values=32", LOOKS),
)
UNIQUE = dial(
    "unique",
    "Does each arm know more where there are more sequences to see, at as many steps?",
    [Setting(f"unique_{n}", [f"unique={n}"]) for n in (25, 50, 100, 200, 400, 800, 1600, 3200)],
    arms("trace", *ALONE),
    ["D4", "D5", "D6"],
    *(*TRACE, LOOKS),
)
SIZES = (1, 2, 3, 4, 6, 8, 12, 16)
BLOCK = dial(
    "block",
    "Does each arm know less in blocks farther from those of its training?",
    [Setting("block", [])],
    arms("trace", *ALONE),
    ["D7", "D8", "D9"],
    *(*LONG_TRACE, f"budget.block_sizes=[{','.join(map(str, SIZES))}]", LOOKS),
)
PERMUTED = dial(
    "permuted",
    "Does AR first lose what it gains where answers stand before what decides them?",
    [Setting(f"swaps_{n}", [f"corpus.swaps={n}"]) for n in (0, 1, 2, 3, 4, 6, 8, 12)],
    [arm(regime, *SWITCHED, *rate(RATES["trace", regime])) for regime in ("ar_to_bidllm", "bidllm")],
    ["D10", "D11"],
    *("corpus=permuted", "corpus.corpus.operations=5", "corpus.corpus.new_operators=12", "base=mixed", "base.until=0"),
    *("budget.evaluate_at=[300,600,750,900,1200]",),
)
DIALS = (CHOICES, UNIQUE, BLOCK, PERMUTED)

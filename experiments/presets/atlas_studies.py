"""Atlas: many small worlds of five families, and on each what AR and masked diffusion pay while they learn it.

A world is a unit. Which worlds are admitted, and one learning rate for each objective, come from development seeds and
development worlds.

Written before any data of `atlas` and `atlas_admission`; faulty rows of `atlas_rates`, since taken back, were seen.
A1 (primary): what a table over the vocabulary expects correlates with the measured log ratio of costs also given what
visits alone expect (partial rank correlation within families, 95 % interval above 0). It differs from visits alone by
what is uncertain in the beginning: log2 V - H.
A2: it correlates with it (interval above 0).
A3: it correlates more than K alone, entropy, steps of computation, length and vocabulary do (point estimates).
A4: what the null theory's table expects, which knows C(c) and pays about (K-1)/(2n), correlates with it also given what
visits alone expect (interval above 0). This is where K(c) itself would show.
"""

from __future__ import annotations

from ablate.studies.design import Study
from experiments.presets.atlas_worlds import ATLAS, TO_DEVELOP
from experiments.presets.studies import COMMON, DEVELOPMENT, arm, first_alone, rate

HORIZON = 600  # steps
LOOKS = (38, 75, 150, 300, 600)  # steps at which it is asked
SEEDS = [400, 401, 402]
OBJECTIVES = ("ar", "bidllm")
RATES_TRIED = (5e-4, 1e-3, 2e-3, 4e-3)
WORDS = [
    *COMMON,
    *first_alone(HORIZON),
    "base=mixed",
    "base.until=0",  # no criterion: on some worlds it would take long
    f"budget.evaluate_at=[{','.join(map(str, LOOKS))}]",
    "budget.block_sizes=[1]",
    "budget.decoding=[]",
    "budget.questions=8",
    "budget.contexts=128",
]
ATLAS_RATES = Study(
    name="atlas_rates",
    question="Which learning rate suits AR and which masked diffusion, over development worlds of every family?",
    arms=[arm(regime, *rate(value), name=f"{regime}_{value:g}") for regime in OBJECTIVES for value in RATES_TRIED],
    seeds=DEVELOPMENT[:1],
    conditions=TO_DEVELOP,
    words=WORDS,
    cost="12 minutes on one core, other work beside it",
)
# Of each objective the rate of atlas_rates with the least outcome of `atlas`, in the geometric mean of worlds (a test
# compares).
CHOSEN = {"ar": 2e-3, "bidllm": 2e-3}


def over_worlds(name: str, question: str, seeds: list[int]) -> Study:
    return Study(
        name=name,
        question=question,
        arms=[arm(regime, *rate(CHOSEN[regime])) for regime in OBJECTIVES],
        seeds=seeds,
        conditions=ATLAS,
        words=WORDS,
        cost="not run yet",
    )


ADMISSION = over_worlds(
    "atlas_admission", "On which worlds of the atlas does AR or masked diffusion learn?", DEVELOPMENT
)
MEASURED = over_worlds("atlas", "What do AR and masked diffusion pay while they learn a world, over 50 of them?", SEEDS)

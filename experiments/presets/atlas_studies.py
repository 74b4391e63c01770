"""Atlas: many small worlds of five families, and on each what AR and masked diffusion pay while they learn it.

A world is a unit. Which worlds are admitted, and one learning rate for each objective, come from development seeds and
development worlds.
"""

from __future__ import annotations

from ablate.studies.design import Study
from ablate.studies.outcomes import Outcome
from experiments.presets.atlas_worlds import TO_DEVELOP
from experiments.presets.studies import COMMON, DEVELOPMENT, arm, rate

HORIZON = 600  # steps
LOOKS = (38, 75, 150, 300, 600)  # steps at which it is asked
SEEDS = [400, 401, 402]
OBJECTIVES = ("ar", "bidllm")
RATES_TRIED = (5e-4, 1e-3, 2e-3, 4e-3)
WHOLE = [f"regime.stages.0.steps={HORIZON}", "regime.stages.1.steps=0", "regime.stages.1.share=0"]
WORDS = [
    *COMMON,
    *WHOLE,
    "base=mixed",
    "base.until=0",  # no criterion: on some worlds it would take long
    f"budget.evaluate_at=[{','.join(map(str, LOOKS))}]",
    "budget.block_sizes=[1]",
    "budget.decoding=[]",
    "budget.questions=8",
    "budget.contexts=128",
]
OUTCOME = Outcome(contexts="ar", block_size=None, split="train")  # mean over training
ATLAS_RATES = Study(
    name="atlas_rates",
    question="Which learning rate suits AR and which masked diffusion, over development worlds of every family?",
    arms=[arm(regime, *rate(value), name=f"{regime}_{value:g}") for regime in OBJECTIVES for value in RATES_TRIED],
    seeds=DEVELOPMENT[:1],
    conditions=TO_DEVELOP,
    words=WORDS,
    cost="not run yet",
)

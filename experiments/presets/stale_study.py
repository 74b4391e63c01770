"""The article's first example, `a=1,b=2,a+b=3;a=3,b=4,a+b=7`: is a stale binding believed while its names bind anew?

Two records of `arithmetic` over two names, one new operator. What was tried on development seed 100: with the bases of
budget=study no model knows `+`; with three digits none learns; with one digit AR learns in 300 steps and masked
diffusion from the first step on in 4,000. All stages have the default rate; no arm has its own. Nothing is carried
over to operand pairs that training does not show, so all questions are of those that it does.
"""

from __future__ import annotations

from ablate.studies.design import Setting, Study
from experiments.presets.studies import COMMON, arm, second

SEEDS = list(range(388, 396))
WORLD = 1
FIRST, TOTAL = 500, 4400  # steps: of AR, where another stage follows; of both stages
LOOKS = (125, 250, 500, 850, 1500, 2500, 3500, TOTAL)


def parted(steps: int) -> list[str]:
    """Words that give the first stage so many steps, the second one the rest."""
    return [f"regime.stages.0.steps={steps}", "regime.stages.0.share=0", f"regime.stages.1.steps={TOTAL - steps}"]


STALE = Study(
    name="stale",
    question="Does learning under random masks leave the belief in a binding that is stale, and does AR first spare "
    "it? (exploratory)",
    arms=[
        arm("ar", *parted(FIRST)),
        arm("bidllm", *parted(FIRST)),
        arm("ar_to_bidllm", *parted(FIRST)),
        arm("ar_to_block", *parted(FIRST), *second(shift="true"), name="block"),
    ],
    seeds=SEEDS,
    predictions=[f"SB{i}" for i in range(1, 6)],
    conditions=[Setting("arithmetic", ["corpus=arithmetic", "corpus.records=2", "corpus.names=2"])],
    words=[
        *COMMON,
        f"corpus.world={WORLD}",
        "corpus.affine=1",
        "corpus.tables=0",
        "budget.base_tokens=4000000",
        f"budget.evaluate_at=[{','.join(map(str, LOOKS))}]",
        "budget.block_sizes=[1,4]",
        "budget.decoding=[]",
        "budget.contexts=256",
    ],
    cost="35 minutes on one core, other work beside it",
)

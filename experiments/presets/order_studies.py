"""The order of learning, judged after the switch, on worlds in which AR is not near the oracle when stages change.

The worlds and the steps of the first stage were chosen under AR alone, on development seeds. A first grid of rates was
run there for every arm after a mixed base: AR-first was best at its edge, with the largest first and the least second
rate, and worst with second rates of 2e-3 and above, so this one is wider below and ends at 1e-3.
"""

from __future__ import annotations

from dataclasses import dataclass

from ablate.studies.design import Setting, Study
from experiments.presets.studies import COMMON, DEVELOPMENT, PAPER

BASES = ("mixed", "ar")
SHARE = 0.35  # of the first stage's steps: the second one's in the paper, 35k after 100k
LONGER = 4  # times the paper's second stage
FIRST_RATES, SECOND_RATES = (5e-4, 1e-3, 2e-3, 4e-3), (2.5e-4, 5e-4, 1e-3)


@dataclass(frozen=True)
class World:
    """Words of its command line, and the steps of the first stage."""

    words: tuple[str, ...]
    switch: int

    @property
    def steps(self) -> list[str]:
        """Words that set the steps of both stages, and those of the probes."""
        later = LONGER * round(SHARE * self.switch)
        looks = [self.switch // 2, *(self.switch + round(later * part) for part in (0.1, 0.25, 0.5, 1))]
        return [
            f"regime.stages.0.steps={self.switch}",
            f"regime.stages.1.steps={later}",
            f"budget.evaluate_at=[{','.join(map(str, looks))}]",
        ]


WORLDS = {
    "trace": World(("corpus=trace", "corpus.operations=5", "corpus.new_operators=96"), 550),
    "facts": World(("corpus=facts", "corpus.people=600", "corpus.attributes=2", "corpus.values=10"), 300),
}
ORDER_RATES = Study(
    name="order_rates",
    question="Which rate of either stage suits each of the paper's arms, by equal trials on development seeds?",
    arms=[
        Setting(f"lr_{a:g}_{b:g}", [f"regime.stages.0.lr={a:g}", f"regime.stages.1.lr={b:g}"])
        for a in FIRST_RATES
        for b in SECOND_RATES
    ],
    seeds=DEVELOPMENT,
    factor=["regime.stages.0.lr", "regime.stages.1.lr"],
    conditions=[
        Setting(f"{name}_{base}-{regime}", [*world.words, *world.steps, f"base={base}", f"regime={regime}"])
        for base in BASES
        for name, world in WORLDS.items()
        for regime in PAPER
    ],
    words=[*COMMON, "budget.contexts=128", "regime.stages.1.decay=linear", "corpus.world=0"],
    fork=True,
    cost="not run yet",
)

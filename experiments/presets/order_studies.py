"""The order of learning, judged after the switch: rates by equal trials, then the three arms beside a sham switch.

Worlds are so large that AR is between a tenth and a half of chance when stages change (seen on the development seeds
under AR alone, before any other arm was run). Development and confirmation share neither seeds nor worlds.
"""

from __future__ import annotations

from dataclasses import dataclass

from ablate.studies.design import Setting, Study
from experiments.presets.studies import COMMON, DEVELOPMENT, PAPER

DEVELOPMENT_WORLD = 0
BASES = ("mixed", "ar")
SHARE = 0.35  # of the first stage's steps: the second one's in the paper, 35k after 100k
LENGTHS = {"1x": 1, "4x": 4}
FIRST_RATES, SECOND_RATES = (5e-4, 1e-3, 2e-3, 4e-3), (2.5e-4, 5e-4, 1e-3, 2e-3)


@dataclass(frozen=True)
class World:
    """Words of its command line, and the steps of the first stage."""

    words: tuple[str, ...]
    switch: int

    def steps(self, times: int) -> list[str]:
        """Words that set the steps of both stages, the second so many times as long as the paper's; they and the probes
        of the second stage do not change the first."""
        later = times * round(SHARE * self.switch)
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
WORDS = [*COMMON, "budget.contexts=128", "regime.stages.1.decay=linear"]


def rates(first: float, second: float) -> list[str]:
    """Words that set the learning rates of both stages."""
    return [f"regime.stages.0.lr={first:g}", f"regime.stages.1.lr={second:g}"]


ORDER_RATES = Study(
    name="order_rates",
    question="Which learning rate of either stage suits each arm of `order`, by equal trials on development seeds?",
    arms=[Setting(f"lr_{a:g}_{b:g}", rates(a, b)) for a in FIRST_RATES for b in SECOND_RATES],
    seeds=DEVELOPMENT,
    factor=["regime.stages.0.lr", "regime.stages.1.lr"],
    conditions=[
        Setting(
            f"{name}_{base}-{regime}", [*world.words, *world.steps(LENGTHS["4x"]), f"base={base}", f"regime={regime}"]
        )
        for base in BASES
        for name, world in WORLDS.items()
        for regime in PAPER
    ],
    words=[*WORDS, f"corpus.world={DEVELOPMENT_WORLD}"],
    fork=True,
    cost="not measured yet",
)

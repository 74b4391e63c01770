"""The order of learning, judged after the switch, on worlds in which AR is not near the oracle when stages change.

The worlds and the steps of the first stage were chosen under AR alone, on development seeds. A first grid of rates was
run there for every arm after a mixed base: AR-first was best at its edge, with the largest first and the least second
rate, and worst with second rates of 2e-3 and above, so this one is wider below and ends at 1e-3.
"""

from __future__ import annotations

from dataclasses import dataclass

from ablate.studies.design import Setting, Study
from experiments.presets.studies import COMMON, DEVELOPMENT, PAPER, PYTHON, arm

DEVELOPMENT_WORLD, CONFIRMATION_WORLD = 0, 1
CONFIRMATION = list(range(300, 332))  # seeds
BASES = ("mixed", "ar")
SHARE = 0.35  # of the first stage's steps: the second one's in the paper, 35k after 100k
LENGTHS = {"1x": 1, "4x": 4}  # times the paper's second stage
FIRST_RATES, SECOND_RATES = (5e-4, 1e-3, 2e-3, 4e-3), (2.5e-4, 5e-4, 1e-3)


@dataclass(frozen=True)
class World:
    """Words of its command line, and the steps of the first stage."""

    words: tuple[str, ...]
    switch: int

    def later(self, times: int) -> int:
        """Steps of a second stage so many times as long as the paper's."""
        return times * round(SHARE * self.switch)

    def steps(self, times: int) -> list[str]:
        """Words that set the steps of both stages, the second so many times as long as the paper's, and those of the
        probes; those of the second stage do not change the first."""
        later = self.later(times)
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
SHAM = [f"regime.stages.1.{word}" for word in ("optimizer=reset", "warmup=50")]  # what a change of objective brings


def rates(first: float, second: float) -> list[str]:
    """Words that set the learning rates of both stages."""
    return [f"regime.stages.0.lr={first:g}", f"regime.stages.1.lr={second:g}"]


def confirming(study: Study, development: Study) -> Study:
    """The study itself. Raises ValueError where it has a seed or a world of its development."""
    seeds = sorted({*study.seeds} & {*development.seeds})
    worlds = {word for word in study.words if word.startswith("corpus.world=")} & {*development.words}
    if seeds or worlds:
        raise ValueError(
            f"study {study.name}: wanted other seeds and worlds than {development.name}, got {seeds or worlds}"
        )
    return study


ORDER_RATES = Study(
    name="order_rates",
    question="Which rate of either stage suits each of the paper's arms, by equal trials on development seeds?",
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
    cost="an hour and a half on 2 cores",
)
# Of each world, base and arm the rates of order_rates with the least excess bits at block size 32 at the end, mean over
# development seeds (a test compares).
RATES: dict[str, tuple[float, float]] = {
    "trace_mixed-ar_to_bidllm": (1e-3, 2.5e-4),
    "trace_mixed-ardllm_to_bidllm": (5e-4, 5e-4),
    "trace_mixed-bidllm": (5e-4, 1e-3),
    "facts_mixed-ar_to_bidllm": (2e-3, 5e-4),
    "facts_mixed-ardllm_to_bidllm": (5e-4, 5e-4),
    "facts_mixed-bidllm": (5e-4, 1e-3),
    "trace_ar-ar_to_bidllm": (2e-3, 5e-4),
    "trace_ar-ardllm_to_bidllm": (5e-4, 5e-4),
    "trace_ar-bidllm": (5e-4, 5e-4),
    "facts_ar-ar_to_bidllm": (2e-3, 5e-4),
    "facts_ar-ardllm_to_bidllm": (1e-3, 2.5e-4),
    "facts_ar-bidllm": (5e-4, 2.5e-4),
}
ARMS = {**{regime: regime for regime in PAPER}, "bidllm_sham": "bidllm"}  # and whose rates they have
ORDER = confirming(
    Study(
        name="order",
        question="Does AR first, then diffusion, know more in the end than causal diffusion first or diffusion "
        "throughout, where the base model favours no reading?",
        arms=[arm(regime, *(SHAM if name not in PAPER else ()), name=name) for name, regime in ARMS.items()],
        seeds=CONFIRMATION,
        predictions=[f"O{i}" for i in range(1, 19)],
        conditions=[
            Setting(f"{name}_{base}_{length}", [*world.words, *world.steps(times), f"base={base}"])
            for base in BASES
            for name, world in WORLDS.items()
            for length, times in LENGTHS.items()
        ],
        cells=[
            Setting(f"{name}_{base}_{length}/{one}", rates(*RATES[f"{name}_{base}-{regime}"]))
            for base in BASES
            for name in WORLDS
            for length in LENGTHS
            for one, regime in ARMS.items()
        ],
        words=[*WORDS, f"corpus.world={CONFIRMATION_WORLD}"],
        fork=True,
        cost="45 minutes on 2 cores for a second stage of 4x after a mixed base, the others not run yet",
    ),
    ORDER_RATES,
)
LONGEST = 16  # times the paper's second stage
ORDER_LONG = Study(
    name="order_long",
    question="Does the order still matter after a second stage 16 times as long as the paper's? (exploratory)",
    arms=[arm(regime) for regime in PAPER],
    seeds=CONFIRMATION[:8],
    predictions=["L1", "L2"],
    conditions=[
        Setting(f"{name}_mixed_{LONGEST}x", [*world.words, *world.steps(LONGEST), "base=mixed"])
        for name, world in WORLDS.items()
    ],
    cells=[
        Setting(f"{name}_mixed_{LONGEST}x/{regime}", rates(*RATES[f"{name}_mixed-{regime}"]))
        for name in WORLDS
        for regime in PAPER
    ],
    words=[*WORDS, f"corpus.world={CONFIRMATION_WORLD}"],
    cost="not run yet",
)
SOURCE = World(tuple(PYTHON), 360)
ORDER_PYTHON = Study(
    name="order_python",
    question="The same on real text, the standard library's source, where no oracle is at hand. (exploratory)",
    arms=[arm(regime) for regime in PAPER],
    seeds=CONFIRMATION[:4],
    predictions=["OP1", "OP2", "OP3"],
    conditions=[
        Setting(f"python_{base}_4x", [*SOURCE.words, *SOURCE.steps(LENGTHS["4x"]), f"base={base}", "base.until=0"])
        for base in BASES
    ],
    words=WORDS,
    fork=True,
    cost="not run yet",
)

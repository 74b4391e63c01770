"""The article's headline: is small-block diffusion after AR a better model than AR to the end? One AR trunk a seed.

Data are scarce (a list of 1000 sequences, which AR reads 64 times) or rare (a dialect that is 2 % of the data and all
of the questions). Sizes were chosen under AR on development seed 100: when the trunk ends, AR is neither at chance nor
at the oracle. The second stage is long enough for the recipe's blocks, which drop the shift, to know the task again.
"""

from __future__ import annotations

from ablate.studies.design import Setting, Study
from experiments.presets.order_studies import DEVELOPMENT_WORLD, SHAM
from experiments.presets.studies import COMMON, arm, second

SWITCH, SECOND = 550, 1450  # steps
RATE = 1e-3  # of the trunk
SECOND_RATES, WIDE = (5e-4, 1e-3, 2e-3, 4e-3), (2.5e-4, 8e-3)
TRIED = list(range(100, 108))  # development seeds: a first grid on two of them could not tell rates apart
DATA = {"scarce": ["corpus.new_operators=96", "unique=1000"], "rare": ["corpus.new_operators=12", "corpus.dialect=6"]}
RAMP = ["regime.stages.1.mask_warmup.share=0.1"]  # the recipe's warmup of mask rates
ARMS = {
    "ar": ["regime=ar"],
    "ar_sham": ["regime=ar", *SHAM],
    "block_shift": ["regime=ar_to_block", *RAMP, *second(shift="true")],
    "block": ["regime=ar_to_block", *RAMP],  # the recipe's
    "ar_masked": ["regime=ar", *SHAM, *second(input_mask=0.15)],
    "ar_decay": ["regime=ar", *SHAM, "regime.stages.1.weight_decay=0.5"],
}


def named(name: str, words: list[str]) -> Setting:
    """An arm under its own name."""
    return arm(words[0].partition("=")[2], *words[1:], name=name)


WORDS = [
    *COMMON,
    "corpus=trace",
    "corpus.operations=5",
    f"regime.stages.0.steps={SWITCH}",
    f"regime.stages.1.steps={SECOND}",
    f"regime.stages.0.lr={RATE:g}",
    "regime.stages.1.decay=linear",
    "budget.questions=128",
    "budget.contexts=128",
    "budget.block_sizes=[1,4]",
    "budget.decoding=[]",
    f"budget.evaluate_at=[275,{SWITCH},{SWITCH + 145},{SWITCH + 363},{SWITCH + 725},{SWITCH + SECOND}]",
]


def tried(name: str, question: str, rates: tuple[float, ...], data: list[str]) -> Study:
    """Every arm at every one of these second rates."""
    return Study(
        name=name,
        question=question,
        arms=[
            named(f"{arm_name}_lr_{rate:g}", [*words, f"regime.stages.1.lr={rate:g}"])
            for arm_name, words in ARMS.items()
            for rate in rates
        ],
        seeds=TRIED,
        conditions=[Setting(kind, DATA[kind]) for kind in data],
        words=[*WORDS, f"corpus.world={DEVELOPMENT_WORLD}"],
        fork=True,
        cost="50 minutes on 2 cores" if rates is SECOND_RATES else "not run yet",
    )


TWIN_RATES = tried(
    "twin_rates",
    "Which rate of the second stage suits each arm of `twin`, by equal trials on development seeds?",
    SECOND_RATES,
    list(DATA),
)
TWIN_RATES_WIDE = tried(
    "twin_rates_wide", "The same at two further rates, where the best ones lay at an edge.", WIDE, ["scarce"]
)

"""The studies that ship: each opens with its question; --help prints it with command and cost.

Runs are small: two layers of 64, a thousand steps of 32 sequences, a quarter of a minute each. Predictions are in
predictions.yaml. Learning rates come from the study `rates`, on seeds that no other study uses.
"""

from __future__ import annotations

from ablate.study import Setting, Study

FRESH = list(range(200, 208))  # seeds of confirmation; development used 100 and 101
DEVELOPMENT = [100, 101]
PAPER = ("ar_to_bidllm", "ardllm_to_bidllm", "bidllm")
COMMON = ["budget=study", "batch=32", "threads=1"]
TRACE = ["corpus=trace", "corpus.operations=5", "corpus.new_operators=12"]
FACTS = ["corpus=facts", "corpus.people=60", "corpus.attributes=2", "corpus.values=10"]
WORLDS = {"trace": TRACE, "facts": FACTS}
GRID = (5e-4, 1e-3, 2e-3, 4e-3)
# Of each world and regime the rate of GRID with the least excess bits at block size 1, mean over training and over the
# development seeds (results/rates; a test compares).
RATES: dict[tuple[str, str], float] = {}


def rate(value: float) -> list[str]:
    """Words that set the learning rate of both stages."""
    return [f"regime.stages.{i}.lr={value:g}" for i in (0, 1)]


def arm(regime: str, *words: str, name: str = "") -> Setting:
    """A regime, its fields changed by words, under a name of its own."""
    name = name or regime
    return Setting(name, [f"regime={regime}", f"regime.name={name}", *words])


def _rates() -> Study:
    """Equal trials for every regime of a confirming study: one rate for both stages, the base model's fixed."""
    asked = {"trace": (*PAPER, "ar", "ar_to_block"), "facts": PAPER}
    return Study(
        name="rates",
        question="Which learning rate suits each regime, by equal trials on development seeds?",
        arms=[Setting(f"lr_{value:g}", rate(value)) for value in GRID],
        seeds=DEVELOPMENT,
        factor=["regime.stages.0.lr", "regime.stages.1.lr"],
        conditions=[Setting(f"{world}-{regime}", [*WORLDS[world], f"regime={regime}"])
                    for world, regimes in asked.items() for regime in regimes],
        words=COMMON,
        cost="12 minutes on 2 cores",
    )  # fmt: skip


STUDIES = {study.name: study for study in (_rates(),)}

"""When to switch, and what chance alone does: arms that leave one AR trunk.

The worlds are those of order_studies.py, and so are the rates of the AR stage and the steps of both stages together.
"""

from __future__ import annotations

from ablate.studies.design import Setting, Study
from experiments.presets import order_studies
from experiments.presets.order_studies import DEVELOPMENT_WORLD, WORDS, WORLDS, confirming, rates
from experiments.presets.studies import DEVELOPMENT, arm

SHARES = (0.0, 0.1, 0.3, 0.74, 0.95)  # of the steps, under AR; the paper's is .74
SEEDS, WORLD = list(range(332, 364)), 2  # of `split`
SECOND_RATES = (2.5e-4, 5e-4, 1e-3, 2e-3)
TIMES = order_studies.LENGTHS["4x"]  # the paper's second stage
BASE = "base=mixed"


def share_name(share: float) -> str:
    """Name of an arm: the settings of a dial."""
    return f"ar_share_{share:g}"


def first_rate(name: str) -> float:
    """The learning rate of AR in this world."""
    return order_studies.RATES[f"{name}_mixed-ar_to_bidllm"][0]


def total(name: str) -> int:
    """Steps of both stages."""
    return WORLDS[name].switch + WORLDS[name].later(TIMES)


def condition(name: str) -> Setting:
    """A world whose arms switch when they like, all asked at the same steps in blocks of 1, 4 and 32."""
    looks = ",".join(str(round(part * total(name))) for part in (0.1, 0.3, 0.5, 0.74, 0.95, 1))
    return Setting(name, [*WORLDS[name].words, BASE, f"budget.evaluate_at=[{looks}]", "budget.block_sizes=[1,4,32]"])


def switching(name: str, share: float, rate: float) -> list[str]:
    """Words of an arm that gives AR this share of the steps, with this rate of the second stage."""
    first = round(share * total(name))
    later = total(name) - first
    steps = {"0.share": 0, "0.steps": first, "1.steps": later, "1.warmup": min(50, later // 4)}
    typed = [f"regime.stages.{key}={value}" for key, value in steps.items()]
    return [*typed, *rates(first_rate(name), rate)]


SPLIT_RATES = Study(
    name="split_rates",
    question="Which rate of the second stage suits each share of AR, by equal trials on development seeds?",
    arms=[arm("ar_to_bidllm", name=f"ar_{share:g}_lr_{rate:g}") for share in SHARES for rate in SECOND_RATES],
    seeds=DEVELOPMENT,
    conditions=[condition(name) for name in WORLDS],
    cells=[
        Setting(f"{name}/ar_{share:g}_lr_{rate:g}", switching(name, share, rate))
        for name in WORLDS
        for share in SHARES
        for rate in SECOND_RATES
    ],
    words=[*WORDS, f"corpus.world={DEVELOPMENT_WORLD}"],
    fork=True,
    cost="25 minutes on one core",
)
# Of each world and share the second rate of split_rates with the least excess bits at block size 32 at the end, in the
# mean of its seeds (a test compares).
RATES: dict[str, dict[float, float]] = {
    "trace": {0.0: 5e-4, 0.1: 5e-4, 0.3: 5e-4, 0.74: 5e-4, 0.95: 2.5e-4},
    "facts": {0.0: 1e-3, 0.1: 1e-3, 0.3: 5e-4, 0.74: 5e-4, 0.95: 5e-4},
}
SPLIT = confirming(
    Study(
        name="split",
        question="One budget of steps: what share of them should be AR, before masked diffusion?",
        arms=[arm("ar_to_bidllm", name=share_name(share)) for share in SHARES],
        seeds=SEEDS,
        predictions=[f"SP{i}" for i in range(1, 11)],
        conditions=[condition(name) for name in WORLDS],
        cells=[
            Setting(f"{name}/{share_name(share)}", switching(name, share, RATES[name][share]))
            for name in WORLDS
            for share in SHARES
        ],
        words=[*WORDS, f"corpus.world={WORLD}"],
        fork=True,
        cost="not run yet",
    ),
    SPLIT_RATES,
)
AGAIN = Study(
    name="order_again",
    question="How far apart do runs end that differ in the draw of the second stage's noise alone? (A/A)",
    arms=[arm("ar_to_bidllm"), arm("ar_to_bidllm", "regime.stages.1.noise=1", name="ar_to_bidllm_again")],
    seeds=order_studies.CONFIRMATION,
    predictions=["AA1", "AA2"],
    conditions=[Setting(name, [*WORLDS[name].words, *WORLDS[name].steps(TIMES), BASE]) for name in WORLDS],
    cells=[
        Setting(f"{name}/{one}", rates(*order_studies.RATES[f"{name}_mixed-ar_to_bidllm"]))
        for name in WORLDS
        for one in ("ar_to_bidllm", "ar_to_bidllm_again")
    ],
    words=[*WORDS, f"corpus.world={order_studies.CONFIRMATION_WORLD}"],
    fork=True,
    cost="not run yet",
)

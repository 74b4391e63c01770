"""The studies that ship, but for what followed from them: each opens with its question; --help prints it.

Runs are small: two layers of 64, a thousand steps of 32 sequences, a quarter of a minute each. Predictions are in
predictions.yaml. Learning rates come from the study `rates`, on seeds that no other study uses.
"""

from __future__ import annotations

from ablate.studies.design import Setting, Study

FRESH = list(range(200, 208))  # seeds of confirmation; development used 100 and 101
DEVELOPMENT = [100, 101]
PAPER = ("ar_to_bidllm", "ardllm_to_bidllm", "bidllm")
COMMON = ["budget=study", "batch=32", "threads=1"]
TRACE = ["corpus=trace", "corpus.operations=5", "corpus.new_operators=12"]
LONG_TRACE = ["corpus=trace", "corpus.operations=15", "corpus.new_operators=12", "corpus.longer=16"]
FACTS = ["corpus=facts", "corpus.people=60", "corpus.attributes=2", "corpus.values=10"]
PYTHON = [
    "corpus=python_source",
    "budget.tokens=1000000",
    "budget.base_tokens=500000",
    "budget.evaluations=5",
    "budget.decoded=2048",
    "budget.contexts=32",
    "batch=16",
]
WORLDS = {"trace": TRACE, "facts": FACTS}
GRID = (5e-4, 1e-3, 2e-3, 4e-3)
# Of each world and regime the rate of GRID with the least excess bits at block size 1, mean over training and over the
# development seeds (results/rates; a test compares). Real text was not swept.
RATES: dict[tuple[str, str], float] = {
    ("trace", "ar_to_bidllm"): 2e-3,
    ("trace", "ardllm_to_bidllm"): 1e-3,
    ("trace", "bidllm"): 1e-3,
    ("trace", "ar"): 2e-3,
    ("trace", "ar_to_block"): 1e-3,
    ("facts", "ar_to_bidllm"): 1e-3,
    ("facts", "ardllm_to_bidllm"): 1e-3,
    ("facts", "bidllm"): 1e-3,
}


def rate(value: float) -> list[str]:
    """Words that set the learning rate of both stages."""
    return [f"regime.stages.{i}.lr={value:g}" for i in (0, 1)]


def first_alone(steps: int) -> list[str]:
    """Words that leave a regime of two stages its first one."""
    return [f"regime.stages.0.steps={steps}", "regime.stages.1.steps=0", "regime.stages.1.share=0"]


def second_alone(steps: int) -> list[str]:
    """Words that leave it its second one."""
    return ["regime.stages.0.steps=0", "regime.stages.0.share=0", f"regime.stages.1.steps={steps}"]


def arm(regime: str, *words: str, name: str = "") -> Setting:
    """A regime, its fields changed by words, under a name of its own."""
    name = name or regime
    return Setting(name, [f"regime={regime}", f"regime.name={name}", *words])


def second(**fields: object) -> list[str]:
    """Words that set fields of the second stage's objective."""
    return [f"regime.stages.1.objective.{name}={value}" for name, value in fields.items()]


def rates() -> Study:
    """Equal trials for every regime of a confirming study: one rate for both stages, the base model's fixed."""
    asked = {"trace": (*PAPER, "ar", "ar_to_block"), "facts": PAPER}
    return Study(
        name="rates",
        question="Which learning rate suits each regime, by equal trials on development seeds?",
        arms=[Setting(f"lr_{value:g}", rate(value)) for value in GRID],
        seeds=DEVELOPMENT,
        factor=["regime.stages.0.lr", "regime.stages.1.lr"],
        conditions=[
            Setting(f"{world}-{regime}", [*WORLDS[world], f"regime={regime}"])
            for world, regimes in asked.items()
            for regime in regimes
        ],
        words=COMMON,
        cost="20 minutes on 2 cores",
    )


def tuned(conditions: dict[str, str], arms: dict[str, str]) -> list[Setting]:
    """The swept learning rate of every arm {name: regime} in every condition {name: world that was swept}."""
    return [
        Setting(f"{condition}/{name}", rate(RATES[world, regime]))
        for condition, world in conditions.items()
        for name, regime in arms.items()
    ]


REGIMES = Study(
    name="regimes",
    question="Does AR first, then diffusion, learn new rules faster than causal diffusion first, and that than "
    "diffusion throughout?",
    arms=[arm(regime) for regime in PAPER],
    seeds=FRESH,
    predictions=["H1", "H2", "H3", "H4", "H5", "H6", *(f"E{i}" for i in range(1, 10))],
    conditions=[Setting("trace", TRACE), Setting("facts", FACTS)],
    cells=tuned({"trace": "trace", "facts": "facts"}, {regime: regime for regime in PAPER}),
    words=COMMON,
    cost="15 minutes on 2 cores",
)
PYTHON_SOURCE = Study(
    name="regimes_python",
    question="The same on real text, the standard library's source, where no oracle is at hand.",
    arms=[arm(regime) for regime in PAPER],
    seeds=FRESH[:3],
    predictions=["P1", "P2", "P3"],
    conditions=[Setting("python_source", PYTHON)],
    words=COMMON,
    cost="5 minutes on 2 cores",
)
CONFOUNDS = Study(
    name="confounds",
    question="Which of what AR and masked diffusion change at once makes the difference: attention, mask sampling, or "
    "the number of supervised tokens? (exploratory)",
    arms=[
        arm(name)
        for name in (*PAPER, "ar_half_loss", "ar_masked_input", "bidir_suffix", "block_to_bidllm", "lowcap", "r2l_ar")
    ],
    seeds=FRESH[:4],
    predictions=[f"C{i}" for i in range(1, 8)],
    conditions=[Setting("trace", TRACE)],
    words=COMMON,
    cost="8 minutes on 2 cores",
)
SHIFTED = second(shift="true")
SMALL_BLOCK = Study(
    name="small_block",
    question="Is a small block the better second stage after AR: 2, 4, growing, or none at all? (exploratory)",
    arms=[
        arm("ar_to_bidllm"),
        arm("ar_to_block", *SHIFTED, *second(size=2), name="block_2"),
        arm("ar_to_block", *SHIFTED, name="block_4"),
        arm("ar_to_block", name="block_4_no_shift"),
        arm(
            "ar_to_block_to_bidllm",
            *SHIFTED,
            "regime.stages.2.objective.shift=true",
            "regime.stages.3.objective.shift=true",
            name="growing",
        ),
    ],
    seeds=FRESH[:4],
    predictions=[f"S{i}" for i in range(1, 5)],
    conditions=[Setting("trace", TRACE)],
    words=COMMON,
    cost="5 minutes on 2 cores",
)
GUARDED = {
    "plain": second(clip="none", guard="none"),
    "clip": second(clip="atom", guard="none"),
    "force": second(clip="none", guard="force", weight="1/q"),
    "both": second(clip="atom", guard="force"),
}
BLOCK_GRID = Study(
    name="block_grid",
    question="Which block size is best for training, decoded in which, and does it depend on the clip and the forced "
    "mask? Efficient-DLM found blocks of 4 worst, Stable-DiffCoder builds on them. (exploratory)",
    arms=[
        arm("ar_to_block", *second(size=size), *GUARDED[guard], name=f"block_{size}_{guard}")
        for size in (2, 4, 8, 32)
        for guard in ("plain", "both")
    ],
    seeds=FRESH[:4],
    predictions=[f"G{i}" for i in range(1, 6)],
    conditions=[Setting("long_trace", LONG_TRACE)],
    words=[*COMMON, "budget.block_sizes=[1,2,4,8,32]", "budget.tokens=600000", "budget.evaluations=8"],
    cost="9 minutes on 2 cores",
)
WARMUPS = {"cap": (True, False), "drop": (False, True), "both": (True, True)}


def warmed(share: float, name: str) -> Setting:
    """AR, then masked diffusion with a warmup over this share of its steps."""
    cap, drop = WARMUPS[name]
    words = [
        f"regime.stages.1.mask_warmup.{key}={value}"
        for key, value in {"share": share, "cap": str(cap).lower(), "drop_weight": str(drop).lower()}.items()
    ]
    return arm("ar_to_bidllm", *words, name=f"{name}_{share:g}")


WARMUP = Study(
    name="warmup",
    question="What does the warmup do at the switch: its cap, its dropped weight, its length? (exploratory)",
    arms=[arm("ar_to_bidllm", name="none"), *(warmed(share, name) for name in WARMUPS for share in (0.1, 0.3))],
    seeds=FRESH[:4],
    predictions=[f"W{i}" for i in range(1, 5)],
    conditions=[Setting("trace", TRACE)],
    words=[*COMMON, "budget.every=4"],
    cost="8 minutes on 2 cores",
)

FIRST = (rates(), REGIMES, PYTHON_SOURCE, CONFOUNDS, SMALL_BLOCK, BLOCK_GRID, WARMUP)

"""The search spaces that ship: each opens with its question; --help prints it with command and cost.

Sweeps choose; studies confirm, on seeds that no sweep has seen.
"""

from __future__ import annotations

from ablate.studies.design import Setting
from ablate.studies.search_space import Choices, Parameter, Range, Settings, Space

LATER = "regime.stages.1"
OBJECTIVE = f"{LATER}.objective"
BOTH = [f"regime.stages.{i}.lr={{}}" for i in (0, 1)]


def block_size() -> Choices:
    return Choices("block_size", [1, 2, 4, 8, 16, 32], [f"{OBJECTIVE}.size={{}}"])


def clip() -> Settings:
    """The plain bound, or the paper's: rates clipped at 1/size, one token masked by force where none is."""
    return Settings(
        "clip",
        [
            Setting(name, [f"{OBJECTIVE}.clip={name}", f"{OBJECTIVE}.guard={guard}"])
            for name, guard in (("none", "none"), ("atom", "force"))
        ],
    )


def shift() -> Choices:
    return Choices("shift", [False, True], [f"{OBJECTIVE}.shift={{}}"])


WARMUP = [f"{LATER}.mask_warmup.share={{}}"]  # of the stage's steps


def _block_and_warmup() -> Space:
    parameters: list[Parameter] = [
        block_size(),
        Range("warmup", 0.0, 0.5, WARMUP),
        clip(),
        shift(),
        Range("lr", 3e-4, 1e-2, BOTH, log=True),
    ]
    return Space(
        "block_and_warmup",
        "Which blocks, which warmup of the mask rate, which clip and shift, at which learning rate?",
        parameters,
        "regime=ar_to_block sweep=block_and_warmup trials=40 workers=2 budget=study batch=32",
        "about 15 minutes on 2 cores",
    )


def _second_stage() -> Space:
    """As `block_and_warmup`, but for the shift, which stays, and the first stage, which is a trunk's."""
    parameters: list[Parameter] = [
        block_size(),
        Range("warmup", 0.0, 0.5, WARMUP),
        clip(),
        Range("lr", 1e-4, 4e-3, [f"{LATER}.lr={{}}"], log=True),
    ]
    return Space(
        "second_stage",
        "Which blocks and which warmup of the mask rate, after one AR trunk a seed?",
        parameters,
        "regime=ar_to_block regime.stages.1.objective.shift=true sweep=second_stage trials=40 workers=2 budget=study "
        "batch=32 objectives=[excess_bits_end] fork=TRUNK",
        "not run yet",
    )


def _block_grid() -> Space:
    """Every combination; for `sampler=grid`, which takes no ranges."""
    parameters: list[Parameter] = [block_size(), Choices("warmup", [0.0, 0.1, 0.3], WARMUP), clip(), shift()]
    return Space(
        "block_grid",
        "The same by every combination of a few values, at one learning rate.",
        parameters,
        "regime=ar_to_block sweep=block_grid sampler=grid trials=72 workers=2 budget=study batch=32",
        "about 22 minutes on 2 cores",
    )


def _rates() -> Space:
    return Space(
        "lr",
        "Which learning rate suits a regime of two stages?",
        [Range("lr", 1e-4, 2e-2, BOTH, log=True)],
        "regime=bidllm sweep=lr trials=16 workers=2 budget=study batch=32",
        "about 6 minutes on 2 cores",
    )


SWEEPS = {space.name: space for space in (_block_and_warmup(), _second_stage(), _block_grid(), _rates())}

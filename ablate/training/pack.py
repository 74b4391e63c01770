"""Which runs can train together: their networks are stacked, so all must pose one problem at each step."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ablate.compute.device import Strategy
from ablate.core.storage import WHERE, describe, digest, flat
from ablate.training.run_config import Run

# Keys in which runs of a pack may differ: what each of the stacked networks has of its own
STAGE = r"(base|regime\.stages\.\d+)"
OWN = re.compile(rf"seed|fork_weights|regime\.name|{STAGE}\.(lr|warmup|decay|weight_decay|clip_norm|noise)")


def packs(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs in groups that train together, each of at most `pack` of them, in the order of their first."""
    groups: dict[str, list[list[Run]]] = {}
    order: list[list[Run]] = []
    for run in runs:
        open_groups = groups.setdefault(shape(run), [])
        if not open_groups or len(open_groups[-1]) >= run.pack or _alone(run):
            open_groups.append([])
            order.append(open_groups[-1])
        open_groups[-1].append(run)
    return order


def shape(run: Run) -> str:
    """Hash of all that runs of a pack must have in common."""
    return digest({k: v for k, v in flat(describe(run)).items() if not OWN.fullmatch(k) and k not in WHERE})


def _alone(run: Run) -> bool:
    """Several processes train one network, and a checkpoint's weights are read into one."""
    return run.strategy is not Strategy.auto or bool(run.init)

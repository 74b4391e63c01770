"""Under which fingerprints results know their runs and studies.

A fingerprint is a hash of class names, field names and values, so a renamed class or key changes it. What results have
registered is never recomputed: presets/renamed_fingerprints.csv says which fingerprint of today stands for it.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from ablate.compute.device import Precision
from ablate.training.run_config import Run

RENAMED = Path(__file__).parent.parent / "presets" / "renamed_fingerprints.csv"


@lru_cache(maxsize=1)
def _registered() -> dict[str, str]:
    with RENAMED.open(newline="") as file:
        return {row["now"]: row["registered"] for row in csv.DictReader(file)}


def registered(fingerprint: str) -> str:
    """The fingerprint that results have for this one of today: itself, unless names have changed since."""
    return _registered().get(fingerprint, fingerprint)


def registered_labels(run: Run) -> Iterator[str]:
    """Labels that results may have for a resolved run: its own, that of before names changed, and both with the
    precision that another kind of machine chooses, which changes rounding and not the question; and of before a study
    asked all arms on one grid."""
    before = dataclasses.replace(run, budget=dataclasses.replace(run.budget, grids=[]))
    asked = [run, before] if run.budget.grids else [run]
    for one, precision in itertools.product(asked, dict.fromkeys((run.precision, Precision.fp32, Precision.bf16))):
        made = one if precision is run.precision else dataclasses.replace(one, precision=precision)
        fingerprint = made.fingerprint()
        yield made.label
        if (earlier := registered(fingerprint)) != fingerprint:
            yield made.label.removesuffix(fingerprint[:8]) + earlier[:8]

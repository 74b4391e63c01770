"""The runs of a study, and where each stands in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ablate.studies.design import Quantity, Study
from ablate.studies.job import Job
from ablate.studies.predictions import Prediction
from ablate.training.run_config import Run


@dataclass(frozen=True)
class Place:
    """Where a run stands in a study."""

    condition: str
    arm: str
    seed: int


@dataclass
class Plan:
    """A study's runs, proved to be controlled. trunks: what must be trained first, since arms leave it
    (see trunks.py). spent: what each arm of a condition will spend. kept: places whose rows are in results. found:
    labels of runs that are complete. pack: seeds of an arm that train together, at most."""

    study: Study
    folder: Path
    runs: dict[Place, Run]
    jobs_at: dict[Place, Job]
    trunks: list[Job]
    spent: dict[tuple[str, str], dict[Quantity, float]]
    decided: list[Prediction]
    kept: frozenset[Place]
    found: frozenset[str]
    pack: int

    @property
    def jobs(self) -> list[Job]:
        """What is not in results yet, but for arms whose trunk is not there. First one arm in every condition and on
        every seed: the base models are then trained side by side."""
        arms = [arm.name for arm in self.study.arms]
        ready = (place for place, run in self.runs.items() if run.fork_weights or not run.fork)
        left = [place for place in ready if place not in self.kept]
        return [self.jobs_at[place] for place in sorted(left, key=lambda place: arms.index(place.arm))]

    @property
    def predictions(self) -> dict[str, str]:
        """Fingerprints of the predictions that the study decides."""
        return {p.id: p.fingerprint() for p in self.decided}

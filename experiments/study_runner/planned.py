"""The runs of a study, and where each stands in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ablate.studies.design import Quantity, Study
from ablate.studies.job_queue import Job
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
    """A study's runs, proved to be controlled. spent: what each arm of a condition will spend. kept: places whose rows
    are in results. found: labels of runs that are complete."""

    study: Study
    folder: Path
    runs: dict[Place, Run]
    jobs_at: dict[Place, Job]
    spent: dict[tuple[str, str], dict[Quantity, float]]
    decided: list[Prediction]
    kept: frozenset[Place]
    found: frozenset[str]

    @property
    def jobs(self) -> list[Job]:
        """What is not in results yet. First one arm on every seed: the base models are then trained side by side."""
        return [job for place, job in self.jobs_at.items() if place not in self.kept]

    @property
    def predictions(self) -> dict[str, str]:
        """Fingerprints of the predictions that the study decides."""
        return {p.id: p.fingerprint() for p in self.decided}

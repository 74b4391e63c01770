"""What is asked of study.py: a study, and how it is carried out."""

from __future__ import annotations

from dataclasses import dataclass, field

from ablate.studies.design import Setting, Study

AUTO, PACK = "auto", 8  # of the seeds that are trained together


@dataclass
class Assignment:
    """A study, and how it is worked off.

    workers: processes at work at once. pack: seeds of an arm that a worker trains together, at most; auto: 8. only:
    names of the conditions to run, all where empty. words: of every run, after all others; they make it another study
    than the one that ships: give it a study.name. runs: folder of the runs, shared by all studies and by every process
    that works on one. results: folder of what studies found. Raises ValueError for values out of range.
    """

    study: Study
    workers: int = 1
    pack: str = AUTO
    only: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    runs: str = "runs"
    results: str = "results"

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= 1024:
            raise ValueError(f"workers: wanted 1..1024, got {self.workers}; type workers=2")
        if self.pack != AUTO and not (self.pack.isdecimal() and 1 <= int(self.pack) <= 1024):
            raise ValueError(f"pack: wanted {AUTO} or 1..1024, got {self.pack}; type pack={AUTO}")
        known = [condition.name for condition in self.study.conditions]
        for name in self.only:
            if name not in known:
                raise ValueError(
                    f"only: study {self.study.name} has the conditions {', '.join(known)}; got {name}; "
                    f"type only=[{known[0]}]"
                )

    @property
    def together(self) -> int:
        """Seeds of an arm that a worker trains together, at most: by rule, not by how many are at work."""
        return PACK if self.pack == AUTO else int(self.pack)

    @property
    def conditions(self) -> list[Setting]:
        return [c for c in self.study.conditions if not self.only or c.name in self.only]

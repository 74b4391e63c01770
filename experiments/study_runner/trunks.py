"""Trunks of a study: what arms of a condition have in common is trained once, and each goes on from where it parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ablate.core import records
from ablate.core.storage import digest
from ablate.studies.job import Job
from ablate.training.resolution import resolve
from ablate.training.run_config import Run
from ablate.training.run_manifest import circumstances
from ablate.training.trunk import first_stage
from experiments.cli.compose import jobs
from experiments.cli.run_command import RUN, SCRIPT
from experiments.study_runner.planned import Place

SEED = "${seed}"  # as the command line takes it: commands that differ in nothing else can be one


@dataclass(frozen=True)
class Trunk:
    """The first stage of some arms, for as long as the longest of them. words: of its command line, of any seed."""

    name: str
    arms: list[str]
    run: Run
    words: list[str]
    home: Path

    def folder(self, seed: str | int) -> Path:
        """Of the seed; named after all else that it is, the code that trains it as well."""
        return self.home / f"trunk-{self.known}-seed{seed}"

    @cached_property
    def known(self) -> str:
        """What names it."""
        return digest([dataclasses.replace(self.run, seed=0).fingerprint(), circumstances(self.run)])[:8]

    def job(self, place: Place) -> Job:
        """Its run on the seed of one of its arms."""
        places = [f"out={self.folder(SEED)}", f"cache={self.home / '.base'}", "draw=false"]
        group = f"{place.condition}/{self.name}"
        words = (*self.words, f"seed={place.seed}", *places)
        return Job(f"{group}/seed{place.seed}", SCRIPT, words, self.folder(place.seed), (records.FILE,), group)


def trunks(arms: dict[str, Run], words: dict[str, list[str]], home: Path) -> list[Trunk]:
    """One for the arms of a condition, composed from these words, that have a first stage in common; none for an arm
    that has it alone."""
    groups: dict[str, list[str]] = {}
    for name, run in arms.items():
        if len(run.regime.stages) > 1 and run.stage_steps[0]:
            groups.setdefault(first_stage(run), []).append(name)
    return [_trunk(names, arms, words, home) for names in groups.values() if len(names) > 1]


def _trunk(names: list[str], arms: dict[str, Run], words: dict[str, list[str]], home: Path) -> Trunk:
    longest = max(names, key=lambda name: arms[name].stage_steps[0])
    ends = {arms[name].stage_steps[0] for name in names}
    looks = {step for name in names for step in arms[name].pauses() if step <= arms[name].stage_steps[0]}
    own = [
        *(word for word in words[longest] if not word.startswith("seed=")),
        "regime.name=trunk",
        f"compile={arms[longest].compile}",
        f"regime.stages.0.steps={max(ends)}",
        *(
            f"regime.stages.{i}.{key}=0"
            for i in range(1, len(arms[longest].regime.stages))
            for key in ("steps", "share")
        ),
        f"budget.grids={_listed(arms[longest].budget.grids)}",
        f"budget.evaluate_at={_listed(sorted(looks))}",
        f"keep_at={_listed(sorted(ends))}",
    ]
    (run,) = jobs(RUN, own)
    return Trunk(f"trunk of {longest}", names, resolve(run), own, home)


def _listed(values: Sequence[object]) -> str:
    return f"[{','.join(map(str, values))}]"

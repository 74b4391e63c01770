"""What is asked of sweep.py: a space, how it is searched and for what; and which typed keys are the sweep's own."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path

from ablate.core.validation import UsageError, path_of
from ablate.studies.outcomes import How, Outcome
from ablate.studies.search_space import Range, Space, require_name
from ablate.training.run_config import RANGES, Run
from experiments.cli.words import quoted

MOST = 10**6  # trials
# What can be sought; of all of them less is better.
OBJECTIVES = {
    "excess_bits": Outcome(),
    "excess_bits_later": Outcome(how=How.later_mean),
    "excess_bits_end": Outcome(how=How.end),
    "excess_bits_32_end": Outcome(block_size=32, how=How.end),
    "excess_bits_random": Outcome(contexts="random", block_size=None, split="train"),
    "steps_to_score": Outcome("score", "decode", how=How.steps_to),
}
SET_HERE = {"seed": "seeds=[100,101]", "out": "runs=FOLDER", "cache": "runs=FOLDER", "draw": "nothing instead"}


class Sampler(StrEnum):
    """What picks a trial's values: a tree-structured Parzen estimator, every combination, or a Sobol sequence."""

    tpe = "tpe"
    grid = "grid"
    sobol = "sobol"


class Pruner(StrEnum):
    """What stops a trial early, by its probes so far."""

    none = "none"
    hyperband = "hyperband"


@dataclass
class Search:
    """A space, how it is searched, and by whom.

    trials: complete, failed and pruned ones together. workers: processes, each at one run at a time. seeds: of every
    trial, whose value is the mean over them. objectives: names of what is to be little. storage: an Optuna storage URL;
    empty: a journal file beside the runs. name: the sweep's, empty: its space's. words: of every run's command line.
    runs: folder of the runs, which all workers share. results: folder of what sweeps found.
    Raises ValueError for values out of range and for what Optuna refuses.
    """

    sweep: Space
    trials: int = 40
    workers: int = 1
    seeds: list[int] = field(default_factory=lambda: [100, 101])
    sampler: Sampler = Sampler.tpe
    pruner: Pruner = Pruner.none
    objectives: list[str] = field(default_factory=lambda: ["excess_bits"])
    storage: str = ""
    name: str = ""
    words: list[str] = field(default_factory=list)
    runs: str = "runs"
    results: str = "results"

    def __post_init__(self) -> None:
        self.sampler, self.pruner = Sampler(self.sampler), Pruner(self.pruner)
        require_name("name", self.title)
        for ok, message in self._legal():
            if not ok:
                raise ValueError(message)

    def _legal(self) -> list[tuple[bool, str]]:
        """(is it so?, where, what was wanted, what came and what to type)."""
        ranges = [p.name for p in self.sweep.parameters if isinstance(p, Range)]
        least, most = RANGES["seed"]
        return [
            (1 <= self.trials <= MOST, f"trials: wanted 1..{MOST}, got {self.trials}; type trials=40"),
            (1 <= self.workers <= 1024, f"workers: wanted 1..1024, got {self.workers}; type workers=2"),
            (
                all(least <= seed <= most for seed in self.seeds) and 0 < len(self.seeds) == len(set(self.seeds)),
                f"seeds: wanted one or more from {least} on, each once, got {self.seeds}; type seeds=[100,101]",
            ),
            (
                0 < len(self.objectives) == len(set(self.objectives)) and set(self.objectives) <= set(OBJECTIVES),
                f"objectives: wanted one or more of {', '.join(OBJECTIVES)}, each once, got {self.objectives}; "
                "type objectives=[excess_bits]",
            ),
            (
                self.pruner is Pruner.none or len(self.objectives) == 1,
                f"pruner={self.pruner}, objectives={self.objectives}: Optuna prunes by one value and refuses to prune "
                f"a trial that has several; type pruner=none or objectives=[{self.objectives[0]}]",
            ),
            (
                self.sampler is not Sampler.grid or not ranges,
                f"sampler=grid: wanted a list of values of every "
                f"parameter, got a range of {', '.join(ranges)}; type sampler=tpe or sweep=block_grid",
            ),
        ]

    @property
    def title(self) -> str:
        return self.name or self.sweep.name

    @property
    def outcomes(self) -> dict[str, Outcome]:
        return {name: OBJECTIVES[name] for name in self.objectives}

    @property
    def total(self) -> int:
        """Trials there will be: a grid has no more than its points."""
        points = math.prod(len(parameter.grid) for parameter in self.sweep.parameters)
        return min(self.trials, points) if self.sampler is Sampler.grid else self.trials

    @property
    def home(self) -> Path:
        """Folder of the journal and the locks, shared by all workers."""
        return path_of("runs", self.runs) / self.title

    @property
    def folder(self) -> Path:
        """Folder of what was found."""
        return path_of("results", self.results) / self.title


OWN = [f.name for f in fields(Search) if f.name != "words"]


def gathered(arguments: list[str]) -> list[str]:
    """The same arguments, those meant for the runs quoted as one `words=[...]`, and a storage's URL quoted. Raises
    UsageError for a key that neither a sweep nor a run has, and for what the sweep itself sets of a run."""
    mine, theirs, known = [], [], [*OWN, *(f.name for f in fields(Run))]
    for argument in arguments:
        root = re.split(r"[.=]", argument.lstrip("+~"))[0]
        if argument.startswith("storage=") and not re.match("storage=['\"]", argument):
            argument = f"storage={quoted(argument.removeprefix('storage='))}"
        if "=" not in argument or argument.startswith("-") or root in OWN:
            mine.append(argument)
            continue
        if root not in known:
            near = difflib.get_close_matches(root, known, 1)
            raise UsageError(
                f"{root}: neither a sweep nor a run has this key; wanted one of {', '.join(known)}; got "
                f"{argument!r}; type {f'{near[0]}=VALUE' if near else '--help'}"
            )
        if root in SET_HERE:
            raise UsageError(f"{argument}: a sweep sets {root} of every run itself; type {SET_HERE[root]}")
        theirs.append(argument)
    # what a word interpolates, as in fork=trunk-${seed}, is the run's and not the sweep's
    escaped = [quoted(word.replace("${", "\\${")) for word in theirs]
    return [*mine, f"words=[{','.join(escaped)}]"] if theirs else mine

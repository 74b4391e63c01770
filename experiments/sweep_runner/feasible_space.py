"""A sweep's space without the values that no run of its words could have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ablate.core import records
from ablate.core.validation import UsageError, path_of
from ablate.studies.job import Job
from ablate.studies.search_space import Parameter, Point
from ablate.training.resolution import resolve
from ablate.training.run_config import Run
from experiments.cli.compose import jobs
from experiments.cli.run_command import RUN, SCRIPT
from experiments.sweep_runner.search import Search


@dataclass(frozen=True)
class Fitted:
    """A search that runs can carry out. dropped: a line for each value left out. pauses: probes of a run, at which a
    trial may be pruned. script: what carries out a run."""

    search: Search
    dropped: list[str]
    pauses: int
    script: Path = SCRIPT

    def jobs(self, point: Point) -> list[Job]:
        """The runs of a trial, one a seed. Raises ValueError for a combination of values that no run can have."""
        search, runs, found = self.search, path_of("runs", self.search.runs), []
        words = [*search.words, *search.sweep.words_of(point)]
        for seed in search.seeds:
            run = composed([*words, f"seed={seed}"])  # each by itself: a trunk may be named by its seed
            folder = runs / replace(run, out="", draw=False).label
            where = (f"seed={seed}", f"out={folder}", f"cache={runs / '.base'}", "draw=false")
            found.append(Job(f"seed{seed}", self.script, (*words, *where), folder, (records.FILE,)))
        return found


def fit(search: Search) -> Fitted:
    """Composes a run of every value. Raises UsageError for words that no run takes and for parameters without a value
    that one could have."""
    RUN.register()
    try:
        run, dropped = composed([*search.words, f"seed={search.seeds[0]}"]), []
        parameters = [_fitted(search, parameter, dropped) for parameter in search.sweep.parameters]
    except ValueError as error:
        raise UsageError(str(error)) from None
    space = replace(search.sweep, parameters=parameters)
    return Fitted(replace(search, sweep=space), dropped, len(run.pauses()))


def composed(words: list[str]) -> Run:
    """The one run that the words ask for, every automatic choice made."""
    found = jobs(RUN, words)
    if len(found) != 1:
        raise UsageError(f"sweep.py: wanted words of one run, got {len(found)}; give each key one value")
    return resolve(found[0])


def _fitted(search: Search, parameter: Parameter, dropped: list[str]) -> Parameter:
    reasons: dict[Any, str] = {}
    for value in parameter.limits:
        try:
            composed([*search.words, *parameter.words_of(value), f"seed={search.seeds[0]}"])
        except UsageError as error:  # no run takes its words, whatever the value
            raise UsageError(f"sweep={search.sweep.name}, parameter {parameter.name}: {error}") from None
        except ValueError as error:
            reasons[value] = str(error)
    left = [value for value in parameter.limits if value not in reasons]
    lines = [f"{parameter.name}={value} is left out: {reason}" for value, reason in reasons.items()]
    try:
        fitting = parameter.only(left)
    except ValueError:
        raise UsageError(f"sweep={search.sweep.name}: {'; '.join(lines)}") from None
    dropped += lines
    return fitting

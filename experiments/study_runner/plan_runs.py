"""From a study to the runs of a plan."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from ablate.compute.device import resolve_compile, resolve_device
from ablate.core import records
from ablate.core.blocks import Grid
from ablate.core.validation import UsageError, path_of
from ablate.studies.control import prove
from ablate.studies.design import Quantity, Study
from ablate.studies.job import Job
from ablate.studies.predictions import Prediction
from ablate.studies.predictions_yaml import read_predictions
from ablate.training.resolution import resolve
from ablate.training.run_config import Run
from ablate.training.trunk import fork_of
from experiments.cli.compose import jobs
from experiments.cli.run_command import RUN, SCRIPT
from experiments.presets.predictions_file import PREDICTIONS
from experiments.study_runner.assignment import Assignment
from experiments.study_runner.kept_results import earlier, forks
from experiments.study_runner.planned import Place, Plan
from experiments.study_runner.registered import registered_labels
from experiments.study_runner.trunks import SEED, Trunk, trunks


def plan(assignment: Assignment) -> Plan:
    """Composes every run, proves the control of every condition, and finds what is there already.

    Raises ValueError for what cannot be run, ControlError, which is one, for arms that are not controlled.
    """
    RUN.register()
    study = dataclasses.replace(assignment.study, last=[*assignment.study.last, *assignment.words])
    folder, home = path_of("results", assignment.results) / study.name, path_of("runs", assignment.runs)
    runs: dict[Place, Run] = {}
    spent: dict[tuple[str, str], dict[Quantity, float]] = {}
    trunk_of: dict[tuple[str, str], Trunk] = {}
    for condition in assignment.conditions:
        words = {arm.name: study.words_of(condition, arm, study.seeds[0]) for arm in study.arms}
        composed = {name: _composed(study, name, typed) for name, typed in words.items()}
        arms = {name: resolve(run) for name, run in compiled_alike(composed, assignment.together).items()}
        for name, quantities in prove(study, condition.name, arms).items():
            spent[condition.name, name] = quantities
        arms = on_one_grid(arms)
        for name, run in arms.items():
            for seed in study.seeds:
                runs[Place(condition.name, name, seed)] = dataclasses.replace(run, seed=seed, out="", draw=False)
        for trunk in trunks(arms, words, home) if study.fork else ():
            trunk_of |= {(condition.name, name): trunk for name in trunk.arms}
    trunk_at = {
        place: trunk_of[place.condition, place.arm] for place in runs if (place.condition, place.arm) in trunk_of
    }
    runs |= _forked(runs, trunk_at, forks(folder))
    _require_different(study, runs)
    jobs_at = _jobs(study, runs, home, trunk_at)
    labels = {place: set(registered_labels(run)) for place, run in runs.items()}
    found = frozenset(label for place, job in jobs_at.items() if job.complete for label in labels[place])
    known = earlier(study, folder, found, lambda line: print(line, file=sys.stderr)).get("runs", {})
    kept = frozenset(place for place in runs if labels[place] & set(known))
    first = dict.fromkeys(trunk.job(place) for place, trunk in trunk_at.items() if place not in kept)
    left = [job for job in first if not job.complete]
    return Plan(study, folder, runs, jobs_at, left, spent, decided_by(study), kept, found, assignment.together)


def _composed(study: Study, arm: str, words: list[str]) -> Run:
    composed = jobs(RUN, words)
    if len(composed) != 1:
        raise UsageError(f"study {study.name}, arm {arm}: wanted one run, got {len(composed)}")
    if composed[0].fork:
        raise UsageError(f"study {study.name}, arm {arm}: fork is the study's own; type study.fork=true in its place")
    return composed[0]


def compiled_alike(arms: dict[str, Run], together: int) -> dict[str, Run]:
    """Arms that are all compiled or none, unless one says itself: by what the longest takes, with as many packed runs.
    Compiled code rounds otherwise, so that arms and trunks would not share a base model."""
    flops = max(run.flops for run in arms.values()) * together
    return {
        name: dataclasses.replace(run, compile=resolve_compile(run.compile, resolve_device(run.device), flops))
        for name, run in arms.items()
    }


def _forked(runs: dict[Place, Run], trunk_at: dict[Place, Trunk], kept: dict[Place, str]) -> dict[Place, Run]:
    """The runs that leave a trunk; with the weights there, where results know them or it is complete."""
    found = {}
    for place, trunk in trunk_at.items():
        run, folder = runs[place], trunk.folder(place.seed)
        run = dataclasses.replace(run, fork=str(folder), fork_step=run.stage_steps[0])
        weights = kept.get(place, "")  # first: a trunk that was trained again elsewhere may have others
        if not weights and trunk.job(place).complete:
            weights = fork_of(run).weights
        found[place] = dataclasses.replace(run, fork_weights=weights)
    return found


def on_one_grid(arms: dict[str, Run]) -> dict[str, Run]:
    """Arms that are all asked on the grids of any of them: the grid belongs to the question, whoever answers."""
    grids = [grid for grid in Grid if any(grid in run.grids for run in arms.values())]
    if all(set(run.grids) == set(grids) for run in arms.values()):
        return arms
    return {
        name: dataclasses.replace(run, budget=dataclasses.replace(run.budget, grids=grids))
        for name, run in arms.items()
    }


def _jobs(study: Study, runs: dict[Place, Run], home: Path, trunk_at: dict[Place, Trunk]) -> dict[Place, Job]:
    conditions, arms = ({setting.name: setting for setting in group} for group in (study.conditions, study.arms))
    found = {}
    for place, run in runs.items():
        words = study.words_of(conditions[place.condition], arms[place.arm], place.seed)
        words += [f"budget.grids=[{','.join(run.budget.grids)}]"] * bool(run.budget.grids)
        words += [f"compile={run.compile}"]
        words += [f"fork={trunk_at[place].folder(SEED)}"] if place in trunk_at else []
        words += [f"out={home / run.label}", f"cache={home / '.base'}", "draw=false"]
        name = f"{place.condition}/{place.arm}/seed{place.seed}"
        group = "" if run.init else f"{place.condition}/{place.arm}"
        found[place] = Job(name, SCRIPT, tuple(words), home / run.label, (records.FILE,), group)
    return found


def _require_different(study: Study, runs: dict[Place, Run]) -> None:
    """Raises UsageError where two conditions or arms are one and the same run."""
    first: dict[str, Place] = {}
    for place, run in runs.items():
        other = first.setdefault(run.label, place)
        if other != place:
            raise UsageError(
                f"study {study.name}: {other.condition}/{other.arm} and {place.condition}/{place.arm} are one run, "
                f"{run.label}; wanted settings that differ: change their words, or regime.name"
            )


def decided_by(study: Study) -> list[Prediction]:
    """The predictions that the study decides. Raises UsageError for those that are not written down."""
    known = {p.id: p for p in read_predictions(PREDICTIONS)}
    for name in study.predictions:
        if name not in known or known[name].study != study.name:
            raise UsageError(
                f"study.predictions: {PREDICTIONS.name} has no {name} of study {study.name}; write "
                "it first, or type study.predictions=[]"
            )
    return [known[name] for name in study.predictions]

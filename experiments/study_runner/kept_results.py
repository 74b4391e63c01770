"""What is kept of a study in results/: rows, questions, and a manifest that says how they came about."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ablate.core import records
from ablate.core.manifest import MANIFEST, NUMBER, PROMISE, TEXT, load, replace, require_shape, write_manifest
from ablate.core.provenance import description
from ablate.core.storage import WHERE, Damaged, describe, digest, locked
from ablate.core.validation import UsageError
from ablate.studies.control import ControlError
from ablate.studies.design import Study
from ablate.studies.job import Job
from ablate.studies.outcomes import QUESTIONS, by_question
from experiments.study_runner.planned import Place, Plan
from experiments.study_runner.registered import registered, registered_labels

Frame = Any  # a pandas frame or one row of it, whose columns no type checker knows
BY_QUESTION, LOCK = "questions.parquet", ".lock"
# of a run's own manifest
FROM_RUN = (
    "config_fingerprint",
    "initial_weights",
    "data",
    "source",
    "packages",
    "code",
    "wall_seconds",
    "cpu_seconds",
)
OF_RUN: dict[str, Any] = dict.fromkeys(FROM_RUN, object) | {"initial_weights": TEXT, "wall_seconds": NUMBER}
SHAPE = {
    "identity": str,
    "predictions": {...: str},
    "seeds": [int],
    "runs": {...: {"condition": str, "arm": str, "seed": int, "initial_weights": TEXT, "wall_seconds": NUMBER}},
    "spent": [{"condition": str, "arm": str}],
}
FORK = {"trunk": str, "step": int, "weights": str, "wall_seconds": NUMBER}
Finished = tuple[Place, str, dict[str, Any], Frame]  # a run's place, label, manifest and rows


def identity(study: Study) -> str:
    """Hash of what a study asks; more seeds and conditions make it longer, not another one."""
    asked = describe(dataclasses.replace(study, words=[*study.words, *study.last]))
    names = ("name", "arms", "matched", "factor", "cells", "words", *(("fork",) if study.fork else ()))
    return digest({name: asked[name] for name in names})


def earlier(
    study: Study, folder: Path, found: Container[str] = (), say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """The manifest of earlier sittings, its runs those whose rows are there; empty where there was none.

    found: labels of runs that are complete in their folders. Where rows are damaged and all runs are found, none of its
    runs has rows here, so that all are read again; `say` is told. Raises UsageError where it is another study's, or
    damaged.
    """
    path = folder / MANIFEST
    if not path.exists() and not (folder / records.FILE).exists():
        return {}
    try:
        manifest = load(path, SHAPE)
    except Damaged as damage:
        raise UsageError(f"{damage}; restore it, or type results=FOLDER: runs are found again where they are") from None
    if manifest["identity"] not in (identity(study), registered(identity(study))):
        raise UsageError(
            f"{folder}: holds another study of this name (other arms, words or matching); type "
            "study.name=NAME or results=FOLDER"
        )
    runs, labels = manifest["runs"], set[str]()
    try:
        if runs:
            labels = set(records.read(folder / records.FILE, records.STUDY)["run"])
            records.read(folder / BY_QUESTION, QUESTIONS)
    except ValueError as damage:
        found_wrong = str(damage).rpartition("; ")[0]  # without what to type, which is other here
        lost, labels = [label for label in runs if label not in found], set()
        if lost:
            raise UsageError(
                f"{found_wrong}; here {len(lost)} of its {len(runs)} runs are not to be found, such as {lost[0]}: "
                "restore the file, or type results=FOLDER"
            ) from None
        say(f"{found_wrong}; rebuilt from its {len(runs)} runs, which are there")
    return {**manifest, "runs": {label: known for label, known in runs.items() if label in labels}}


def begin(plan: Plan) -> None:
    """Writes the manifest before the first run: the predictions and the seeds as they are then, for good.

    Raises UsageError where the rows that are kept were made with other settings than the plan's.
    """
    with locked(plan.folder / LOCK):
        known = earlier(plan.study, plan.folder, plan.found)
        require_same_runs(plan, known)
        if known.get("runs") or any(job.complete for job in plan.jobs_at.values()):
            predictions = known.get("predictions", {})  # what is new was written after data
        else:
            predictions = plan.predictions | known.get("predictions", {})
        if not known or predictions != known["predictions"]:
            fresh = {**known, "predictions": predictions, "seeds": known.get("seeds", plan.study.seeds)}
            promise = {name: known[name] for name in PROMISE if name in known}
            write_manifest(plan.folder, _content(plan, fresh) | promise)


def require_same_runs(plan: Plan, known: dict[str, Any]) -> None:
    """A place has one run. Raises UsageError where another one's rows are kept: a preset or a default has changed."""
    there = {(run["condition"], run["arm"], run["seed"]): label for label, run in known.get("runs", {}).items()}
    for place, run in plan.runs.items():
        label = there.get(dataclasses.astuple(place))
        if label is not None and label not in registered_labels(run):
            raise UsageError(
                f"{plan.folder}: holds run {label} as {plan.jobs_at[place].name}, which is {run.label} now: its "
                "settings have changed since (see the manifest's words); type study.name=NAME or results=FOLDER"
            )


def keep(plan: Plan, fresh: Iterable[Finished]) -> None:
    """Writes rows, questions and manifest of the runs that are complete, beside those that are kept.

    Raises ControlError where the arms of a seed did not begin with the same weights.
    """
    with locked(plan.folder / LOCK):
        known = earlier(plan.study, plan.folder, plan.found)
        runs = dict(known.get("runs", {}))
        frames, questions = _kept(plan.folder, runs)
        for place, label, manifest, rows in fresh:
            if label in runs:
                continue
            where = {"study": plan.study.name, "condition": place.condition, "arm": place.arm}
            answers = [{**where, "seed": place.seed, "question": q, "value": v} for q, v in by_question(rows).items()]
            frames.append(rows[rows["question"].isna()].assign(**where))
            questions.append(pd.DataFrame(answers, columns=list(QUESTIONS)))
            runs[label] = {
                **dataclasses.asdict(place),
                **{key: manifest[key] for key in FROM_RUN},
                **({"fork": manifest["fork"]} if "fork" in manifest else {}),
                "words": said(plan.jobs_at[place]),
            }
        if len(runs) == len(known.get("runs", {})):
            return
        require_same_start(plan.study, runs)
        table, asked = (pd.concat(parts, ignore_index=True) for parts in (frames, questions))
        files = {
            records.FILE: records.writer(table, records.STUDY),
            BY_QUESTION: records.writer(asked, QUESTIONS),
        }
        replace(plan.folder, files, _content(plan, {**known, "runs": runs, "spent": _spent(plan, known, table)}))


def _kept(folder: Path, runs: dict[str, dict[str, Any]]) -> tuple[list[Frame], list[Frame]]:
    """Rows and questions of these runs alone: a `keep` that was cut off may have left others."""
    if not runs:
        return [], []
    rows, questions = records.read(folder, records.STUDY), records.read(folder / BY_QUESTION, QUESTIONS)
    places = pd.DataFrame(
        [[r["condition"], r["arm"], r["seed"]] for r in runs.values()], columns=["condition", "arm", "seed"]
    )
    return [rows[rows["run"].isin(list(runs))]], [questions.merge(places)]


def _content(plan: Plan, known: dict[str, Any]) -> dict[str, Any]:
    runs = known.get("runs", {})
    trunks = {fork["trunk"]: fork["wall_seconds"] for run in runs.values() if (fork := _fork(run))}
    return {
        "identity": known.get("identity", identity(plan.study)),
        "study": describe(plan.study),
        "seeds": known["seeds"],
        "predictions": known["predictions"],
        "machine": description(),
        "runs": dict(sorted(runs.items())),
        "spent": known.get("spent", []),
        "minutes": sum([*(run["wall_seconds"] for run in runs.values()), *trunks.values()]) / 60,
    }


def said(job: Job) -> list[str]:
    """The words of a run's command line but for those that say where its files lie."""
    return [word for word in job.words if word.split("=")[0] not in WHERE]


def finished(plan: Plan) -> Iterator[Finished]:
    """The runs that are complete; what cannot be read of one is said and left out."""
    for place, job in plan.jobs_at.items():
        if place in plan.kept or not job.complete:
            continue
        run = plan.runs[place]
        try:
            manifest = load(job.folder / MANIFEST, OF_RUN)
            if manifest["config_fingerprint"] != run.fingerprint():
                raise ValueError(f"{job.folder}: wanted the run {run.label}, got another one")
            yield place, run.label, manifest, records.read(job.folder)
        except ValueError as damage:
            print(f"warning: {damage}; delete {job.folder} and type the same command", file=sys.stderr)


def forks(folder: Path) -> dict[Place, str]:
    """Hashes of the weights at which the runs that are kept left their trunks."""
    try:
        runs = load(folder / MANIFEST, SHAPE)["runs"].values()
    except Damaged:  # `earlier` says what is wrong
        return {}
    return {Place(run["condition"], run["arm"], run["seed"]): _fork(run)["weights"] for run in runs if _fork(run)}


def _fork(run: dict[str, Any]) -> dict[str, Any]:
    """Where a run left its trunk; empty where it has none."""
    try:
        require_shape(run.get("fork"), FORK)
    except ValueError:
        return {}
    return run["fork"]


def require_same_start(study: Study, runs: dict[str, dict[str, Any]]) -> None:
    """Raises ControlError where arms of a seed did not begin with the same weights, or left a trunk with others."""
    found: dict[tuple[Any, ...], tuple[str, str]] = {}
    for run in runs.values():
        starts: dict[tuple[str, ...], str] = {("base weights",): run["initial_weights"]}
        if fork := _fork(run):
            starts[f"weights at step {fork['step']} of their trunk", fork["trunk"]] = fork["weights"]
        for what, weights in starts.items():
            name, first = found.setdefault((run["condition"], run["seed"], what), (run["arm"], weights))
            if weights != first:
                raise ControlError(
                    f"study {study.name}, condition {run['condition']}, seed {run['seed']}: wanted the same {what[0]} "
                    f"in every arm, got {first[:8]} in {name} and {weights[:8]} in {run['arm']}; delete "
                    "the runs that were made on another machine, with other code or in another pack"
                )


def _spent(plan: Plan, known: dict[str, Any], table: Frame) -> list[dict[str, Any]]:
    """All four quantities of every arm: as planned, and, scored tokens, as counted in training."""
    counted = table.groupby(["condition", "arm", "run"])["loss_tokens"].max().groupby(["condition", "arm"]).mean()
    elsewhere = [s for s in known.get("spent", []) if (s["condition"], s["arm"]) not in plan.spent]
    return elsewhere + [
        {
            "condition": condition,
            "arm": arm,
            **{str(q): v for q, v in quantities.items()},
            "supervised_counted": float(counted.get((condition, arm), float("nan"))),
        }
        for (condition, arm), quantities in plan.spent.items()
    ]

"""From a study to the runs of a plan, and from finished runs to what is kept of them in results/."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ablate import records
from ablate.control import ControlError, prove
from ablate.machine import description
from ablate.outcomes import QUESTIONS, by_question
from ablate.prediction import Prediction, read_predictions
from ablate.run import WHERE, Run, describe
from ablate.store import digest, write_bytes
from ablate.study import Quantity, Study
from ablate.workers import Job
from experiments.cli import RUN, UsageError, jobs

if TYPE_CHECKING:
    from experiments.study import Assignment

SCRIPT = Path(__file__).parent / "run.py"
PREDICTIONS = Path(__file__).parent / "predictions.yaml"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Place:
    """Where a run stands in a study."""

    condition: str
    arm: str
    seed: int


@dataclass
class Plan:
    """A study's runs, proved to be controlled. spent: what each arm of a condition will spend."""

    study: Study
    folder: Path
    runs: dict[Place, Run]
    jobs_at: dict[Place, Job]
    spent: dict[tuple[str, str], dict[Quantity, float]]
    decided: list[Prediction]
    earlier: dict[str, Any]  # manifest of earlier sittings

    @property
    def kept(self) -> dict[str, dict[str, Any]]:
        """Runs whose rows are in results, by label."""
        return self.earlier.get("runs", {})

    @property
    def jobs(self) -> list[Job]:
        """What is not in results yet. First one arm on every seed: the base models are then trained side by side."""
        return [job for place, job in self.jobs_at.items() if self.runs[place].label not in self.kept]

    @property
    def predictions(self) -> dict[str, str]:
        """Fingerprints of the predictions that the study decides."""
        return {p.id: p.fingerprint() for p in self.decided}


def plan(assignment: Assignment) -> Plan:
    """Composes every run, proves the control of every condition, and finds what is there already.

    Raises UsageError or ValueError for what cannot be run, ControlError for arms that are not controlled.
    """
    RUN.register()
    study = dataclasses.replace(assignment.study, words=[*assignment.study.words, *assignment.words])
    folder = Path(assignment.results).expanduser() / study.name
    runs, jobs_at, spent = {}, {}, {}
    for condition in assignment.conditions:
        arms = {}
        for arm in study.arms:
            words = study.words_of(condition, arm, study.seeds[0])
            composed = jobs(RUN, words)
            if len(composed) != 1:
                raise UsageError(f"study {study.name}, arm {arm.name}: wanted one run, got {len(composed)}")
            arms[arm.name] = composed[0].resolved()
        for name, quantities in prove(study, condition.name, arms).items():
            spent[condition.name, name] = quantities
        for arm in study.arms:
            for seed in study.seeds:
                place = Place(condition.name, arm.name, seed)
                run = runs[place] = dataclasses.replace(arms[arm.name], seed=seed, out="", draw=False)
                words = study.words_of(condition, arm, seed)
                home = Path(assignment.runs) / run.label
                words += [f"out={home}", f"cache={Path(assignment.runs) / '.base'}", "draw=false"]
                jobs_at[place] = Job(f"{condition.name}/{arm.name}/seed{seed}", SCRIPT, tuple(words), home)
    return Plan(study, folder, runs, jobs_at, spent, decided_by(study), _earlier(study, folder))


def decided_by(study: Study) -> list[Prediction]:
    """The predictions that the study decides. Raises UsageError for those that are not written down."""
    known = {p.id: p for p in read_predictions(PREDICTIONS)}
    for name in study.predictions:
        if name not in known or known[name].study != study.name:
            raise UsageError(f"study.predictions: {PREDICTIONS.name} has no {name} of study {study.name}; write "
                             "it first, or type study.predictions=[]")  # fmt: skip
    return [known[name] for name in study.predictions]


def identity(study: Study) -> str:
    """Hash of what a study asks; more seeds and conditions make it longer, not another one."""
    asked = describe(study)
    return digest({name: asked[name] for name in ("name", "arms", "matched", "factor", "cells", "words")})


def _earlier(study: Study, folder: Path) -> dict[str, Any]:
    """The manifest of earlier sittings. Raises UsageError where it is another study's."""
    path = folder / MANIFEST
    if not path.exists():
        return {}
    try:
        manifest = json.loads(path.read_text())
        theirs, runs, _ = manifest["identity"], manifest["runs"], manifest["predictions"]
        labels: set[str] = set(records.read(folder, records.STUDY)["run"]) if runs else set()
    except (ValueError, KeyError, TypeError) as damage:
        raise UsageError(f"{path}: wanted the manifest of a study, got a damaged file ({damage}); delete {folder}, "
                         "whose runs are found again where they are") from None  # fmt: skip
    if theirs != identity(study):
        raise UsageError(f"{folder}: holds another study of this name (other arms, words or matching); type "
                         "study.name=NAME or results=FOLDER")  # fmt: skip
    return {**manifest, "runs": {label: known for label, known in runs.items() if label in labels}}


def begin(plan: Plan) -> None:
    """Writes the manifest, predictions and all, before the first run, if it is not there."""
    _write_manifest(plan, plan.kept, plan.earlier.get("spent", []))


Finished = tuple[Place, str, dict[str, Any], pd.DataFrame]  # a run's place, label, manifest and rows


def keep(plan: Plan, finished: Iterable[Finished]) -> None:
    """Writes rows, questions and manifest of the runs that are complete, beside those of earlier sittings.

    Raises ControlError where the arms of a seed did not begin with the same weights.
    """
    runs, frames, questions = dict(plan.kept), [], []
    if plan.kept:
        frames.append(records.read(plan.folder, records.STUDY))
        questions.append(pd.read_parquet(plan.folder / "questions.parquet"))
    for place, label, manifest, rows in finished:
        where = {"study": plan.study.name, "condition": place.condition, "arm": place.arm}
        asked = [{**where, "seed": place.seed, "question": q, "value": v} for q, v in by_question(rows).items()]
        frames.append(rows[rows["question"].isna()].assign(**where))
        questions.append(pd.DataFrame(asked, columns=list(QUESTIONS)))
        runs[label] = dataclasses.asdict(place) | {key: manifest[key] for key in KEPT} | {
            "commit": manifest["code"]["commit"], "words": said(plan.jobs_at[place])}  # fmt: skip
    if len(runs) == len(plan.kept):
        return
    _require_same_start(plan.study, runs)
    table = pd.concat(frames, ignore_index=True)
    records.write(table, plan.folder / records.FILE, records.STUDY)
    records.write(pd.concat(questions, ignore_index=True), plan.folder / "questions.parquet", QUESTIONS)
    _write_manifest(plan, runs, _spent(plan, table))


def _write_manifest(plan: Plan, runs: dict[str, dict[str, Any]], spent: list[dict[str, Any]]) -> None:
    """A prediction's fingerprint stays as it was when the study first knew of it: a later edit shows."""
    content = {
        "identity": identity(plan.study), "study": describe(plan.study),
        "predictions": plan.predictions | plan.earlier.get("predictions", {}), "machine": description(),
        "runs": dict(sorted(runs.items())), "spent": spent,
        "minutes": sum(run["wall_seconds"] for run in runs.values()) / 60,
    }  # fmt: skip
    write_bytes(plan.folder / MANIFEST, json.dumps(content, indent=1).encode())


def said(job: Job) -> list[str]:
    """The words of a run's command line but for those that say where its files lie."""
    return [word for word in job.words if word.split("=")[0] not in WHERE]


KEPT = ("config_fingerprint", "initial_weights", "data", "source", "packages", "wall_seconds", "cpu_seconds")


def finished(plan: Plan) -> Iterator[Finished]:
    """The runs that are complete and not kept yet."""
    for place, job in plan.jobs_at.items():
        label = plan.runs[place].label
        if label not in plan.kept and job.complete:
            yield place, label, json.loads((job.folder / MANIFEST).read_text()), records.read(job.folder)


def _require_same_start(study: Study, runs: dict[str, dict[str, Any]]) -> None:
    first: dict[tuple[str, int], tuple[str, str]] = {}
    for run in runs.values():
        name, weights = first.setdefault((run["condition"], run["seed"]), (run["arm"], run["initial_weights"]))
        if weights != run["initial_weights"]:
            raise ControlError(
                f"study {study.name}, condition {run['condition']}, seed {run['seed']}: wanted the same base weights "
                f"in every arm, got {weights[:8]} in {name} and {run['initial_weights'][:8]} in {run['arm']}; delete "
                "the runs that were made on another machine or with other code"
            )


def _spent(plan: Plan, table: pd.DataFrame) -> list[dict[str, Any]]:
    """All four quantities of every arm: as planned, and, scored tokens, as counted in training."""
    counted = table.groupby(["condition", "arm", "run"])["loss_tokens"].max().groupby(["condition", "arm"]).mean()
    elsewhere = [s for s in plan.earlier.get("spent", []) if (s["condition"], s["arm"]) not in plan.spent]
    return elsewhere + [
        {"condition": condition, "arm": arm, **{str(q): v for q, v in quantities.items()},
         "supervised_counted": float(counted.get((condition, arm), float("nan")))}
        for (condition, arm), quantities in plan.spent.items()
    ]  # fmt: skip

"""Bits that rot in finished rows: found by whoever reads them, given back by the command that made them."""

import dataclasses
import json
import shutil

import pandas as pd
import pytest
from rich.console import Console

import paper_figs
from ablate.core import records
from ablate.core.manifest import MANIFEST, load, read_vouched, write_manifest
from ablate.core.storage import Damaged
from ablate.core.validation import UsageError
from ablate.studies.job import Job
from ablate.studies.outcomes import QUESTIONS
from ablate.training.checkpoint import FOLDER, checkpoints
from ablate.training.run_manifest import RunError
from ablate.training.train import train
from experiments import verdicts
from experiments.finished_runs import run_folder
from experiments.reports import figure_catalogue
from experiments.study_runner import kept_results, plan_runs
from tests import ROOT
from tests.builders import tiny_run
from tests.dying import dying
from tests.experiments.test_study import AR, BIDLLM, assignment, blank, study

QUIET = Console(quiet=True)


def flip(path, bit=None):
    """One bit, in the middle unless told."""
    content = bytearray(path.read_bytes())
    bit = 4 * len(content) if bit is None else bit
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def heard(run):
    console = Console(record=True, width=500, file=open("/dev/null", "w"))  # noqa: SIM115
    train(run, console)
    return console.export_text()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tiny_run(tmp_path_factory.mktemp("finished"))
    train(run, QUIET)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("file", ["records.parquet", "config.yaml"])
def test_a_finished_run_is_restored_by_its_own_command(finished, tmp_path, file):
    run = dataclasses.replace(finished, out=str(tmp_path / "copy"))
    shutil.copytree(finished.folder, run.folder)
    path = run.folder / file
    whole = path.read_bytes()
    job = Job("x", ROOT / "run.py", (), run.folder, ("records.parquet", "config.yaml"))
    for bit in range(3, 8 * len(whole), len(whole)):
        flip(path, bit)
        assert not job.complete, "a study would take it for finished"
        with pytest.raises(Damaged, match=rf"{path}: wanted the content that manifest.json vouches for"):
            read_vouched(path)
        said = heard(run)
        assert f"{file} lost or damaged; restored from checkpoint" in said
        assert job.complete
    pd.testing.assert_frame_equal(records.read(run.folder), records.read(finished.folder))
    assert "lost or damaged" not in heard(run)


def test_readers_name_the_damaged_records_of_a_run_and_what_to_type(finished, tmp_path, capsys):
    shutil.copytree(finished.folder, tmp_path / "run")
    flip(tmp_path / "run" / "records.parquet")
    with pytest.raises(ValueError, match=r"records.parquet: .* type the command that made it again \("):
        records.gather([tmp_path / "run"])
    assert paper_figs.main(["training_dynamics", "--from", str(tmp_path / "run")]) == 2
    assert "got damaged content; restore it, or type the command" in capsys.readouterr().err


def test_an_export_does_not_read_a_damaged_configuration(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "run")
    assert run_folder.read(tmp_path / "run").config["seed"] == 0
    flip(tmp_path / "run" / "config.yaml")
    with pytest.raises(RunError, match=r"config.yaml: wanted the content that manifest.json vouches for"):
        run_folder.read(tmp_path / "run")


def test_what_cannot_be_restored_is_said(finished, tmp_path):
    run = dataclasses.replace(finished, out=str(tmp_path / "copy"))
    shutil.copytree(finished.folder, run.folder)
    flip(run.folder / "records.parquet")
    flip(checkpoints(run.folder / FOLDER)[-1] / "plain.ckpt")
    with pytest.raises(RunError, match=r"records.parquet: lost or damaged, and so is the checkpoint"):
        train(run, QUIET)


def planned(tmp_path):
    return plan_runs.plan(assignment(tmp_path, study(AR, BIDLLM, seeds=[1])))


def finish_runs(plan):
    """Run folders as they lie there when all are complete, every value 0."""
    for place, label, manifest, rows in blank(plan):
        folder = plan.jobs_at[place].folder
        records.write(rows, folder / "records.parquet")
        (folder / MANIFEST).write_text(json.dumps({**manifest, "status": "complete", "label": label}))


def content(folder):
    return {name: (folder / name).read_bytes() for name in ("records.parquet", "questions.parquet")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("records.parquet", flip),
        ("questions.parquet", lambda path: path.unlink()),
        pytest.param("questions.parquet", flip, marks=pytest.mark.slow),
        pytest.param("records.parquet", lambda path: path.write_bytes(b""), marks=pytest.mark.slow),
    ],
)
def test_results_are_rebuilt_from_runs_and_say_so(tmp_path, capsys, file, damage):
    plan = planned(tmp_path)
    finish_runs(plan)
    kept_results.begin(plan)
    kept_results.keep(plan, kept_results.finished(plan))
    before = content(plan.folder)
    damage(plan.folder / file)
    again = planned(tmp_path)
    said = capsys.readouterr().err
    assert str(plan.folder / file) in said
    assert "rebuilt from its 2 runs, which are there" in said
    assert len(said.splitlines()) == 1
    kept_results.begin(again)
    kept_results.keep(again, kept_results.finished(again))
    assert content(plan.folder) == before
    assert not planned(tmp_path).jobs
    assert load(plan.folder / MANIFEST, {})["runs"].keys() == {run.label for run in plan.runs.values()}


@pytest.mark.slow
def test_results_whose_runs_are_gone_are_refused_and_stay(tmp_path):
    plan = planned(tmp_path)
    kept_results.begin(plan)
    kept_results.keep(plan, blank(plan))
    flip(plan.folder / "records.parquet")
    before = content(plan.folder)
    with pytest.raises(UsageError, match=r"records.parquet: .*2 of its 2 runs are not to be found, such as"):
        planned(tmp_path)
    (plan.folder / MANIFEST).unlink()
    with pytest.raises(UsageError, match=r"manifest.json.*; restore it, or type results=FOLDER"):
        planned(tmp_path)
    assert content(plan.folder) == before


@pytest.mark.slow
def test_a_kill_at_any_operation_of_keeping_leaves_rows_that_can_be_read(tmp_path):
    plan = planned(tmp_path)
    one, two = blank(plan)
    with dying(plan.folder) as death:
        kept_results.begin(plan)
        kept_results.keep(plan, [one])
        first = death.count
        kept_results.keep(plan, [two])
        total = death.count
    for at in range(first, total + 1):
        shutil.rmtree(plan.folder)
        kept_results.begin(plan)
        kept_results.keep(plan, [one])
        with dying(plan.folder, at - first + 1):
            kept_results.keep(plan, [two])
        assert one[1] in set(records.read(plan.folder, records.STUDY)["run"])
        records.read(plan.folder / "questions.parquet", QUESTIONS)
        kept_results.keep(plan, [two])
        assert records.read(plan.folder, records.STUDY)["run"].tolist() == sorted([one[1], two[1]] * 2)


WRONG = [
    {"runs": [1]},
    {"runs": {"a": 1}},
    {"runs": {"a": {"condition": 1, "arm": "x", "source": "y"}}},
    {"seeds": "x"},
    {"predictions": []},
    {"predictions": {"H1": 1}},
]


def test_a_damaged_manifest_of_results_is_one_line(tmp_path, capsys):
    plan = planned(tmp_path)
    kept_results.begin(plan)
    kept_results.keep(plan, blank(plan))
    predictions = tmp_path / "predictions.yaml"
    fields = "study: probe, condition: all, claim: x, source: y, arm: ar, other: bidllm, direction: lower"
    predictions.write_text(f"H1: {{{fields}, threshold: 1}}")
    path = plan.folder / MANIFEST
    right = json.loads(path.read_text())
    for change in WRONG:
        write_manifest(plan.folder, right | change)
        with pytest.raises(UsageError, match=rf"^{path}: wanted a manifest, got a damaged file \(content[^\n]*$"):
            kept_results.earlier(plan.study, plan.folder)
        assert verdicts.main(["--results", str(tmp_path / "results"), "--predictions", str(predictions)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {path}: wanted a manifest, got a damaged file (content")
        assert len(said.splitlines()) == 1


def test_committed_results_are_what_their_manifests_vouch_for(tmp_path):
    manifests = sorted((ROOT / "results").rglob(MANIFEST))
    assert len(manifests) > 10
    for path in manifests:
        files = load(path, {"files": {...: str}})["files"]
        assert {file.name for file in path.parent.glob("*.parquet")} == set(files)
        for name in files:
            read_vouched(path.parent / name)
    shutil.copytree(ROOT / "results" / "warmup", tmp_path / "warmup")
    flip(tmp_path / "warmup" / "records.parquet")
    with pytest.raises(Damaged, match=r"records.parquet: .* a study or a sweep from its runs"):
        figure_catalogue.read_study(tmp_path / "warmup")

"""Trials: what is recorded of them, and what becomes of a dead worker's, on a journal and on PostgreSQL.

Where a law is about trials and not about training, a script of a few lines stands in for run.py.
"""

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import optuna
import pandas as pd
import pytest

from ablate.core import records
from ablate.core.validation import UsageError
from ablate.studies.outcomes import Outcome
from ablate.studies.search_space import Choices, Space
from experiments.presets import search_spaces
from experiments.sweep_runner import sweep_results, trial_storage, trial_worker
from experiments.sweep_runner.feasible_space import fit
from experiments.sweep_runner.search import Search
from tests import ROOT
from tests.experiments.postgres import server

SWEEP = [sys.executable, str(ROOT / "experiments" / "sweep.py")]
TINY = [
    "corpus.operations=2",
    "corpus.values=4",
    "batch=8",
    "threads=1",
    "budget=smoke",
    "budget.base_tokens=2000",
    "budget.tokens=4000",
]
# value: 1000 lr, and the number of the seed among 100, 101, ...; lr 0.008 fails, 0.009 is not a number
STAND_IN = f"""
import json, os, sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from ablate.core import records
words = dict(word.split("=", 1) for word in sys.argv[1:])
rate, seed, folder = float(words["regime.stages.1.lr"]), int(words["seed"]), Path(words["out"])
if os.environ.get("STAND_IN_KILLED") == words["regime.stages.1.lr"]:
    os.kill(os.getpid(), 9)
if "STAND_IN_FULL" in os.environ:
    print("error: wanted room to write")
    sys.exit(2)
if rate == 0.008:
    sys.exit("error: it diverged")
value = float("nan") if rate == 0.009 else 1000 * rate + seed - 100
common = dict.fromkeys(records.COLUMNS, "") | dict(seed=seed, tokens=0, loss_tokens=0, flops=0.0, question=None)
common |= records.NO_BLOCKS | dict(domain="new", metric="excess_bits")
rows = []
folder.mkdir(parents=True)
for step in range(4):
    at = common | dict(step=step, stage=int(step > 2))
    rows.append(at | dict(split="test", contexts="block", block_size=1, value=value))
    rows.append(at | dict(split="train", contexts="random", block_size=None, value=10 - value))
    records.write(records.table(rows), folder / "records.parquet")
    time.sleep(float(os.environ["STAND_IN_SECONDS"]))
(folder / "manifest.json").write_text(json.dumps({{"status": "complete"}}))
"""


def rates(*values):
    return Space("rates", "Which?", [Choices("lr", list(values), search_spaces.BOTH)])


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A function that makes a fitted search whose runs are the script's."""
    monkeypatch.setenv("STAND_IN_SECONDS", "0")
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)

    def make(space, **fields):
        folders = {"runs": str(tmp_path / "runs"), "results": str(tmp_path / "results")}
        search = Search(space, **{"words": ["regime=ar", *TINY], "seeds": [100], **folders, **fields})
        return replace(fit(search), script=script, pauses=3)

    return make


@pytest.mark.slow
def test_a_full_disk_fails_no_trial(stand_in, monkeypatch, capsys):
    fitted = stand_in(rates(0.001, 0.002), sampler="grid")
    monkeypatch.setenv("STAND_IN_FULL", "yes")
    with pytest.raises(SystemExit):
        trial_worker.Worker(fitted).go()
    assert "error: wanted room to write" in capsys.readouterr().err
    monkeypatch.delenv("STAND_IN_FULL")
    trial_worker.Worker(fitted).go()
    counted = trial_storage.standing(trial_storage.open_study(fitted.search).get_trials())
    assert sorted(trial.value for trial in counted) == [1.0, 2.0]


@pytest.mark.slow
def test_a_trial_whose_run_is_killed_each_time_is_tried_again_by_the_same_command_alone(stand_in, monkeypatch):
    fitted = stand_in(rates(0.001, 0.002, 0.008), sampler="grid")
    monkeypatch.setenv("STAND_IN_KILLED", "0.002")
    study = trial_storage.open_study(fitted.search)

    def states():
        standing = trial_storage.standing(study.get_trials())
        return {trial.params.get("lr"): trial.state.name for trial in standing}

    trial_worker.Worker(fitted).go()
    assert states() == {0.001: "COMPLETE", 0.002: "FAIL", 0.008: "FAIL"}
    for outcome in ("FAIL", "COMPLETE"):  # killed again, then let be
        trial_storage.try_again(study, fitted.search.home)
        waiting = [trial.params for trial in study.get_trials() if trial.state.name == "WAITING"]
        assert waiting == [{"lr": 0.002}]
        if outcome == "COMPLETE":
            monkeypatch.delenv("STAND_IN_KILLED")
        trial_worker.Worker(fitted).go()
        assert states() == {0.001: "COMPLETE", 0.002: outcome, 0.008: "FAIL"}
    trial_storage.try_again(study, fitted.search.home)
    assert not [trial for trial in study.get_trials() if trial.state.name == "WAITING"]


@pytest.mark.slow
def test_failed_and_nan_trials_are_recorded_as_such_and_resuming_adds_none(stand_in, monkeypatch):
    fitted = stand_in(rates(0.001, 0.002, 0.008, 0.009), sampler="grid", seeds=[100, 103])
    for _ in range(2):
        trial_worker.Worker(fitted).go()
    study = trial_storage.open_study(fitted.search)
    sweep_results.keep(fitted.search, study)
    table = pd.read_parquet(fitted.search.folder / "trials.parquet")
    assert len(table) == 8  # four points of the grid, not forty trials
    assert table.dtypes.astype(str).to_dict() == {
        "sweep": "str",
        "trial": "int64",
        "seed": "int64",
        "state": "str",
        "value": "float64",
        "lr": "float64",
    }
    states = table.groupby("lr")["state"].unique().map(list).to_dict()
    assert states == {0.001: ["complete"], 0.002: ["complete"], 0.008: ["failed"], 0.009: ["failed"]}
    assert table[table["state"] == "failed"]["value"].isna().all()
    assert sorted(table["value"].dropna()) == pytest.approx([1, 2, 4, 5])
    manifest = json.loads((fitted.search.folder / "manifest.json").read_text())
    assert manifest["trials"] == {"complete": 2, "failed": 2, "pruned": 0}
    assert manifest["best"]["values"] == {"excess_bits": pytest.approx(2.5)}
    assert sorted(manifest["failures"].values()) == ["error: it diverged", "excess bits, block 1, mean: nan"]
    assert shlex.split(manifest["best"]["commands"][1])[2:] == list(fitted.jobs({"lr": 0.001})[1].words)
    importance = pd.read_parquet(fitted.search.folder / "importance.parquet")
    assert importance[["importance", "low", "high"]].isna().all(axis=None)  # two complete trials say nothing


@pytest.mark.slow
def test_a_sweep_killed_while_it_said_what_it_asks_goes_on(stand_in):
    """What it had said is then half there, and no trial yet."""
    search = stand_in(rates(0.001, 0.002)).search
    trial_storage.open_study(search)
    journal = search.home / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    for kept in range(1, len(lines)):
        journal.write_bytes(b"".join(lines[:kept]))
        assert set(trial_storage.open_study(search).user_attrs) == {*trial_storage.IDENTITY, "parameters", "folder"}
    journal.write_bytes(b"".join(lines[:3]))
    with pytest.raises(UsageError, match="holds another sweep"):
        trial_storage.open_study(replace(search, sweep=rates(0.003)))


@pytest.mark.slow
def test_another_sweep_of_the_same_name_is_refused(stand_in):
    fitted = stand_in(rates(0.001, 0.002), trials=1)
    trial_worker.Worker(fitted).go()
    trial_storage.open_study(replace(fitted.search, trials=3, workers=2))
    for other in ({"seeds": [1]}, {"words": ["regime=ar"]}, {"sweep": rates(0.001)}, {"sampler": "sobol"}):
        with pytest.raises(UsageError, match=r"holds another sweep of the name rates .* type name=OTHER"):
            trial_storage.open_study(replace(fitted.search, **other))
    (fitted.search.home / "token").write_bytes(b"0123\xb2")
    with pytest.raises(UsageError, match="begun in another folder"):
        trial_storage.open_study(fitted.search)


@pytest.mark.slow
def test_several_objectives_have_a_column_each(stand_in):
    fitted = stand_in(rates(0.001, 0.002), sampler="grid", objectives=["excess_bits", "excess_bits_random"])
    trial_worker.Worker(fitted).go()
    study = trial_storage.open_study(fitted.search)
    table = sweep_results.table(fitted.search, study.trials).set_index("lr")
    assert table["value"].to_dict() == pytest.approx({0.001: 1, 0.002: 2})
    assert table["excess_bits_random"].to_dict() == pytest.approx({0.001: 9, 0.002: 8})
    assert [trial.params["lr"] for trial in sweep_results.ranked(study.trials)] == [0.001, 0.002]


@pytest.mark.slow
def test_a_pruned_trial_is_stopped_and_has_no_value(stand_in, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "1")
    monkeypatch.setattr(trial_worker, "pruner_of", lambda *_: optuna.pruners.ThresholdPruner(upper=1.5))
    fitted = stand_in(rates(0.001, 0.002), sampler="grid", pruner="hyperband")
    trial_worker.Worker(fitted).go()
    study = trial_storage.open_study(fitted.search)
    told = {t.params["lr"]: (t.state.name, t.intermediate_values) for t in study.trials}
    assert told[0.001] == ("COMPLETE", {1: 1, 2: 1, 3: 1})
    assert told[0.002] == ("PRUNED", {1: 2})
    table = sweep_results.table(fitted.search, study.trials).set_index("lr")
    assert (table.loc[0.002, "state"], math.isnan(table.loc[0.002, "value"])) == ("pruned", True)
    assert [job.complete for rate in (0.001, 0.002) for job in fitted.jobs({"lr": rate})] == [True, False]


def test_reports_are_means_over_seeds_and_the_last_one_prunes_nothing():
    class Trial:
        def __init__(self):
            self.told = {}

        def report(self, value, step):
            self.told[step] = value

        def should_prune(self):
            return max(self.told) >= 4

    def rows(*values):
        common = {"metric": "excess_bits", "contexts": "block", "domain": "new", "split": "test", "run": "r"}
        common |= records.NO_BLOCKS | {"block_size": 1}
        return pd.DataFrame([{**common, "stage": 0, "step": i, "value": v} for i, v in enumerate(values)])

    trial = Trial()
    reporter = trial_worker.Reporter(trial, Outcome(), pauses=2, last=4)
    reporter.tell(rows(4.0, 2.0))
    reporter.tell(rows(4.0, 2.0, 2.0))
    reporter.next_seed(rows(4.0, 2.0, 2.0))
    reporter.tell(rows(1.0, 1.0, 1.0))
    assert trial.told == pytest.approx({1: 3, 2: 2.5, 3: 1.75, 4: 1.75})
    with pytest.raises(trial_worker.FailedTrialError, match="nan"):
        trial_worker.Reporter(Trial(), Outcome(), pauses=2, last=9).tell(rows(1.0, math.nan))


def wait_for(condition, seconds=600):
    begun = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - begun < seconds, "nothing happened"
        time.sleep(0.1)
    return found


def kill_a_worker(study, running=2):
    """Kills the worker of the first running trial as soon as so many are at work on commands; returns the trial."""
    at_work = wait_for(
        lambda: (
            len(
                found := [
                    t for t in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)) if "commands" in t.user_attrs
                ]
            )
            == running
            and found
        )
    )
    os.kill(int(at_work[0].user_attrs["worker"].split(":")[1]), signal.SIGKILL)
    return at_work[0]


def require_whole(search, study, dead):
    """The dead trial has failed without a value, another stands for it, and the sweep has as many as asked for."""
    everyone = study.get_trials()
    counted = trial_storage.standing(everyone)
    assert all(t.state.is_finished() for t in everyone)
    assert [t.state.name for t in counted] == ["COMPLETE"] * search.total
    assert everyone[dead.number].state.name == "FAIL"
    assert everyone[dead.number].values is None
    assert dead.number not in [t.number for t in counted]
    assert dead.params in [t.params for t in counted]
    assert all(value > 0 for t in counted for value in t.values)


@pytest.mark.slow
def test_a_killed_workers_trial_is_tried_again_on_a_journal(stand_in, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "1")
    fitted = stand_in(rates(0.001, 0.002, 0.003), sampler="grid")
    study = trial_storage.open_study(fitted.search)
    workers = [
        get_context("spawn").Process(target=trial_worker.work, args=(trial_worker.Worker(fitted),)) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    dead = kill_a_worker(study)
    for worker in workers:
        worker.join(600)
    assert sorted(worker.exitcode for worker in workers) == [-signal.SIGKILL, 0]
    require_whole(fitted.search, study, dead)


@pytest.mark.slow
def test_a_killed_workers_trial_is_tried_again_on_postgres(tmp_path):
    """The whole command, with real runs."""
    import psycopg2

    with server() as url:
        words = ["regime=ar_to_block", *TINY, f"storage={url}", "trials=2", "workers=2", "seeds=[100]"]
        process = subprocess.Popen(
            [*SWEEP, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        search = Search(search_spaces.SWEEPS["block_and_warmup"], trials=2, storage=url, runs=str(tmp_path / "runs"))
        wait_for((search.home / "trials").is_dir)
        study = optuna.load_study(study_name=search.title, storage=trial_storage._storage(search))
        dead = kill_a_worker(study)
        said = process.communicate(timeout=900)[0]
        assert process.returncode == 0, said
        require_whole(search, study, dead)
        with psycopg2.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("select count(*) from trial_heartbeats")
            assert cursor.fetchone() == (3,)
    manifest = json.loads((tmp_path / "results" / "block_and_warmup" / "manifest.json").read_text())
    assert (manifest["storage"], manifest["tried_again"]) == ("postgresql", [dead.number])
    assert "secret" not in said + json.dumps(manifest)
    table = pd.read_parquet(tmp_path / "results" / "block_and_warmup" / "trials.parquet")
    assert (table["state"] == "complete").all()
    assert len(table) == 2
    copied = subprocess.run(
        [sys.executable, *shlex.split(manifest["best"]["commands"][0])[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "complete already" in copied.stdout
    if "ABLATE_POSTGRES_RAN" in os.environ:  # .ci/run looks for it
        Path(os.environ["ABLATE_POSTGRES_RAN"]).write_text(said)


@pytest.mark.slow
def test_ctrl_c_stops_within_seconds_and_the_same_command_goes_on(tmp_path):
    words = ["regime=bidllm", "sweep=lr", *TINY, "trials=1", "seeds=[100]"]
    process = subprocess.Popen(
        [*SWEEP, *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: list((tmp_path / "runs").glob("trace-*/config.yaml")))
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    error = process.communicate(timeout=600)[1]
    assert time.monotonic() - begun < 60  # 1 to 4 s, where no other work is done
    assert process.returncode == 130
    assert error == "interrupted; the same command goes on from the last checkpoint, where there is one\n"
    again = subprocess.run([*SWEEP, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "1 complete, 0 failed, 0 pruned" in again.stdout
    assert len(list((tmp_path / "runs").glob("trace-*"))) == 1

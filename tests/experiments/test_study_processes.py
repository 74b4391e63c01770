"""Studies as processes: who is killed or stopped loses nothing, and the rows do not show it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from ablate.core import records
from ablate.studies.job_queue import JobQueue, LocalRunner
from experiments.cli.run_command import LOADED
from experiments.presets.registry import GROUPS
from experiments.study_runner import plan_runs
from experiments.study_runner.assignment import Assignment
from tests import ROOT
from tests.experiments.test_study import TINY

STUDY_COMMAND = [
    sys.executable,
    str(ROOT / "experiments" / "study.py"),
    "study=small_block",
    "study.fork=true",
    "study.name=killed",
    "study.predictions=[]",
    "study.seeds=[1,2]",
    "words=[" + ",".join(f"'{word}'" for word in TINY[1:]) + "]",
]


def started(folder, *words):
    return subprocess.Popen(
        [*STUDY_COMMAND, f"runs={folder}/runs", f"results={folder}/results", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )


def children_of(pid, words):
    found = subprocess.run(["pgrep", "-P", str(pid), "-f", words], capture_output=True, text=True, check=False)
    return [int(child) for child in found.stdout.split()]


def runs_of(study_process):
    """The processes that its server has forked."""
    return [run for server in children_of(study_process.pid, "forkserver") for run in children_of(server, "forkserver")]


@pytest.mark.slow
def test_killed_workers_leave_the_same_records(tmp_path):
    """SIGKILL to the trunks as they train together, to arms that have left them, then to the whole of one of two
    processes: the other ends with the rows of an undisturbed study, to the byte."""
    calm, disturbed = tmp_path / "calm", tmp_path / "disturbed"
    assert started(calm, "workers=2").wait() == 0
    one, other = started(disturbed), started(disturbed)
    for begun in ("trunk-*", "trace-*"):
        while not list(disturbed.glob(f"runs/{begun}/manifest.json")):
            time.sleep(0.1)
        while not (run := runs_of(one) or runs_of(other)):
            assert one.poll() is None or other.poll() is None, "it ended before it was killed"
            time.sleep(0.05)
        os.kill(run[0], signal.SIGKILL)
    time.sleep(2)
    one.kill()
    one.wait()
    assert other.wait() == 0
    files = [folder / "results" / "killed" / "records.parquet" for folder in (calm, disturbed)]
    assert files[0].read_bytes() == files[1].read_bytes()
    manifest = json.loads(files[1].with_name("manifest.json").read_text())
    assert len(manifest["runs"]) == 2 * 5
    assert all(run["fork"]["step"] for run in manifest["runs"].values())


@pytest.mark.slow
def test_a_run_of_a_study_has_the_records_of_its_command_typed_by_hand(tmp_path):
    asked = replace(GROUPS["study"]["regimes"], name="typed", predictions=[], seeds=[1], cells=[], words=TINY[1:])
    assignment = Assignment(asked, runs=str(tmp_path / "runs"), results=str(tmp_path / "results"), only=["trace"])
    first, second, _ = plan_runs.plan(assignment).jobs
    JobQueue([first, second], runner=LocalRunner(LOADED)).go()
    words = [f"out={tmp_path / 'typed'}" if word.startswith("out=") else word for word in second.words]
    done = subprocess.run([*second.command[:3], *words], stdout=subprocess.DEVNULL, cwd=ROOT, check=False)
    assert done.returncode == 0
    warm, typed = (folder / records.FILE for folder in (second.folder, tmp_path / "typed"))
    assert warm.read_bytes() == typed.read_bytes()


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(tmp_path):
    one = started(tmp_path)
    first = tmp_path / "runs" / ".logs"
    while len(list(first.glob("*.log"))) < 3:  # the trunks and the first arm are done, the second is at work
        assert one.poll() is None
        time.sleep(0.1)
    one.send_signal(signal.SIGINT)
    assert one.wait(timeout=60) == 130
    assert not runs_of(one)
    manifest = json.loads((tmp_path / "results" / "killed" / "manifest.json").read_text())
    assert 2 <= len(manifest["runs"]) < 10
    assert started(tmp_path).wait() == 0
    rows = records.read(tmp_path / "results" / "killed", records.STUDY)
    assert rows["run"].nunique() == 10

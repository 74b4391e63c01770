"""Workers: a run is done once, whoever dies; what fails says why."""

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver

import pytest

from ablate.core.storage import lock
from ablate.studies.job import Job, together
from ablate.studies.job_queue import ATTEMPTS, JobQueue, LocalRunner, State

# Stands in for a run: notes that it was at work, and is complete unless told otherwise.
SCRIPT = """
import json, os, pathlib, signal, sys, time
folder, seconds, how = pathlib.Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
folder.mkdir(parents=True, exist_ok=True)
with (folder / "begun").open("a") as file: file.write(f"{os.getpid()}\\n")
if how == "fail": sys.exit("error: wanted more, got less; type more")
if how == "die" or (how == "die_once" and not (folder / "died").exists()):
    (folder / "died").touch()
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(seconds)
(folder / "manifest.json").write_text(json.dumps({"status": "complete"}))
"""
CREW = """
import sys; from pathlib import Path
from ablate.studies.job_queue import JobQueue; from ablate.studies.job import Job
names, seconds, root = sys.argv[3].split(","), sys.argv[2], Path(sys.argv[1])
JobQueue([Job(n, root / "run.py", (str(root / n), seconds, "well"), root / n) for n in names], 1).go()
"""


@pytest.fixture
def job(tmp_path):
    (tmp_path / "run.py").write_text(SCRIPT)

    def make(name, how="well", seconds=0.0):
        folder = tmp_path / name
        return Job(name, tmp_path / "run.py", (str(folder), str(seconds), how), folder)

    return make


def begun(job):
    return len((job.folder / "begun").read_text().split())


def test_every_job_is_done_once_by_several_workers(job):
    jobs = [job(f"run{i}", seconds=0.1) for i in range(6)]
    queue = JobQueue(jobs, 3)
    queue.go()
    assert set(queue.states.values()) == {State.done}
    assert [begun(one) for one in jobs] == [1] * 6
    assert queue.left() == 0


def test_what_is_complete_is_not_run_again(job):
    jobs = [job("old"), job("new")]
    JobQueue(jobs[:1]).go()
    queue = JobQueue(jobs)
    assert queue.states == {"old": State.done, "new": State.waiting}
    queue.go()
    assert [begun(one) for one in jobs] == [1, 1]


def test_a_run_that_says_why_it_fails_is_not_tried_again(job):
    queue = JobQueue([job("bad", "fail"), job("good")])
    queue.go()
    assert queue.states == {"bad": State.failed, "good": State.done}
    assert begun(queue.jobs[0]) == 1
    assert queue.jobs[0].complaint() == "error: wanted more, got less; type more"


def test_a_run_that_is_killed_is_tried_again(job):
    queue = JobQueue([job("unlucky", "die_once"), job("doomed", "die")])
    queue.go()
    assert queue.states == {"unlucky": State.done, "doomed": State.failed}
    assert [begun(one) for one in queue.jobs] == [2, ATTEMPTS]


def test_a_claimed_job_is_left_to_its_holder(job):
    queue = JobQueue([job("theirs"), job("ours")])
    held = lock(queue.jobs[0].claim)

    class Releasing(LocalRunner):
        def run(self, job, claims):
            status = super().run(job, claims)
            if job.name == "ours":
                assert queue.states["theirs"] is State.elsewhere
                held.close()
            return status

    queue.runner = Releasing()
    queue.go()
    assert set(queue.states.values()) == {State.done}


def test_processes_share_a_plan_and_survive_each_other(job, tmp_path):
    """Two processes, one killed: the run that it had begun is finished by itself or by the other, never by both at
    once, and nothing is lost."""
    jobs = [job(f"run{i}", seconds=0.4) for i in range(6)]
    words = [sys.executable, "-c", CREW, str(tmp_path), "0.4", ",".join(one.name for one in jobs)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    one, other = (subprocess.Popen(words, env=environment) for _ in range(2))
    while not jobs[1].folder.exists():
        time.sleep(0.02)
    one.send_signal(signal.SIGKILL)
    one.wait()
    assert other.wait(timeout=30) == 0
    assert all(one.complete for one in jobs)
    assert [begun(one) for one in jobs] == [1] * 6  # the killed one's run held its claim to its own end


def test_the_claim_outlives_the_worker_as_long_as_the_run(job, tmp_path):
    lone = job("lone")
    words = [sys.executable, "-c", CREW, str(tmp_path), "1.5", "lone"]
    worker = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": os.getcwd()})
    while not lone.folder.exists():
        time.sleep(0.02)
    worker.kill()
    worker.wait()
    assert lock(lone.claim) is None
    queue = JobQueue([lone])
    queue.go()
    assert queue.states == {"lone": State.done}
    assert queue.attempts["lone"] == 0
    assert json.loads((lone.folder / "manifest.json").read_text())["status"] == "complete"


def test_a_killed_server_takes_no_run_with_it(job):
    """Its runs go on and hold their claims; what is left is carried out by another server."""
    queue = JobQueue([job(f"run{i}", seconds=1.0) for i in range(4)], 2)

    def kill_once():
        if all(one.folder.exists() for one in queue.jobs[:2]) and not killed:
            killed.append(forkserver._forkserver._forkserver_pid)
            os.kill(killed[0], signal.SIGKILL)

    killed = []
    queue.go(kill_once)
    assert forkserver._forkserver._forkserver_pid != killed[0]
    assert set(queue.states.values()) == {State.done}
    assert [begun(one) for one in queue.jobs] == [1] * 4


def test_a_killed_run_takes_no_other_of_its_worker_with_it(job):
    queue = JobQueue([job("long", seconds=1.0), *(job(f"dies{i}", "die_once") for i in range(3))], 2)
    queue.go()
    assert set(queue.states.values()) == {State.done}
    assert [begun(one) for one in queue.jobs] == [1, 2, 2, 2]


def test_a_run_has_no_open_file_of_ours_but_its_claims(job, tmp_path):
    (tmp_path / "run.py").write_text(FILES)
    one = job("files")
    with (tmp_path / "secret").open("w"):
        JobQueue([one]).go()
    assert json.loads((one.folder / "files").read_text()) == [str(one.claim), str(one.log)]


@pytest.mark.slow
def test_the_server_is_warm_and_alone(job, tmp_path):
    """A run finds loaded what was to be loaded; a server with threads of its own could not be forked from safely."""
    (tmp_path / "run.py").write_text(LOADED)
    one = job("warm")
    words = [sys.executable, "-c", CREW_OF_RUNS, str(tmp_path)]
    assert subprocess.run(words, env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False).returncode == 0
    assert json.loads((one.folder / "found").read_text()) == {"lightning": True, "grad": True}


FILES = """
import json, os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
links = {os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")}
ours = sorted(link for link in links if link.startswith(str(folder.parent)))
(folder / "files").write_text(json.dumps(ours))
(folder / "manifest.json").write_text(json.dumps({"status": "complete"}))
"""
LOADED = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
loaded = "lightning" in sys.modules
import torch
torch.set_num_threads(2)  # a pool that the server had begun would hang here
x = torch.ones(500, 500, requires_grad=True)
(x @ x).sum().backward()
(folder / "found").write_text(json.dumps({"lightning": loaded, "grad": bool((x.grad == 1000).all())}))
(folder / "manifest.json").write_text(json.dumps({"status": "complete"}))
"""
CREW_OF_RUNS = """
import sys; from pathlib import Path
from ablate.studies.job_queue import JobQueue, LocalRunner; from ablate.studies.job import Job
from experiments.cli.run_command import LOADED
root = Path(sys.argv[1])
JobQueue([Job("warm", root / "run.py", (str(root / "warm"),), root / "warm")], runner=LocalRunner(LOADED)).go()
"""

# Stands in for run.py, which gets the seeds of several runs at once: the folder of each is named after its seed.
TOGETHER = """
import json, os, pathlib, signal, sys
words = dict(word.split("=") for word in sys.argv[1:] if "=" in word)
home, seeds = pathlib.Path(words["out"]).parent, words["seed"].split(",")
assert ("-m" in sys.argv) == (len(seeds) > 1) and words.get("pack", "1") == str(len(seeds))
with (home / "commands").open("a") as file: file.write(words["seed"] + "\\n")
for seed in seeds:
    if seed == "13": sys.exit("error: seed 13: wanted luck, got none; type another")
    if seed == "5" and not (home / "died").exists():
        (home / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (home / seed).mkdir(exist_ok=True)
    (home / seed / "manifest.json").write_text(json.dumps({"status": "complete"}))
"""


@pytest.fixture
def packable(tmp_path):
    (tmp_path / "run.py").write_text(TOGETHER)

    def make(seed, group="arm"):
        words = ("regime=ar", f"seed={seed}", f"out={tmp_path / str(seed)}")
        return Job(f"{group}/{seed}", tmp_path / "run.py", words, tmp_path / str(seed), group=group)

    return make


def commands(folder):
    return (folder / "commands").read_text().split()


def test_jobs_of_a_group_are_carried_out_together(packable, tmp_path):
    jobs = [packable(1), packable(2, "other"), packable(3), packable(4), packable(6), packable(7, "")]
    queue = JobQueue(jobs, 1, pack=3)
    queue.go()
    assert set(queue.states.values()) == {State.done}
    assert commands(tmp_path) == ["1,3,4", "2", "6", "7"]
    assert set(queue.seconds) == {job.name for job in jobs}


def test_what_a_killed_pack_left_is_tried_again_and_no_more(packable, tmp_path):
    queue = JobQueue([packable(seed) for seed in (3, 4, 5, 6)], 1, pack=8)
    queue.go()
    assert set(queue.states.values()) == {State.done}
    assert commands(tmp_path) == ["3,4,5,6", "5,6"], "the first two were complete when it was killed"


def test_what_failed_in_a_pack_says_why_and_a_claimed_job_is_left_out(packable, tmp_path):
    jobs = [packable(seed) for seed in (11, 12, 13)]
    held = lock(jobs[0].claim)
    queue = JobQueue(jobs, 1, pack=8)

    class Releasing(LocalRunner):
        def run(self, job, claims):
            assert len(claims) == 1 + ("-m" in job.words)
            held.close()
            return super().run(job, claims)

    queue.runner = Releasing()
    queue.go()
    assert queue.states == {"arm/11": State.done, "arm/12": State.done, "arm/13": State.failed}
    assert commands(tmp_path) == ["12,13", "11", "13"], "it is tried by itself before it counts as failed"
    assert queue.logs["arm/13"].complaint() == "error: seed 13: wanted luck, got none; type another"


def test_a_command_for_several_is_that_of_one_with_their_seeds(packable, tmp_path):
    one, other = packable(1), packable(2)
    assert together([one]) is one
    assert together([one, other]).words == ("-m", "regime=ar", "seed=1,2", f"out={tmp_path}/*", "pack=2")


def test_ctrl_c_stops_the_runs_and_loses_nothing(job):
    queue = JobQueue([job("long", seconds=60), job("next")])
    looks = iter(range(1000))

    def watch():
        if queue.states["long"] is State.running and next(looks) > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        queue.go(watch)
    assert queue.states == {"long": State.waiting, "next": State.waiting}
    assert not queue.jobs[1].folder.exists()

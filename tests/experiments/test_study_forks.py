"""Studies whose arms leave common trunks: who shares one, what it looks at, and that results need it no more."""

import shutil

import pytest

from ablate.compute import device
from ablate.core import records
from ablate.studies.control import ControlError
from experiments import study as study_command
from experiments.study_runner import kept_results, plan_runs
from experiments.study_runner.assignment import Assignment
from experiments.study_runner.trunks import trunks
from tests.experiments.test_study import resolved, study

LONGER = "regime.stages.0.steps=28 regime.stages.1.steps=6"
ARMS = {
    "masked": "regime=ar_to_bidllm",
    "blocks": "regime=ar_to_block",
    "longer": f"regime=ar_to_bidllm {LONGER} regime.name=longer",
    "other rate": "regime=ar_to_bidllm regime.stages.0.lr=0.5",
    "masked first": "regime=bidllm",
    "later rate": "regime=ar_to_bidllm regime.stages.1.lr=0.5",
}


def grown(tmp_path, *names):
    words = {name: ARMS[name].split() for name in names}
    return trunks({name: resolved(*typed) for name, typed in words.items()}, words, tmp_path)


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (("masked", "blocks", "masked first", "later rate"), [["masked", "blocks", "later rate"]]),
        (("masked", "masked first"), []),
        (("masked", "other rate"), []),
    ],
)
def test_arms_share_a_trunk_whose_first_stages_agree(tmp_path, monkeypatch, names, shared):
    monkeypatch.setattr("experiments.study_runner.trunks.jobs", lambda *_: [resolved("regime=ar")])
    assert [trunk.arms for trunk in grown(tmp_path, *names)] == shared


def test_a_trunk_is_the_longest_first_stage_and_looks_where_its_arms_would(tmp_path):
    study_command.STUDY.register()
    asked = study(*((name, ARMS[name]) for name in ("masked", "longer")), fork=True)
    plan = plan_runs.plan(Assignment(asked, runs=str(tmp_path), results=str(tmp_path / "results")))
    assert [job.name for job in plan.trunks] == ["all/trunk of longer/seed1", "all/trunk of longer/seed2"]
    (trunk,) = trunks(
        {name: resolved(*ARMS[name].split()) for name in ("masked", "longer")},
        {name: [*asked.words, *ARMS[name].split()] for name in ("masked", "longer")},
        tmp_path,
    )
    short, long = (resolved(*ARMS[name].split()) for name in ("masked", "longer"))
    assert trunk.run.stage_steps == [28, 0]
    assert trunk.run.keep_at == [short.stage_steps[0], 28]
    looks = {step for run in (short, long) for step in run.pauses() if step <= run.stage_steps[0]}
    assert set(trunk.run.pauses()) == looks


@pytest.mark.parametrize(
    ("words", "beyond", "compiled"),
    [([], 0.9, "always"), ([], 1.1, "never"), (["compile=never"], 0.9, "never")],
)
def test_arms_and_trunks_are_compiled_alike_by_what_the_longest_pack_takes(
    tmp_path, monkeypatch, words, beyond, compiled
):
    """Compiled code rounds otherwise: they would begin with other base models."""
    study_command.STUDY.register()
    arms = [(name, ARMS[name]) for name in ("masked", "blocks")]  # the latter reads more rows
    flops = 8 * max(resolved(*typed.split()).flops for _, typed in arms)
    monkeypatch.setattr(device, "COMPILE_FLOPS", {"cpu": beyond * flops})
    monkeypatch.setattr(device.shutil, "which", lambda name: f"/bin/{name}")
    asked = study(*arms, fork=True)
    plan = plan_runs.plan(
        Assignment(asked, runs=str(tmp_path), results=str(tmp_path / "results"), words=["device=cpu", *words])
    )
    jobs = [*plan.jobs_at.values(), *plan.trunks]
    assert len(jobs) == 6
    assert all([word for word in job.words if word.startswith("compile=")][-1] == f"compile={compiled}" for job in jobs)


@pytest.mark.slow
def test_a_forked_study_has_the_rows_of_one_that_trains_every_arm_whole(tmp_path):
    found = []
    for fork in (True, False):
        asked = study(*((name, ARMS[name]) for name in ("masked", "blocks", "longer")), fork=fork)
        assignment = Assignment(asked, runs=str(tmp_path / f"{fork}"), results=str(tmp_path / f"results-{fork}"))
        study_command.STUDY.register()
        study_command.job(assignment)
        rows = records.read(tmp_path / f"results-{fork}" / "probe", records.STUDY).drop(columns="run")
        names = [name for name in rows if name not in ("value", "flops")]
        found.append(rows.sort_values(names, ignore_index=True))
    assert found[0].equals(found[1])
    shutil.rmtree(tmp_path / "True")
    forked = study(*((name, ARMS[name]) for name in ("masked", "blocks", "longer")), fork=True)
    plan = plan_runs.plan(Assignment(forked, runs=str(tmp_path / "True"), results=str(tmp_path / "results-True")))
    assert plan.jobs == plan.trunks == [], "results know the weights at which each left its trunk"


@pytest.mark.slow
def test_a_trunk_that_fails_fails_the_study_and_says_why(tmp_path, capsys):
    """Its arms are not begun: they have nothing to leave."""
    rate = "regime.stages.0.lr=1e30"
    arms = [(name, f"{ARMS[name]} {rate}") for name in ("masked", "blocks")] + [("alone", ARMS["masked first"])]
    asked = study(*arms, fork=True, seeds=[1])
    study_command.STUDY.register()
    with pytest.raises(SystemExit):
        study_command.job(Assignment(asked, runs=str(tmp_path / "runs"), results=str(tmp_path / "results")))
    said = capsys.readouterr().out
    assert "trunk of masked/seed1 failed: " in said
    assert "diverged" in said
    kept_runs = records.read(tmp_path / "results" / "probe", records.STUDY)
    assert set(kept_runs["arm"]) == {"alone"}
    assert len([path for path in (tmp_path / "runs").iterdir() if not path.name.startswith(".")]) == 2


def test_a_fork_of_ones_own_is_refused(tmp_path):
    asked = study(("masked", ARMS["masked"]), ("blocks", ARMS["blocks"]), fork=True, seeds=[1])
    study_command.STUDY.register()
    with pytest.raises(ValueError, match=r"study\.fork=true in its place"):
        plan_runs.plan(Assignment(asked, words=["fork=x"], runs=str(tmp_path), results=str(tmp_path / "results")))


def kept(arm, weights, step=9, trunk="t"):
    fork = {"trunk": trunk, "step": step, "weights": weights, "wall_seconds": 1.0}
    return {"condition": "all", "arm": arm, "seed": 1, "initial_weights": "w" * 8, "fork": fork}


def test_other_weights_at_the_fork_are_found_out():
    asked = study(("a", ARMS["masked"]), ("b", ARMS["blocks"]))
    kept_results.require_same_start(asked, {"1": kept("a", "x" * 8), "2": kept("b", "x" * 8)})
    for other in (kept("b", "y" * 8, step=10), kept("b", "y" * 8, trunk="u")):
        kept_results.require_same_start(asked, {"1": kept("a", "x" * 8), "2": other})
    with pytest.raises(ControlError, match="the same weights at step 9 of their trunk"):
        kept_results.require_same_start(asked, {"1": kept("a", "x" * 8), "2": kept("b", "y" * 8)})

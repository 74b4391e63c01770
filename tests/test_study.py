"""Studies: control is proved before the first run, kept rows do not depend on who died, and verdicts err as stated."""

import dataclasses
import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats as scipy_stats

from ablate import records, stats
from ablate.control import ControlError, prove, spending
from ablate.outcomes import QUESTIONS, Outcome
from ablate.prediction import Prediction, verdicts
from ablate.study import Quantity, Setting, Study
from ablate.train import train
from experiments import planned, studies
from experiments.cli import RUN, UsageError, jobs
from experiments.followups import STUDIES
from experiments.study import Assignment
from tests.test_outcomes import RUN as ROW

ROOT = Path(__file__).parent.parent
TINY = ["corpus=trace", "corpus.values=4", "corpus.operations=3", "corpus.new_operators=4",
        "corpus.general_operators=2",
        "model.width=16", "model.layers=1", "model.heads=2", "model.kv_heads=2", "batch=8", "threads=1",
        "budget.base_tokens=1200", "budget.tokens=2400", "budget.evaluations=2", "budget.questions=2",
        "budget.contexts=4", "budget.block_sizes=[1,2]"]  # fmt: skip


def study(*arms, **changes):
    fields = {"name": "probe", "question": "?", "seeds": [1, 2], "words": TINY}
    return Study(arms=[Setting(name, words.split()) for name, *words in arms for words in [words[0]]],
                 **{**fields, **changes})  # fmt: skip


def resolved(*words):
    RUN.register()
    return jobs(RUN, [*TINY, *words])[0].resolved()


def proved(asked):
    arms = {arm.name: resolved(*arm.words) for arm in asked.arms}
    return prove(asked, "all", arms)


AR, BIDLLM = ("ar", "regime=ar"), ("bidllm", "regime=bidllm")


def test_arms_that_differ_in_the_factor_alone_are_proved():
    spent = proved(study(AR, BIDLLM))
    assert spent["ar"][Quantity.steps] == spent["bidllm"][Quantity.steps]
    assert spent["ar"][Quantity.supervised] > spent["bidllm"][Quantity.supervised]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("batch=16", "batch=8 and batch=16"),
        ("base.lr=1e-3", "base.lr=0.002 and base.lr=0.001"),
        ("corpus.checksum=7", "corpus.checksum=5 and corpus.checksum=7"),
        ("unique=10", "unique=0 and unique=10"),
        ("model.width=32", "model.width=16 and model.width=32"),
    ],
)
def test_a_second_difference_is_shown(words, said):
    with pytest.raises(ControlError, match="regime alone") as caught:
        proved(study(AR, ("other", f"regime=bidllm {words}")))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("factor", "words", "said"),
    [
        ("base", "base.lr=1e-3", "same base model"),
        ("unique", "unique=10", "same order of the data"),
        ("budget", "budget.questions=3 budget.contexts=5", "same questions"),
        ("budget", "budget.decoded=77", "same probes"),
    ],
)
def test_a_declared_factor_must_not_change_start_data_or_questions(factor, words, said):
    with pytest.raises(ControlError, match=said):
        proved(study(AR, ("other", f"regime=ar {words}"), factor=["regime", factor]))


def test_the_matched_quantity_is_held():
    longer = ("longer", "regime=ar regime.stages.1.steps=40")
    with pytest.raises(ControlError, match="matched in steps within 2%, got ar 34, longer"):
        proved(study(AR, longer))
    with pytest.raises(ControlError, match="matched in supervised"):
        proved(study(AR, BIDLLM, matched="supervised"))
    half = ("half", "regime=ar regime.stages.0.objective.loss_share=0.5 regime.stages.1.objective.loss_share=0.5")
    assert proved(study(AR, half))["half"][Quantity.supervised] == proved(study(AR, BIDLLM))["ar"]["supervised"] / 2


def test_what_shipped_studies_match_holds_at_full_size():
    """Blocks score as many tokens as AR in `twin_supervised`: the steps are written down, the masks decide."""
    asked = STUDIES["twin_supervised"]
    RUN.register()
    arms = {arm.name: jobs(RUN, asked.words_of(asked.conditions[0], arm, 200))[0].resolved() for arm in asked.arms}
    spent = {name: spending(run)[Quantity.supervised] for name, run in arms.items()}
    assert max(spent.values()) < 1.02 * min(spent.values())


@pytest.mark.parametrize("regime", ["ar_to_block", "ardllm_to_bidllm"])
def test_spending_is_what_training_counts(regime, tmp_path):
    run = dataclasses.replace(resolved(f"regime={regime}"), out=str(tmp_path / "run"), cache=str(tmp_path / "base"))
    train(run, Console(quiet=True))
    rows, spent = records.read(run.folder), spending(run)
    assert rows["tokens"].max() == spent[Quantity.tokens]
    assert rows["flops"].max() == pytest.approx(spent[Quantity.flops])
    assert rows["loss_tokens"].max() == pytest.approx(spent[Quantity.supervised], rel=0.1)  # 34 steps of 8 sequences


def test_blocks_cost_a_pass_over_the_clean_copy():
    ar, block = resolved("regime=ar"), resolved("regime=ar_to_block")
    first, second = block.stage_steps
    assert block.flops / ar.flops == pytest.approx((first + 2 * second) / (first + second))
    assert block.flops_after(first) == pytest.approx(ar.flops_after(first))


def assignment(tmp_path, asked, **changes):
    return Assignment(asked, runs=str(tmp_path / "runs"), results=str(tmp_path / "results"), **changes)


def test_plans_refuse_what_would_mix(tmp_path):
    plan = planned.plan(assignment(tmp_path, study(AR, BIDLLM)))
    planned.begin(plan)
    again = planned.plan(assignment(tmp_path, study(AR, BIDLLM, seeds=[1, 2, 3])))  # more seeds: the same question
    assert len(again.jobs) == 6
    with pytest.raises(UsageError, match="another study of this name"):
        planned.plan(assignment(tmp_path, study(AR, BIDLLM), words=["budget.tokens=4800"]))
    with pytest.raises(UsageError, match="no H1 of study probe"):
        planned.plan(assignment(tmp_path, study(AR, BIDLLM, predictions=["H1"])))
    (plan.folder / "manifest.json").write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        planned.plan(assignment(tmp_path, study(AR, BIDLLM)))


def test_swept_rates_are_those_of_the_records():
    """`studies.RATES` is the argument of the least mean outcome over the development seeds in results/rates."""
    rows = records.read(ROOT / "results" / "rates", records.STUDY)
    for (world, regime), chosen in studies.RATES.items():
        part = rows[rows["condition"] == f"{world}-{regime}"]
        values = part.groupby(["arm", "seed"]).apply(Outcome().of, include_groups=False).unstack()
        assert values.notna().all(axis=None)
        assert values.shape == (len(studies.GRID), len(studies.DEVELOPMENT))
        assert values.mean(axis=1).idxmin() == f"lr_{chosen:g}"


def test_committed_results_are_those_of_the_shipped_studies():
    for name, asked in STUDIES.items():
        path = ROOT / "results" / name / "manifest.json"
        if path.exists():
            assert json.loads(path.read_text())["identity"] == planned.identity(asked), name


@pytest.mark.parametrize("name", list(STUDIES))
def test_every_shipped_study_is_controlled(name, tmp_path):
    asked = dataclasses.replace(STUDIES[name], seeds=STUDIES[name].seeds[:1])
    conditions = [c.name for c in asked.conditions if c.name != "python_source"]  # no need to tokenise it here
    if conditions:
        found = planned.plan(assignment(tmp_path, asked, only=conditions))
        assert len(found.runs) == len(conditions) * len(asked.arms)


def blank(plan):
    """What `planned.finished` would yield, every value 0."""
    manifest = dict.fromkeys(planned.KEPT, "") | {"wall_seconds": 1.0, "code": {"commit": ""}}
    for place, run in plan.runs.items():
        row = {**ROW, "run": run.label, "regime": place.arm, "seed": place.seed, "stage": 0, "value": 0.0}
        yield place, run.label, dict(manifest), records.table([{**row, "step": step} for step in (0, 10)])


def simulated(blanks, rng, effect):
    """The same, the second arm `effect` standard deviations of the paired differences higher."""
    common = {place.seed: rng.normal() for place, *_ in blanks}
    arms = sorted({place.arm for place, *_ in blanks})
    for place, label, manifest, rows in blanks:
        value = common[place.seed] + rng.normal() / np.sqrt(2) + effect * arms.index(place.arm)
        yield place, label, manifest, rows.assign(value=value)


def share_supported(tmp_path, effect, n):
    """Of n simulated studies with two arms of one configuration, by way of results/ and verdicts: how many find the
    first arm lower, and how many higher."""
    arms = [Setting(name, ["regime=ar", f"regime.name={name}"]) for name in ("one", "other")]
    plan = planned.plan(assignment(tmp_path, Study("planted", "Is one lower?", arms, list(range(8)), words=TINY)))
    prediction = Prediction("N1", "planted", "all", "one is lower", "planted", "one", "other", "lower", 1e-6,
                            primary=True)  # fmt: skip
    rng, blanks, found = np.random.default_rng(7), list(blank(plan)), []
    gc.freeze()  # statsmodels collects garbage at every call
    for _ in range(n):
        planned.keep(plan, simulated(blanks, rng, effect))
        rows = records.read(plan.folder, records.STUDY)
        found += verdicts([prediction], rows, records.read(plan.folder / "questions.parquet", QUESTIONS))
    gc.unfreeze()
    said = [row["verdict"] for row in found]
    return said.count("supported"), said.count("refuted")


@pytest.mark.slow
def test_planted_null_and_planted_effect(tmp_path):
    """Two-sided tests of eight seeds reject 12 of 256 sign patterns; the stated effect is found at the stated power."""
    n = 200
    right, wrong = share_supported(tmp_path / "null", 0.0, n)
    assert scipy_stats.binomtest(right + wrong, n, 0.05).pvalue > 0.05
    effect = stats.detectable(8, power=0.8)
    right, wrong = share_supported(tmp_path / "effect", effect, n)
    assert scipy_stats.binomtest(right, n, 0.8).pvalue > 0.05
    assert wrong == 0


STUDY_COMMAND = [sys.executable, str(ROOT / "experiments" / "study.py"), "study=regimes", "study.name=killed",
                 "study.predictions=[]", "study.seeds=[1]", "study.cells=[]", "only=[trace]",
                 "words=[" + ",".join(f"'{word}'" for word in TINY[1:]) + "]"]  # fmt: skip


def started(folder, *words):
    return subprocess.Popen([*STUDY_COMMAND, f"runs={folder}/runs", f"results={folder}/results", *words], cwd=ROOT,
                            env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)  # fmt: skip


@pytest.mark.slow
def test_killed_workers_leave_the_same_records(tmp_path):
    """SIGKILL to a run, then to the whole of one of two processes: the other ends with the rows of an undisturbed
    study, to the byte."""
    calm, disturbed = tmp_path / "calm", tmp_path / "disturbed"
    assert started(calm, "workers=2").wait() == 0
    one, other = started(disturbed), started(disturbed)
    while not list(disturbed.glob("runs/trace-*/manifest.json")):
        time.sleep(0.1)
    run = subprocess.run(["pgrep", "-P", str(one.pid), "-f", "run.py"], capture_output=True, text=True, check=False)
    if run.stdout.split():
        os.kill(int(run.stdout.split()[0]), signal.SIGKILL)
    time.sleep(2)
    one.kill()
    one.wait()
    assert other.wait() == 0
    files = [folder / "results" / "killed" / "records.parquet" for folder in (calm, disturbed)]
    assert files[0].read_bytes() == files[1].read_bytes()
    manifest = json.loads(files[1].with_name("manifest.json").read_text())
    assert len(manifest["runs"]) == 3
    assert {spent["arm"] for spent in manifest["spent"]} == set(studies.PAPER)


def test_a_study_that_lost_its_runs_goes_on_from_results(tmp_path):
    """A later sitting on another machine finds the rows, not the folders."""
    asked = study(AR, BIDLLM)
    plan = planned.plan(assignment(tmp_path, asked))
    rng = np.random.default_rng(0)
    half = [one for one in simulated(list(blank(plan)), rng, 0.0) if one[0].seed == 1]
    planned.begin(plan)
    planned.keep(plan, half)
    later = planned.plan(assignment(tmp_path, asked))
    assert sorted(job.name for job in later.jobs) == ["all/ar/seed2", "all/bidllm/seed2"]
    rest = [one for one in simulated(list(blank(plan)), rng, 0.0) if one[0].seed == 2]
    planned.keep(later, rest)
    kept = records.read(plan.folder, records.STUDY)
    whole = pd.concat([rows for *_, rows in [*half, *rest]])
    assert len(kept) == len(whole)
    assert sorted(kept["value"]) == sorted(whole["value"])


def test_other_base_weights_are_found_out(tmp_path):
    plan = planned.plan(assignment(tmp_path, study(AR, BIDLLM)))
    ran = list(blank(plan))
    ran[0][2]["initial_weights"] = "other"
    with pytest.raises(ControlError, match="same base weights"):
        planned.keep(plan, ran)
    assert not (plan.folder / "records.parquet").exists()

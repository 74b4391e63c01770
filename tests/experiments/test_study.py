"""Studies: control is proved before the first run, kept rows do not depend on who died, and verdicts err as stated."""

import dataclasses
import gc
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats as scipy_stats

from ablate.analysis import statistics
from ablate.core import records
from ablate.core.blocks import Grid
from ablate.core.validation import UsageError
from ablate.studies.control import ControlError, prove, spending
from ablate.studies.design import Quantity, Setting, Study
from ablate.studies.job import together
from ablate.studies.outcomes import QUESTIONS, Outcome
from ablate.studies.predictions import Prediction, verdicts
from ablate.training.pack import packs
from ablate.training.resolution import resolve
from ablate.training.train import train
from experiments import study as study_command
from experiments.cli.compose import jobs
from experiments.cli.run_command import RUN, check_runs
from experiments.presets import order_studies, studies, switch_studies, twin_studies
from experiments.presets.followup_studies import STUDIES
from experiments.study_runner import kept_results, plan_runs
from experiments.study_runner.assignment import Assignment
from experiments.study_runner.registered import registered, registered_labels
from tests import ROOT
from tests.studies.test_outcomes import RUN as ROW

TINY = [
    "corpus=trace",
    "corpus.values=4",
    "corpus.operations=3",
    "corpus.new_operators=4",
    "corpus.general_operators=2",
    "model.width=16",
    "model.layers=1",
    "model.heads=2",
    "model.kv_heads=2",
    "batch=8",
    "threads=1",
    "budget.base_tokens=1200",
    "budget.tokens=2400",
    "budget.evaluations=2",
    "budget.questions=2",
    "budget.contexts=4",
    "budget.block_sizes=[1,2]",
]


def study(*arms, **changes):
    fields = {"name": "probe", "question": "?", "seeds": [1, 2], "words": TINY}
    return Study(
        arms=[Setting(name, words.split()) for name, *words in arms for words in [words[0]]], **{**fields, **changes}
    )


def resolved(*words):
    RUN.register()
    return resolve(jobs(RUN, [*TINY, *words])[0])


def proved(asked):
    arms = {arm.name: resolved(*arm.words) for arm in asked.arms}
    return prove(asked, "all", arms)


AR, BIDLLM = ("ar", "regime=ar"), ("bidllm", "regime=bidllm")


def test_arms_that_differ_in_the_factor_alone_are_proved():
    spent = proved(study(AR, BIDLLM))
    assert spent["ar"][Quantity.steps] == spent["bidllm"][Quantity.steps]
    assert spent["ar"][Quantity.supervised] > spent["bidllm"][Quantity.supervised]


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_matched_quantity_is_held():
    longer = ("longer", "regime=ar regime.stages.1.steps=40")
    with pytest.raises(ControlError, match="matched in steps within 2%, got ar 34, longer"):
        proved(study(AR, longer))
    with pytest.raises(ControlError, match="matched in supervised"):
        proved(study(AR, BIDLLM, matched="supervised"))
    half = ("half", "regime=ar regime.stages.0.objective.loss_share=0.5 regime.stages.1.objective.loss_share=0.5")
    assert proved(study(AR, half))["half"][Quantity.supervised] == proved(study(AR, BIDLLM))["ar"]["supervised"] / 2


@pytest.mark.slow
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


@pytest.mark.slow
def test_plans_refuse_what_would_mix(tmp_path):
    plan = plan_runs.plan(assignment(tmp_path, study(AR, BIDLLM)))
    kept_results.begin(plan)
    again = plan_runs.plan(assignment(tmp_path, study(AR, BIDLLM, seeds=[1, 2, 3])))  # more seeds: the same question
    assert len(again.jobs) == 6
    with pytest.raises(UsageError, match="another study of this name"):
        plan_runs.plan(assignment(tmp_path, study(AR, BIDLLM), words=["budget.tokens=4800"]))
    with pytest.raises(UsageError, match="no H1 of study probe"):
        plan_runs.plan(assignment(tmp_path, study(AR, BIDLLM, predictions=["H1"])))
    with pytest.raises(UsageError, match="one/ar and two/ar are one run"):
        plan_runs.plan(assignment(tmp_path, study(AR, BIDLLM, conditions=[Setting("one"), Setting("two")])))
    (plan.folder / "manifest.json").write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        plan_runs.plan(assignment(tmp_path, study(AR, BIDLLM)))


@pytest.mark.slow
def test_settings_that_changed_under_a_name_are_refused(tmp_path):
    """Conditions are no part of a study's identity, so that there can be more of them: their runs are compared."""
    plan = plan_runs.plan(assignment(tmp_path, study(AR, BIDLLM)))
    kept_results.begin(plan)
    kept_results.keep(plan, blank(plan))
    changed = study(AR, BIDLLM, conditions=[Setting("all", ["corpus.checksum=7"])])
    with pytest.raises(UsageError, match="its settings have changed since"):
        kept_results.begin(plan_runs.plan(assignment(tmp_path, changed)))


def test_further_words_override_all_others(tmp_path):
    asked = study(("a", "regime=ar batch=4"), ("b", "regime=bidllm batch=4"))
    plan = plan_runs.plan(assignment(tmp_path, asked, words=["batch=16", "regime.stages.0.lr=0.5"]))
    assert {run.batch for run in plan.runs.values()} == {16}
    assert {run.regime.stages[0].lr for run in plan.runs.values()} == {0.5}


@pytest.mark.slow
def test_a_command_for_the_seeds_of_an_arm_asks_for_just_its_runs(tmp_path):
    """One arm in every condition first, so that no worker waits for bases that another trains."""
    asked = study(AR, BIDLLM, conditions=[Setting("one"), Setting("two", ["batch=16"])])
    plan = plan_runs.plan(assignment(tmp_path, asked))
    assert plan.pack == 8
    assert plan_runs.plan(assignment(tmp_path, asked, pack="1")).pack == 1
    groups = [job.group for job in plan.jobs]
    assert groups == [group for group in ("one/ar", "two/ar", "one/bidllm", "two/bidllm") for _ in asked.seeds]
    for group in set(groups):
        alone = [job for job in plan.jobs if job.group == group]
        (runs,) = packs(check_runs(jobs(RUN, list(together(alone).words))))
        assert [run.folder for run in runs] == [job.folder for job in alone]
        assert [run.fingerprint() for run in runs] == [
            resolve(jobs(RUN, list(job.words))[0]).fingerprint() for job in alone
        ]


@pytest.mark.slow
def test_processes_that_keep_different_runs_lose_none(tmp_path):
    """Two that planned before either kept; each then has runs that the other has not."""
    plans = [plan_runs.plan(assignment(tmp_path, study(AR, BIDLLM))) for _ in range(2)]
    for seed, plan in enumerate(plans, 1):
        kept_results.begin(plan)
        kept_results.keep(plan, [one for one in blank(plan) if one[0].seed == seed])
    kept_results.begin(plans[0])
    folder = plans[0].folder
    assert len(json.loads((folder / "manifest.json").read_text())["runs"]) == 4
    assert records.read(folder, records.STUDY)["run"].nunique() == 4


def test_rows_that_an_interrupted_keep_left_are_not_doubled(tmp_path):
    plan = plan_runs.plan(assignment(tmp_path, study(AR, BIDLLM)))
    kept_results.begin(plan)
    before = (plan.folder / "manifest.json").read_bytes()
    kept_results.keep(plan, blank(plan))
    whole = (plan.folder / "records.parquet").read_bytes()
    (plan.folder / "manifest.json").write_bytes(before)  # as if it had been killed before its last step
    kept_results.keep(plan, blank(plan))
    assert (plan.folder / "records.parquet").read_bytes() == whole


@pytest.mark.slow
def test_predictions_and_seeds_are_those_of_the_beginning(tmp_path, monkeypatch):
    path = tmp_path / "predictions.yaml"
    fields = (
        "{study: probe, condition: all, claim: x, source: y, arm: ar, other: bidllm, "
        + "direction: lower, threshold: 1}"
    )
    monkeypatch.setattr(plan_runs, "PREDICTIONS", path)

    def sitting(text, seeds, names):
        path.write_text(text)
        plan = plan_runs.plan(assignment(tmp_path, study(AR, BIDLLM, predictions=names, seeds=seeds)))
        kept_results.begin(plan)
        return plan

    plan = sitting(f"H1: {fields}", [1, 2], ["H1"])
    first = plan.predictions["H1"]
    kept_results.keep(plan, blank(plan))
    sitting(f"H1: {fields}\nH2: {fields}".replace("threshold: 1}", "threshold: 2}", 1), [1, 2, 3], ["H1", "H2"])
    manifest = json.loads((plan.folder / "manifest.json").read_text())
    assert manifest["predictions"] == {"H1": first}
    assert manifest["seeds"] == [1, 2]


@pytest.mark.slow
def test_a_damaged_run_is_said_and_hinders_no_other(tmp_path, capsys):
    plan = plan_runs.plan(assignment(tmp_path, study(AR, BIDLLM)))
    kept_results.begin(plan)
    for place, label, manifest, rows in blank(plan):
        folder = plan.jobs_at[place].folder
        records.write(rows, folder / "records.parquet")
        (folder / "manifest.json").write_text(json.dumps({**manifest, "status": "complete", "label": label}))
    lost, torn = list(plan.jobs_at.values())[:2]
    (lost.folder / "records.parquet").unlink()
    (torn.folder / "records.parquet").write_bytes(b"PAR1")
    kept_results.keep(plan, kept_results.finished(plan))
    assert str(torn.folder) in capsys.readouterr().err
    assert [job.name for job in plan_runs.plan(assignment(tmp_path, plan.study)).jobs] == [lost.name, torn.name]
    assert not lost.complete  # so that it is run again, which mends it


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["words=['batch=0']"], "batch: wanted 1.."),
        (["study.name=../x"], "names a folder"),
        (["study.name="], "names a folder"),
        (["study.conditions.0.name=../x"], "names a folder"),
        (["study.arms.0.name=.."], "names a folder"),
        (["words=['regime.stages.0.steps=7']", "study.factor=[seed]"], "wanted runs that differ in seed alone"),
        (["workers=0"], "workers: wanted 1..1024"),
        (["only=[nowhere]"], "has the conditions"),
        (["study.seeds=[1,1]"], "wanted 1 seeds or more, each once"),
        (["study=none"], "type study="),
        (["-m", "workers=1,2"], "wanted one study, got a sweep"),
    ],
)
def test_bad_input_is_answered_in_one_line(typed, tmp_path, words, said):
    usual = ["study=regimes", "study.name=mine", "study.predictions=[]", "study.seeds=[1]"]
    usual += ["runs=runs", "results=results"]
    if not any(word.startswith("only") for word in words):
        words = ["only=[trace]", *words]
    code, _, error = typed(study_command.STUDY, study_command.job, *usual, *words)
    assert code == 2, error
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert said in error
    assert list(tmp_path.iterdir()) == []


def best(rows, outcome, trials):
    """The arm of the least mean outcome over development seeds, all of which have each of so many trials."""
    values = rows.groupby(["arm", "seed"]).apply(outcome.of, include_groups=False).unstack()
    assert values.notna().all(axis=None)
    assert values.shape == (trials, len(studies.DEVELOPMENT))
    return values.mean(axis=1).idxmin()


@pytest.mark.slow
def test_swept_rates_are_those_of_the_records():
    """`studies.RATES`: by mean excess bits token by token, over training."""
    rows = records.read(ROOT / "results" / "rates", records.STUDY)
    for (world, regime), chosen in studies.RATES.items():
        part = rows[rows["condition"] == f"{world}-{regime}"]
        assert best(part, Outcome(), len(studies.GRID)) == f"lr_{chosen:g}"


@pytest.mark.slow
def test_rates_of_order_are_those_of_the_records():
    """By excess bits in blocks of 32 at the end."""
    rows = records.read(ROOT / "results" / "order_rates", records.STUDY)
    trials = len(order_studies.FIRST_RATES) * len(order_studies.SECOND_RATES)
    assert set(order_studies.RATES) == set(rows["condition"])
    for condition, (first, second) in order_studies.RATES.items():
        part = rows[rows["condition"] == condition]
        assert best(part, Outcome(block_size=32, how="end"), trials) == f"lr_{first:g}_{second:g}"


@pytest.mark.slow
def test_rates_of_split_are_those_of_the_records():
    rows = records.read(ROOT / "results" / "split_rates", records.STUDY)
    for world, chosen in switch_studies.RATES.items():
        assert list(chosen) == list(switch_studies.SHARES)
        for share, rate in chosen.items():
            part = rows[(rows["condition"] == world) & rows["arm"].str.startswith(f"ar_{share:g}_lr")]
            trials = len(switch_studies.SECOND_RATES)
            assert best(part, Outcome(block_size=32, how="end"), trials) == f"ar_{share:g}_lr_{rate:g}"


@pytest.mark.slow
def test_rates_of_twin_are_those_of_the_records():
    """By the score token by token at the end."""
    parts = [records.read(ROOT / "results" / name, records.STUDY) for name in ("twin_rates", "twin_rates_wide")]
    rows, outcome = pd.concat(parts, ignore_index=True), Outcome("score", "decode", how="end")
    for data, chosen in twin_studies.RATES.items():
        part = rows[rows["condition"] == data]
        values = part.groupby(["arm", "seed"]).apply(outcome.of, include_groups=False).unstack()
        trials = len(twin_studies.SECOND_RATES) + len(twin_studies.WIDE) * (data == "scarce")
        assert values.notna().all(axis=None)
        assert values.shape == (trials * len(twin_studies.ARMS), len(twin_studies.TRIED))
        assert list(chosen) == list(twin_studies.ARMS)
        means = values.mean(axis=1)
        for name, rate in chosen.items():
            assert means[means.index.str.fullmatch(rf"{name}_lr_[0-9.]+")].idxmax() == f"{name}_lr_{rate:g}"


def test_confirmation_shares_no_seed_and_no_world_with_development():
    for changed, said in (
        ({"seeds": [100, 300]}, r"got \[100\]"),
        ({"words": [*order_studies.ORDER.words[:-1], "corpus.world=0"]}, "got {'corpus.world=0'}"),
    ):
        with pytest.raises(ValueError, match=said):
            order_studies.confirming(dataclasses.replace(order_studies.ORDER, **changed), order_studies.ORDER_RATES)
    assert order_studies.ORDER.words[-1] == "corpus.world=1"


def test_committed_results_are_those_of_the_shipped_studies(tmp_path):
    """Of every study that has results: its identity, and the settings of each run that is kept."""
    for name, asked in STUDIES.items():
        path = ROOT / "results" / name / "manifest.json"
        if not path.exists():
            continue
        manifest = json.loads(path.read_text())
        assert manifest["identity"] == registered(kept_results.identity(asked)), name
        settings = {group: {s.name: s for s in getattr(asked, group)} for group in ("conditions", "arms")}
        for run in manifest["runs"].values():
            words = asked.words_of(settings["conditions"][run["condition"]], settings["arms"][run["arm"]], run["seed"])
            assert run["words"][: len(words)] == words
            rest = {word.split("=")[0] for word in run["words"][len(words) :]}
            assert rest <= {"compile", "budget.grids"}, "what the plan decides for all arms alike"


@pytest.mark.slow
def test_all_arms_are_asked_on_the_grids_of_any(tmp_path):
    """The grid belongs to the question; what results have of before keeps its label."""
    alone = plan_runs.plan(assignment(tmp_path, study(AR, BIDLLM)))
    mixed = plan_runs.plan(assignment(tmp_path, study(AR, ("block", "regime=ar_to_block"))))
    for place, run in mixed.runs.items():
        assert run.grids == [Grid.answer, Grid.sequence]
        words = mixed.jobs_at[place].words
        assert "budget.grids=[answer,sequence]" in words
        assert resolve(jobs(RUN, [*words])[0]).label == run.label
    for place, run in alone.runs.items():
        assert run.grids == [Grid.answer]
        if place.arm == "ar":
            assert run.label in registered_labels(mixed.runs[place])
            assert run.label != mixed.runs[place].label


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "regimes" else pytest.mark.slow) for n in STUDIES])
def test_every_shipped_study_is_controlled(name, tmp_path):
    asked = dataclasses.replace(STUDIES[name], seeds=STUDIES[name].seeds[:1])
    conditions = [c.name for c in asked.conditions if c.name != "python_source"]  # no need to tokenize it here
    if conditions:
        found = plan_runs.plan(assignment(tmp_path, asked, only=conditions))
        assert len(found.runs) == len(conditions) * len(asked.arms)


def blank(plan):
    """What `kept.finished` would yield, every value 0."""
    manifest = dict.fromkeys(kept_results.FROM_RUN, "") | {"wall_seconds": 1.0}
    for place, run in plan.runs.items():
        row = {**ROW, "run": run.label, "regime": place.arm, "seed": place.seed, "stage": 0, "value": 0.0}
        yield (
            place,
            run.label,
            {**manifest, "config_fingerprint": run.fingerprint()},
            records.table([{**row, "step": step} for step in (0, 10)]),
        )


def simulated(blanks, rng, effect):
    """The same, the second arm `effect` standard deviations of the paired differences higher."""
    common = {place.seed: rng.normal() for place, *_ in blanks}
    arms = sorted({place.arm for place, *_ in blanks})
    for place, label, manifest, rows in blanks:
        value = common[place.seed] + rng.normal() / np.sqrt(2) + effect * arms.index(place.arm)
        yield place, label, manifest, rows.assign(value=value)


def share_supported(tmp_path, effect, n):
    """Of n simulated studies with two arms of one configuration: how many find the first arm lower, and how many
    higher. Their rows are those of one study, by way of results/, with other values."""
    arms = [Setting(name, ["regime=ar", f"regime.name={name}"]) for name in ("one", "other")]
    plan = plan_runs.plan(assignment(tmp_path, Study("planted", "Is one lower?", arms, list(range(8)), words=TINY)))
    prediction = Prediction(
        "N1", "planted", "all", "one is lower", "planted", "one", "other", "lower", 1e-6, primary=True
    )
    kept_results.begin(plan)
    kept_results.keep(plan, blank(plan))
    rows, questions = (
        records.read(plan.folder, records.STUDY),
        records.read(plan.folder / "questions.parquet", QUESTIONS),
    )
    seed, other = rows["seed"].to_numpy(), (rows["arm"] == "other").to_numpy().astype(int)
    rng, found = np.random.default_rng(7), []
    gc.freeze()  # statsmodels collects garbage at every call
    for _ in range(n):
        common, own = rng.normal(size=8), rng.normal(size=(2, 8)) / np.sqrt(2)
        values = common[seed] + own[other, seed] + effect * other
        found += verdicts([prediction], rows.assign(value=values), questions)
    gc.unfreeze()
    said = [row["verdict"] for row in found]
    return said.count("supported"), said.count("refuted")


@pytest.mark.slow
def test_planted_null_and_planted_effect(tmp_path):
    """Two-sided tests of eight seeds reject 12 of 256 sign patterns; the stated effect is found at the stated power."""
    n = 200
    right, wrong = share_supported(tmp_path / "null", 0.0, n)
    assert scipy_stats.binomtest(right + wrong, n, 0.05).pvalue > 0.05
    effect = statistics.detectable(8, power=0.8)
    right, wrong = share_supported(tmp_path / "effect", effect, n)
    assert scipy_stats.binomtest(right, n, 0.8).pvalue > 0.05
    assert wrong == 0


@pytest.mark.slow
def test_a_study_that_lost_its_runs_goes_on_from_results(tmp_path):
    """A later sitting on another machine finds the rows, not the folders."""
    asked = study(AR, BIDLLM)
    plan = plan_runs.plan(assignment(tmp_path, asked))
    rng = np.random.default_rng(0)
    half = [one for one in simulated(list(blank(plan)), rng, 0.0) if one[0].seed == 1]
    kept_results.begin(plan)
    kept_results.keep(plan, half)
    later = plan_runs.plan(assignment(tmp_path, asked))
    assert sorted(job.name for job in later.jobs) == ["all/ar/seed2", "all/bidllm/seed2"]
    rest = [one for one in simulated(list(blank(plan)), rng, 0.0) if one[0].seed == 2]
    kept_results.keep(later, rest)
    rows_kept = records.read(plan.folder, records.STUDY)
    whole = pd.concat([rows for *_, rows in [*half, *rest]])
    assert len(rows_kept) == len(whole)
    assert sorted(rows_kept["value"]) == sorted(whole["value"])


def test_other_base_weights_are_found_out(tmp_path):
    plan = plan_runs.plan(assignment(tmp_path, study(AR, BIDLLM)))
    ran = list(blank(plan))
    ran[0][2]["initial_weights"] = "other"
    with pytest.raises(ControlError, match="same base weights"):
        kept_results.keep(plan, ran)
    assert not (plan.folder / "records.parquet").exists()

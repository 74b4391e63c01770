"""Sweeps as typed: what is refused, which values runs can have, what picks them, what matters in the end."""

import itertools
import sys

import numpy as np
import optuna
import pandas as pd
import pytest
from rich.console import Console

from ablate.core.validation import UsageError
from ablate.studies.search_space import Range, Space
from ablate.training.resolution import resolve
from ablate.training.train import train
from experiments import sweep
from experiments.cli.compose import jobs
from experiments.cli.guard import guarded
from experiments.cli.run_command import RUN
from experiments.presets import search_spaces
from experiments.sweep import sweep_help
from experiments.sweep_runner import sweep_results, trial_storage
from experiments.sweep_runner.feasible_space import fit
from experiments.sweep_runner.search import Search
from tests.experiments.test_study import TINY

SHARED = ["regime.stages.0.steps=5", "regime.stages.0.share=0"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("trials=0", ["trials: wanted 1..", "got 0; type trials=40"]),
        ("workers=0", ["workers: wanted 1..1024", "type workers=2"]),
        ("seeds=[1,1]", ["seeds: wanted", "each once", "type seeds=[100,101]"]),
        ("seeds=[]", ["seeds: wanted one or more", "type seeds=[100,101]"]),
        ("sampler=annealing", ["sampler", "tpe, grid, sobol", "type sampler=tpe"]),
        ("pruner=median", ["pruner", "none, hyperband", "type pruner=none"]),
        ("sampler=grid", ["a range of warmup, lr", "type sampler=tpe or sweep=block_grid"]),
        ("pruner=hyperband objectives=[excess_bits,excess_bits_end]", ["Optuna prunes by one value", "pruner=none"]),
        ("objectives=[loss]", ["objectives: wanted one or more of excess_bits", "type objectives=[excess_bits]"]),
        ("sweep=blocks", ["sweep=blocks", "block_and_warmup", "type sweep="]),
        ("sweep.parameters.0.values=[1,1]", ["block_size", "each once", "sweep.parameters.0.values=[1,2]"]),
        ("sweep.parameters.1.low=2", ["warmup: wanted low < high", "low=2"]),
        ("sweep.parameters.9.low=2", ["sweep.parameters", "0, 1, 2, 3, 4"]),
        ("name=../x", ["name: wanted 100 letters", "try name=mine"]),
        ("trails=3", ["trails: neither a sweep nor a run has this key", "type trials=VALUE"]),
        ("seed=3", ["seed=3: a sweep sets seed of every run itself; type seeds=[100,101]"]),
        ("out=here", ["a sweep sets out", "type runs=FOLDER"]),
        ("words=[batch=3]", ["words: neither a sweep nor a run"]),
        ("-m trials=3,4", ["wanted one sweep, got several"]),
        ("trials", ["wanted key=value"]),
        ("--frobnicate", ["no such option", "--help"]),
        ("runs=/proc/nothing", ["runs=/proc/nothing", "type runs=PATH"]),
        ("regime=ar_to_blok", ["regime=ar_to_blok", "type regime=ar_to_block"]),
        ("corpus.operation=3", ["corpus.operation", "type corpus.operations=VALUE"]),
        ("batch=32,64", ["several values"]),
        ("regime=bidllm", ["sweep=block_and_warmup, parameter block_size", "has no 'size'"]),
        ("regime=ar_to_block sweep.parameters.1.high=2", ["warmup=2.0 is left out", "mask_warmup.share: wanted 0..1"]),
        ("regime=ar_to_block corpus.operations=2 sweep.parameters.0.values=[16,32]", ["block_size=16 is left out"]),
        ("regime=bidllm sweep=lr storage=nonsense", ["storage: wanted an URL such as postgresql://"]),
        ("regime=bidllm sweep=lr storage=oracle9://x/y", ["oracle9", "SQLAlchemy knows", "storage=postgresql://"]),
        ("regime=bidllm sweep=lr storage=sqlite:////nowhere/x.db", ["sqlite:////nowhere/x.db", "unable to open"]),
        (
            "regime=bidllm sweep=lr storage=postgresql://me:secret@127.0.0.1:1/x",
            ["storage=postgresql://127.0.0.1:1/x", "Connection refused", "leave storage out"],
        ),
    ],
)
def test_bad_input_is_one_message_and_writes_nothing(words, said, tmp_path, monkeypatch, capsys):
    done, error = started(words.split(), tmp_path, monkeypatch, capsys)
    assert done == 2
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert all(part in error for part in said), error
    assert "secret" not in error
    assert list(tmp_path.iterdir()) == []


def started(words, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["sweep.py", *words])
    with pytest.raises(SystemExit) as ended:
        guarded(sweep.start)
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("backend", "typed"),
    [("postgresql", "psycopg2-binary or '.[postgres]'"), ("mysql", "python -m pip install mysqlclient")],
)
def test_a_missing_driver_is_named(backend, typed, tmp_path, monkeypatch, capsys):
    for module in ("psycopg2", "MySQLdb"):
        monkeypatch.setitem(sys.modules, module, None)
    words = ["regime=bidllm", "sweep=lr", f"storage={backend}://me@localhost/x"]
    assert typed in started(words, tmp_path, monkeypatch, capsys)[1]


def test_every_space_is_built_by_the_command_that_it_opens_with():
    shown = sweep_help()
    sweep.SWEEP.register()
    for name, space in search_spaces.SWEEPS.items():
        assert f"{name}: {space.question}" in shown
        (search,) = jobs(sweep.SWEEP, sweep.gathered(space.command.split()))
        assert search.sweep.parameters == space.parameters
        assert {"budget=study", "batch=32"} <= set(search.words)
    assert all(name in shown for name in sweep.OBJECTIVES)


@pytest.mark.parametrize(
    "word", ["corpus=trace", "a=[1,2]", "a='b c'", r"a=\'", "a=\\", r"a='\\'", "a={b: 1}", "a=", "a=x-${seed}"]
)
def test_words_for_the_runs_arrive_as_typed(word):
    sweep.SWEEP.register()
    (search,) = jobs(sweep.SWEEP, sweep.gathered(["trials=3", "corpus=facts", f"base.{word}"]))
    assert search.words == ["corpus=facts", f"base.{word}"]
    assert search.trials == 3


def test_the_url_of_a_storage_needs_no_quotes():
    sweep.SWEEP.register()
    url = "postgresql://me:p%40ss@[::1]:5432/a?sslmode=require&x=(1)"
    for typed in (f"storage={url}", f"storage='{url}'"):
        assert jobs(sweep.SWEEP, sweep.gathered([typed]))[0].storage == url


@pytest.mark.slow
def test_every_combination_of_values_is_a_run():
    RUN.register()
    space, grid = search_spaces.SWEEPS["block_and_warmup"], search_spaces.SWEEPS["block_grid"]
    assert [p for p in space.parameters if p.grid] == [p for p in grid.parameters if p.name != "warmup"]
    for size, clip, shift in itertools.product(*(p.grid for p in space.parameters if p.grid)):
        point = {"block_size": size, "warmup": 0.3, "clip": clip, "shift": shift, "lr": 0.002}
        (run,) = jobs(RUN, ["regime=ar_to_block", "corpus.operations=15", *space.words_of(point)])
        stage = run.regime.stages[1]
        assert (stage.objective.size, stage.objective.clip, stage.objective.shift) == (size, clip, shift)
        assert stage.mask_warmup.share == 0.3
        assert {stage.lr for stage in run.regime.stages} == {0.002}


@pytest.mark.slow
def test_values_that_no_run_could_have_are_left_out_beforehand():
    fitted = fit(Search(search_spaces.SWEEPS["block_and_warmup"], words=["regime=ar_to_block", "corpus.operations=5"]))
    assert fitted.search.sweep.parameters[0].grid == [1, 2, 4, 8]
    assert [line.split(" is left out: ")[0] for line in fitted.dropped] == ["block_size=16", "block_size=32"]


@pytest.mark.slow
def test_trials_leave_the_trunk_of_their_seed(tmp_path, monkeypatch):
    """As docs/sweeps.md shows it: one AR stage a seed, trained once, and a fork named by ${seed}."""
    monkeypatch.chdir(tmp_path)
    RUN.register()
    alone = ["regime.stages.1.steps=0", "regime.stages.1.share=0", "budget.evaluate_at=[5]", "keep_at=[5]"]
    for seed in (100, 101):
        places = [f"seed={seed}", "out=runs/trunk-seed${seed}", "draw=false"]
        (trunk,) = jobs(RUN, ["regime=ar_to_block", *TINY, *SHARED, *alone, *places])
        train(trunk, Console(quiet=True))
    words = ["regime=ar_to_block", *TINY, *SHARED, "regime.stages.1.steps=4", "budget.evaluate_at=[5,9]"]
    space = search_spaces.SWEEPS["second_stage"]
    fitted = fit(Search(space, words=[*words, "fork=runs/trunk-seed${seed}"]))
    point = {"block_size": 2, "warmup": 0.3, "clip": "none", "lr": 1e-3}
    runs = [jobs(RUN, list(job.words))[0] for job in fitted.jobs(point)]
    assert [run.fork for run in runs] == ["runs/trunk-seed100", "runs/trunk-seed101"]
    weights = {resolve(run).fork_weights for run in runs}
    assert len(weights) == 2
    assert len({job.folder for job in fitted.jobs(point)}) == 2
    assert [run.regime.stages[0].lr for run in runs] == [1e-3, 1e-3], "the rate is the second stage's alone"
    with pytest.raises(UsageError, match=r"fork=runs/trunk-seed102: wanted the folder of a run"):
        fit(Search(space, seeds=[102], words=[*words, "fork=runs/trunk-seed${seed}"]))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("sampler", ["tpe", "grid", "sobol"])
def test_trials_are_addressed_and_not_drawn(sampler):
    """Whoever asks for trial n of the same history is told the same; no two trials are alike."""
    space = search_spaces.SWEEPS["block_grid" if sampler == "grid" else "block_and_warmup"]
    search = Search(space, sampler=sampler)

    def points():
        study = optuna.create_study()
        for number in range(14):
            study.sampler = trial_storage.sampler_of(search, number)
            study.optimize(lambda trial: float(space.suggest(trial)["block_size"]), n_trials=1)
        return [trial.params for trial in study.trials]

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    first, second = points(), points()
    assert first == second
    assert len({str(point) for point in first}) == 14


def test_hyperband_stops_the_worse_and_never_the_best():
    search = Search(search_spaces.SWEEPS["lr"], pruner="hyperband")
    study = optuna.create_study(study_name="x", pruner=trial_storage.pruner_of(search, pauses=12))
    for number in range(60):
        trial, stopped = study.ask(), False
        for probe in range(1, 25):
            trial.report(number % 10, probe)
            stopped = stopped or trial.should_prune()
        study.tell(trial, **({"state": optuna.trial.TrialState.PRUNED} if stopped else {"values": number % 10}))
    ended = pd.DataFrame({"value": n % 10, "pruned": t.state.name == "PRUNED"} for n, t in enumerate(study.trials))
    assert not ended[ended["value"] == 0]["pruned"].any()
    assert ended[ended["value"] > 6]["pruned"].mean() > 0.5


@pytest.mark.slow
def test_importance_finds_the_parameter_that_matters():
    search = Search(Space("x", "?", [Range("a", 0, 1, []), Range("b", 0, 1, [])]))
    study, draws = optuna.create_study(), np.random.default_rng(0).uniform(size=(60, 2))
    space = {name: optuna.distributions.FloatDistribution(0, 1) for name in "ab"}
    study.add_trials(
        [optuna.create_trial(params={"a": a, "b": b}, distributions=space, value=(a - 0.3) ** 2) for a, b in draws]
    )
    found = sweep_results.importance(search, study.trials).set_index("parameter")
    assert found.loc["a", "importance"] > 0.8
    assert found.loc["a", "low"] > found.loc["b", "high"]
    assert sweep_results.importance(search, study.trials[:9])["importance"].isna().all()

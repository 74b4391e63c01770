"""The warmup study: its arms differ in one thing, its effects are those of a 2x2, its rows are drawn."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import synthetic_data
from ablate.core.storage import describe
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.regime import MaskWarmup
from experiments.presets.registry import BUDGETS, MODELS
from experiments.reports.warmup_effects import effects, outcomes
from experiments.warmup import ARMS, REFERENCE, WarmupStudy
from figures.learning import warmup_dynamics
from figures.paper import paper_warmup
from tests import ROOT


def study(**fields):
    return WarmupStudy(synthetic_data.make("trace"), MODELS["tiny"], BUDGETS["smoke"], **fields)


def test_arms_differ_in_the_warmup_alone():
    runs = {run.regime.name: run for run in study(seeds=[3]).runs()}
    assert set(runs) == {*ARMS, REFERENCE}
    plain = describe(runs["none"].regime.stages[0])
    for arm, (cap, drop) in ARMS.items():
        stage = describe(runs[arm].regime.stages[0])
        found = stage.pop("mask_warmup")
        assert stage == {k: v for k, v in plain.items() if k != "mask_warmup"}
        wanted = MaskWarmup(0.1 if cap or drop else 0.0, cap=cap, drop_weight=drop)
        assert found == describe(wanted)
    for run in runs.values():
        assert (run.seed, run.budget.every, run.corpus) == (3, 1, runs["none"].corpus)
    assert isinstance(study(block=4).objective, BlockDiffusion)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "each once"),
        ({"share": 1.0}, "share: wanted"),
        ({"block": -1}, "block: wanted"),
    ],
)
def test_nonsense_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        study(**fields)


def measured(effect, ratio, seeds=6, noise=0.0):
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        own = rng.normal()
        for arm, (cap, drop) in ARMS.items():
            value = own + effect["cap"] * cap + effect["drop"] * drop + effect["both"] * cap * drop
            value += noise * rng.normal()
            rows.append(
                {
                    "regime": arm,
                    "seed": seed,
                    "quantity": "q",
                    "ratio": ratio,
                    "value": np.exp(value) if ratio else value,
                }
            )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("ratio", [True, False])
def test_effects_are_those_that_were_put_in(ratio):
    """Seeds' own levels cancel; an effect is the mean over the other's two levels, interaction the rest."""
    put = {"cap": 0.7, "drop": -1.2, "both": 0.4}
    found = effects(measured(put, ratio)).set_index("name")
    wanted = {"cap effect": 0.7 + 0.2, "drop effect": -1.2 + 0.2, "interaction": 0.4}
    for name, value in wanted.items():
        value = np.exp(value) if ratio else value
        assert found.loc[name, ["value", "low", "high"]].tolist() == pytest.approx([value] * 3)
    noisy = effects(measured(put, ratio, noise=0.1)).set_index("name")
    assert (noisy["low"] < noisy["value"]).all()
    assert np.isnan(effects(measured(put, ratio, seeds=2))["low"]).all()


def rows_of_a_study(steps=40):
    rng, rows = np.random.default_rng(0), []
    for arm in (*ARMS, REFERENCE):
        for seed in (0, 1, 2):
            common = {
                "run": f"{arm}-{seed}",
                "corpus": "world",
                "regime": arm,
                "seed": seed,
                "stage": 0,
                "domain": "new",
                "split": "train",
                "contexts": "",
                "block_size": pd.NA,
            }
            for step in range(1, steps + 1):
                for metric in warmup_dynamics.METRICS:
                    rows.append({**common, "metric": metric, "step": step, "value": float(rng.lognormal())})
            for step in (0, steps):
                rows.append({**common, "metric": "excess_bits", "contexts": "random", "step": step, "value": 2.0})
    return pd.DataFrame(rows)


def test_outcomes_name_windows_and_leave_out_what_was_not_measured():
    found = outcomes(rows_of_a_study(), end=25)
    names = set(found["quantity"])
    assert {"first norm, median", "norm in warmup, spikes", "excess bits, random masks, end"} <= names
    assert not any("after" in name for name in names), "15 steps are too few"
    assert not any("block 1" in name for name in names)
    first = rows_of_a_study().query("regime == 'none' and seed == 0 and metric == 'grad_norm' and step <= 20")["value"]
    at = found.query("regime == 'none' and seed == 0 and quantity == 'first norm, median'")
    assert at["value"].item() == pytest.approx(first.median())


def test_figures_are_drawn():
    drawing = warmup_dynamics.draw(rows_of_a_study(), end=10)
    assert len(drawing.axes) == len(warmup_dynamics.METRICS) * len(warmup_dynamics.COLUMNS)
    assert all(axis.get_xscale() == axis.get_yscale() == "log" for axis in drawing.axes)
    with pytest.raises(ValueError, match="study warmup"):
        warmup_dynamics.draw(rows_of_a_study().query("metric == 'excess_bits'"), end=10)
    assert len(paper_warmup.draw().axes) == 6


@pytest.mark.slow
def test_a_study_runs_resumes_and_writes(tmp_path):
    words = [
        "budget=smoke",
        "budget.tokens=60000",
        "seeds=[0]",
        "share=0.5",
        f"out={tmp_path / 'study'}",
        f"cache={tmp_path / 'base'}",
    ]
    command = [sys.executable, str(ROOT / "experiments" / "warmup.py"), *words]
    first = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert first.returncode == 0, first.stderr
    assert "first norm per scored token, median" in first.stdout
    written = (tmp_path / "study" / "effects.csv").read_bytes()
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert again.stdout.count("complete already") == len(ARMS) + 1
    assert (tmp_path / "study" / "effects.csv").read_bytes() == written
    wrong = subprocess.run([*command, "-m", "share=0.1,0.2"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert wrong.returncode == 2
    assert "one study" in wrong.stderr

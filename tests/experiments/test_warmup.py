"""The report of the warmup study: its arms differ in one thing, its effects are those of a 2x2, its rows are drawn."""

import numpy as np
import pandas as pd
import pytest

from ablate.core.storage import describe
from ablate.objectives.regime import MaskWarmup
from experiments import warmup
from experiments.cli.compose import jobs
from experiments.cli.run_command import RUN
from experiments.presets.studies import WARMUP
from experiments.reports.warmup_effects import ARMS, COLUMNS, effects, of_study, outcomes
from figures.learning import warmup_dynamics
from figures.paper import paper_warmup
from tests import ROOT

GRID = {"none": (False, False), "cap": (True, False), "drop": (False, True), "both": (True, True)}


def test_arms_differ_in_the_warmup_alone():
    RUN.register()
    stages = {}
    for arm in WARMUP.arms:
        (run,) = jobs(RUN, WARMUP.words_of(WARMUP.conditions[0], arm, 3))
        stages[arm.name] = [describe(stage) for stage in run.regime.stages]
    assert {name.split("_")[0] for name in stages} == {*ARMS} == {*GRID}
    plain = stages.pop("none")
    for name, (first, second) in stages.items():
        ingredient, share = name.split("_")
        cap, drop = GRID[ingredient]
        assert second.pop("mask_warmup") == describe(MaskWarmup(float(share), cap=cap, drop_weight=drop))
        assert [first, second] == [plain[0], {k: v for k, v in plain[1].items() if k != "mask_warmup"}]


def measured(effect, ratio, seeds=6, noise=0.0):
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        own = rng.normal()
        for arm, (cap, drop) in GRID.items():
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
    for arm in (*ARMS, "ar"):
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


def in_study(rows, share):
    """The same rows as those of a study, whose arms say how long the warmup is."""
    names = {arm: arm if arm in ("none", "ar") else f"{arm}_{share:g}" for arm in (*ARMS, "ar")}
    return rows.assign(condition="trace", arm=rows["regime"].map(names))


def test_steps_count_from_the_switch_and_lengths_are_apart():
    first = rows_of_a_study().query("regime != 'ar'").assign(value=lambda rows: rows["value"] * 7)
    both = pd.concat([first, rows_of_a_study().assign(stage=1, step=lambda rows: rows["step"] + 40)])
    late, early = (of_study(in_study(rows.query("regime != 'ar'"), 0.5)) for rows in (both, rows_of_a_study()))
    pd.testing.assert_frame_equal(late, early)
    assert list(late) == list(COLUMNS)
    assert (late["end"].unique(), late["steps"].unique()) == (20, 40)
    with pytest.raises(ValueError, match="study=warmup"):
        of_study(in_study(rows_of_a_study().query("regime != 'cap'"), 0.5))


@pytest.mark.slow
def test_the_command_reads_the_committed_study(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    out = tmp_path / "effects.csv"
    assert warmup.main(["--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "trace: warmup of 31 of 312 steps, 4 seed(s)" in said
    assert "first norm per scored token, median" in said
    written = pd.read_csv(out)
    assert sorted(written["end"].unique()) == [31, 94]
    monkeypatch.chdir(tmp_path)
    assert warmup.main([]) == 2
    assert "results/warmup" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [out]

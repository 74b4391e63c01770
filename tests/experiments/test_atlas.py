"""The atlas as a table and as a command: what counts, what is said of it, what is kept."""

import math

import numpy as np
import pandas as pd
import pytest

from ablate.core import records
from ablate.studies.design import Setting
from experiments import atlas
from experiments.reports.atlas_table import EXPECTED, OUTCOME, WORLDS, falls, log_ratios, table
from tests.studies.test_outcomes import RUN

CURVE = {"metric": "excess_bits", "contexts": "ar", "block_size": None, "split": "train", "domain": "new", "stage": 0}
NONE = records.table([], records.STUDY)


def rows(values, seeds=(1, 2)):
    """{(world, arm): curve at steps 0, 10, 20} as rows of a study, alike on every seed."""
    found = [
        {
            **RUN,
            **CURVE,
            "study": "atlas",
            "condition": world,
            "arm": arm,
            "run": f"{world}{arm}{seed}",
            "regime": arm,
            "seed": seed,
            "step": 10 * i,
            "value": value * (1 + seed / 10),
        }
        for (world, arm), curve in values.items()
        for seed in seeds
        for i, value in enumerate(curve)
    ]
    return records.table(found, records.STUDY)


def expectations(*worlds):
    known = {"length": 10, "vocabulary": 20, "hops": 3}
    costs = {"cost": (2.0, 1.0), "known": (0.3, 0.1), "visits": (3.0, 1.5), "k": (5.0, 4.0), "entropy": (2.5, 2.0)}
    found = [
        {"world": world, "family": world[0], "key": "k", "arm": arm, "quantity": name, "value": float(value)}
        for world in worlds
        for arm, name, value in [
            *(("", name, value) for name, value in known.items()),
            *((arm, name, pair[i]) for name, pair in costs.items() for i, arm in enumerate(("bidllm", "ar"))),
        ]
    ]
    return records.table(found, EXPECTED)


def test_a_world_counts_where_an_arm_learned_half_of_it_on_development_seeds():
    measured = rows({("a1", "ar"): [2, 1, 1], ("a1", "bidllm"): [2, 2, 1], ("a2", "ar"): [2, 2, 2]})
    tried = rows(
        {("a1", "ar"): [2, 1, 0.9], ("a1", "bidllm"): [2, 2, 2], ("a2", "ar"): [2, 2, 1.2], ("a3", "ar"): [2, 1, 0.5]}
    )
    found = table(expectations("a1", "a2", "a3", "a4"), measured, tried, OUTCOME, 2).set_index("world")
    assert list(found.reset_index()) == list(WORLDS)
    assert found.loc["a1", "why"] == ""
    assert found.loc["a1", "log_ratio"] == pytest.approx(math.log(1.75 / 1.25))
    assert found.loc["a1", "spread"] == pytest.approx(0, abs=1e-12), "both arms of a seed differ alike"
    assert found.loc["a1", "seeds"] == 2
    assert found.loc["a2", "why"] == "no arm fell below half: 0.60 of its start"
    assert found.loc["a3", "why"] == "measured on 0 of 2 seeds"
    assert found.loc["a4", "why"] == "not tried on development seeds"
    assert found.loc["a1", ["table", "visits", "entropy"]].tolist() == pytest.approx([math.log(2), math.log(2), 0.5])
    assert found.loc["a1", "log_length"] == pytest.approx(math.log(10))


def test_arms_are_paired_by_seed():
    both = pd.concat(
        [rows({("w", "ar"): [2, 1, 1]}, seeds=(1, 2, 3)), rows({("w", "bidllm"): [4, 2, 2]}, seeds=(2, 3))]
    )
    np.testing.assert_allclose(log_ratios(both, OUTCOME)["w"], [math.log(2)] * 2)
    assert falls(both, OUTCOME)["w"] == 0.5
    assert log_ratios(NONE, OUTCOME) == {}


def written(results, worlds, ratio):
    """Results of an atlas in which BiDLLM costs ratio(world) times what AR does."""
    curves = {
        key: curve
        for i, world in enumerate(worlds)
        for key, curve in {
            (world, "ar"): [2, 1, 0.5],
            (world, "bidllm"): [2 * ratio(i), ratio(i), 0.5 * ratio(i)],
        }.items()
    }
    for name in ("atlas", "atlas_admission"):
        (results / name).mkdir()
        records.write(rows(curves, seeds=(1, 2, 3)), results / name / records.FILE, records.STUDY)
    told = expectations(*worlds)
    told["key"] = told["world"].map(lambda world: atlas.key_of([world], atlas.SAMPLE))
    cost = (told["arm"] == "bidllm") & (told["quantity"] == "cost")
    told.loc[cost, "value"] = [math.exp(1 + 0.1 * i) for i in range(len(worlds))]
    records.write(told, results / "atlas" / "expected.parquet", EXPECTED)


def test_the_command_judges_what_is_kept(tmp_path, capsys, monkeypatch):
    worlds = [f"{family}{i}" for family in "ab" for i in range(4)]
    written(tmp_path, worlds, lambda i: math.exp(1 + 0.2 * (i % 4)))
    monkeypatch.setattr(atlas, "ATLAS", [Setting(world, [world]) for world in worlds])
    assert atlas.main(["--results", str(tmp_path), "--draws", "50"]) == 0
    said = capsys.readouterr().out
    (table_line,) = [line.split("│") for line in said.splitlines() if line.startswith("│ table")]
    assert table_line[2].strip() == "1.00"
    assert "a 1.00 b 1.00" in table_line[-2], "a line through either family predicts the other"
    (ceiling,) = [line.split("│") for line in said.splitlines() if line.startswith("│ ceiling")]
    assert ceiling[2].strip() == "1.00"
    kept = records.read(tmp_path / "atlas" / "worlds.parquet", WORLDS)
    assert kept["world"].tolist() == worlds
    assert (kept["why"] == "").all()
    assert (tmp_path / "atlas" / "predictors.parquet").exists()
    monkeypatch.setattr(atlas, "ATLAS", [Setting(world, ["other words"]) for world in worlds[:1]])
    monkeypatch.setattr(
        atlas, "expected_of", lambda name, *_: expectations(name).drop(columns="key").to_dict("records")
    )
    assert atlas.main(["--results", str(tmp_path)]) == 0
    assert records.read(tmp_path / "atlas" / "expected.parquet", EXPECTED)["world"].unique().tolist() == worlds[:1]
    assert not (tmp_path / "atlas" / "predictors.parquet").exists(), "of other worlds"


def test_what_theories_expect_is_kept_world_by_world(tmp_path, capsys):
    asked = ["--results", str(tmp_path), "--sample", "40"]
    assert atlas.main(["programs_3", *asked]) == 0
    assert "No family has 3 worlds that count" in capsys.readouterr().out
    first = records.read(tmp_path / "atlas" / "expected.parquet", EXPECTED)
    assert atlas.main(["programs_3", "facts_3", *asked]) == 0
    both = records.read(tmp_path / "atlas" / "expected.parquet", EXPECTED)
    assert both[both["world"] == "programs_3"].reset_index(drop=True).equals(first)
    assert set(both["world"]) == {"programs_3", "facts_3"}
    hops = both[both["quantity"] == "hops"].set_index("world")["value"]
    assert hops.to_dict() == {"programs_3": 2.0, "facts_3": 1.0}
    assert "–" in capsys.readouterr().out


def test_bad_words_are_refused_in_a_line(tmp_path, capsys):
    assert atlas.main(["nowhere", "--results", str(tmp_path)]) == 2
    assert "nowhere: wanted worlds of the atlas, trace_0" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        atlas.main(["--sample", "0"])
    assert left.value.code == 2

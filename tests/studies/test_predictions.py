"""Predictions and verdicts: what is written down is what is judged, and a later edit shows."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from ablate.analysis import statistics
from ablate.core import records
from ablate.studies.outcomes import QUESTIONS, Outcome
from ablate.studies.predictions import VERDICTS, Prediction, verdicts
from ablate.studies.predictions_yaml import read_predictions
from ablate.studies.trends import Trend, settings
from experiments import verdicts as command
from experiments.presets.followup_studies import STUDIES
from tests import ROOT
from tests.studies.test_outcomes import RUN

SHIPPED = ROOT / "experiments" / "presets" / "predictions.yaml"
NONE = pd.DataFrame(columns=list(QUESTIONS))


def rows(values, study="s", condition="c", **changes):
    """{arm: value a seed} as rows of a study whose curves are flat."""
    found = [
        {
            **RUN,
            **changes,
            "study": study,
            "condition": condition,
            "arm": arm,
            "run": f"{arm}{seed}",
            "regime": arm,
            "seed": seed,
            "stage": 0,
            "step": step,
            "value": value,
        }
        for arm, column in values.items()
        for seed, value in enumerate(column)
        for step in (0, 10)
    ]
    return records.table(found, records.STUDY)


def prediction(direction="lower", threshold=0.1, name="H", other="b", **changes):
    return Prediction(name, "s", "c", "a is lower", "ours", "a", other, direction, threshold, **changes)


SPREAD = np.array([-0.2, 0.1, 0.05, 0.2, -0.1, 0.0, 0.15, -0.2])


@pytest.mark.parametrize(
    ("shift", "direction", "verdict"),
    [
        (-1, "lower", "supported"),
        (1, "lower", "refuted"),
        (1, "higher", "supported"),
        (-1, "higher", "refuted"),
        (0, "equal", "undecided"),
        (1, "equal", "refuted"),
        (0, "lower", "undecided"),
    ],
)
def test_the_sign_is_arm_less_other(shift, direction, verdict):
    (row,) = verdicts([prediction(direction)], rows({"a": SPREAD + shift, "b": [0.0] * 8}), NONE)
    assert row["verdict"] == verdict
    assert row["difference"] == pytest.approx(SPREAD.mean() + shift)
    assert row["low"] < row["difference"] < row["high"]


@pytest.mark.parametrize("metric", ["excess_bits", "spurious_binding"])
def test_the_oracle_is_an_arm_whose_outcome_is_0(metric):
    outcome, table = Outcome(metric=metric), rows({"a": SPREAD + 1, "b": [0.0] * 8}, metric=metric)
    for direction, verdict in (("higher", "supported"), ("lower", "refuted"), ("equal", "refuted")):
        asked = [prediction(direction, outcome=outcome), prediction(direction, other="oracle", outcome=outcome)]
        (beside,), (row,) = (verdicts([one], table, NONE) for one in asked)
        assert (row.pop("other"), row["verdict"]) == ("oracle", verdict)
        assert row == {name: value for name, value in beside.items() if name != "other"}


@pytest.mark.parametrize("outcome", [Outcome("score", "decode"), Outcome(how="steps_to")])
def test_the_oracle_is_the_other_of_distances_from_it_alone(outcome):
    with pytest.raises(ValueError, match="wanted a distance from the oracle, excess_bits or spurious_binding"):
        prediction(other="oracle", outcome=outcome)


def test_only_seeds_that_both_arms_have_are_compared():
    table = rows({"a": SPREAD, "b": [0.0] * 8})
    table = table[(table["arm"] == "a") | (table["seed"] < 5)]
    (row,) = verdicts([prediction()], table, NONE)
    assert (row["seeds"], row["difference"]) == (5, pytest.approx(SPREAD[:5].mean()))
    assert verdicts([prediction()], table[(table["arm"] == "a") | (table["seed"] < 1)], NONE) == []


@pytest.mark.slow
def test_holm_is_over_the_primaries_of_a_study_alone():
    table = rows({"a": SPREAD - 1, "b": [0.0] * 8})
    primaries = [prediction(name=f"H{i}", primary=True) for i in range(6)]
    found = verdicts([*primaries, prediction(name="E")], table, NONE)
    assert [row["p_holm"] for row in found[:6]] == pytest.approx([6 / 128] * 6)
    assert {row["verdict"] for row in found} == {"supported"}
    assert np.isnan(found[6]["p_holm"])
    seventh = verdicts([*primaries, prediction(name="H7", primary=True)], table, NONE)
    assert {row["verdict"] for row in seventh} == {"undecided"}  # 7 / 128 > .05: eight seeds allow six


def test_intervals_draw_questions_where_they_are_kept():
    table = rows({"a": SPREAD, "b": [0.0] * 8})
    kept = [
        {"study": "s", "condition": "c", "arm": arm, "seed": seed, "question": q, "value": value + noise}
        for arm, column in {"a": SPREAD, "b": [0.0] * 8}.items()
        for seed, value in enumerate(column)
        for q, noise in enumerate((-9.0, 9.0) if arm == "a" else (0.0, 0.0))
    ]
    (seeds,), (both,) = (verdicts([prediction()], table, q) for q in (NONE, records.table(kept, QUESTIONS)))
    assert both["high"] - both["low"] > 5 * (seeds["high"] - seeds["low"])
    assert both["difference"] == seeds["difference"]
    other = prediction(outcome=Outcome(how="end"))  # not the outcome that is kept question by question
    (end,) = verdicts([other], table, records.table(kept, QUESTIONS))
    assert end["high"] - end["low"] == pytest.approx(seeds["high"] - seeds["low"])


SCORE = Outcome("score", "decode", how="steps_to")


def scored(values):
    return rows(values, metric="score", contexts="decode")


def test_arrivals_are_compared_within_pairs():
    """Eight pairs in which one arm arrives and the other never does: 2 of 256 patterns of signs are as far."""
    (row,) = verdicts([prediction(threshold=1, outcome=SCORE)], scored({"a": [0.9] * 8, "b": [0.1] * 8}), NONE)
    assert row["p"] == statistics.least_p(8)
    assert (row["difference"], row["verdict"]) == (-10, "supported")
    (few,) = verdicts([prediction(threshold=1, outcome=SCORE)], scored({"a": [0.9] * 4, "b": [0.1] * 4}), NONE)
    assert (few["p"], few["verdict"]) == (statistics.least_p(4), "undecided")


@pytest.mark.parametrize("direction", ["lower", "equal"])
def test_runs_that_never_arrive_say_nothing_of_equality(direction):
    never = scored({"a": [0.1] * 8, "b": [0.1] * 8})
    (row,) = verdicts([prediction(direction, threshold=50, outcome=SCORE)], never, NONE)
    assert (row["p"], row["verdict"]) == (1.0, "undecided")
    assert np.isnan(row["detectable"])


def test_a_primary_that_was_not_measured_still_counts_in_the_family():
    table = rows({"a": SPREAD - 1, "b": [0.0] * 8})
    primaries = [
        dataclasses.replace(prediction(name=f"H{i}", primary=True), condition="elsewhere" if i else "c")
        for i in range(7)
    ]
    found = verdicts(primaries, table, NONE)
    assert [row["note"] for row in found] == ["", *["not measured"] * 6]
    assert (found[0]["p_holm"], found[0]["verdict"]) == (pytest.approx(7 / 128), "undecided")


@pytest.mark.slow
def test_the_family_adjusts_the_p_of_the_claim():
    """Of a predicted equality that is the one-sided t-tests'; what can but refute is held to a share of the level."""
    table = rows({"a": SPREAD, "b": [0.0] * 8})
    wide = [prediction("equal", 1.0, name=f"H{i}", primary=True) for i in range(3)]
    found = verdicts(wide, table, NONE)
    assert [row["p_holm"] for row in found] == pytest.approx([3 * statistics.equivalence(SPREAD, 1.0)] * 3)
    assert {row["verdict"] for row in found} == {"supported"}
    margin = next(m for m in np.arange(0.05, 1, 0.005) if 0.02 < statistics.equivalence(SPREAD, m) < 0.04)
    alone = verdicts([prediction("lower", margin, primary=True)], table, NONE)
    family = verdicts([prediction("lower", margin, name=f"H{i}", primary=True) for i in range(3)], table, NONE)
    assert (alone[0]["verdict"], family[0]["verdict"]) == ("refuted", "undecided")


def test_two_runs_at_one_place_are_refused():
    table = rows({"a": SPREAD, "b": [0.0] * 8})
    with pytest.raises(ValueError, match="wanted one run, got"):
        verdicts([prediction()], pd.concat([table, table.assign(run=table["run"] + "x")]), NONE)


def test_a_change_of_any_field_changes_the_fingerprint():
    base = prediction()
    other = {"direction": "higher", "threshold": 0.2, "primary": True, "outcome": Outcome(how="end")}
    names = [f.name for f in dataclasses.fields(Prediction) if f.name != "trend"]  # which has no other arm
    changed = [dataclasses.replace(base, **{name: other.get(name, "x")}) for name in names]
    assert len({p.fingerprint() for p in (base, *changed)}) == len(names) + 1


def test_shipped_predictions_belong_to_shipped_studies():
    """Every one is decided by a study that has its condition and arms; primaries are no more than the seeds allow."""
    predictions = read_predictions(SHIPPED)
    for p in predictions:
        study = STUDIES[p.study]
        assert p.id in study.predictions
        assert {p.arm, p.other} - {"", "oracle"} <= {arm.name for arm in study.arms}
        conditions = [condition.name for condition in study.conditions]
        if p.trend == Trend.condition:
            assert list(settings(conditions, p.condition).values()) == conditions, "the whole study is one dial"
        else:
            assert p.condition in conditions
    for name, study in STUDIES.items():
        family = sum(p.primary for p in predictions if p.study == name)
        assert family == 0 or family <= statistics.primaries(len(study.seeds))


START = "H1: {study: s, condition: c, claim: x, source: y, arm: a,"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("H1: {study: s}", "H1: wanted the fields"),
        ("H1: 3", "H1: wanted the fields"),
        ("[1, 2]", "got list"),
        ("H1: {", "wanted a YAML file"),
        (f"{START} other: b, direction: up, threshold: 1}}", "'up'"),
        (f"{START} other: b, direction: lower, threshold: 0}}", "above 0"),
        (f"{START} other: a, direction: lower, threshold: 1}}", "twice"),
        (f"{START} other: b, direction: lower, threshold: 1, outcome: {{how: median}}}}", "median"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, text, said):
    path = tmp_path / "predictions.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"predictions\.yaml") as caught:
        read_predictions(path)
    assert said in str(caught.value)


MANIFEST = {"seeds": list(range(8)), "runs": {a: {"condition": "c", "arm": a, "source": "1"} for a in "ab"}}


@pytest.fixture
def results(tmp_path):
    """A study's results and the predictions as they were when it began."""
    (tmp_path / "predictions.yaml").write_text(
        "H1: {study: s, condition: c, claim: x, source: y, arm: a, other: b, direction: lower, threshold: 0.1}\n"
    )
    (known,) = read_predictions(tmp_path / "predictions.yaml")
    folder = tmp_path / "results" / "s"
    records.write(rows({"a": SPREAD - 1, "b": [0.0] * 8}), folder / "records.parquet", records.STUDY)
    records.write(NONE.astype(QUESTIONS), folder / "questions.parquet", QUESTIONS)
    (folder / "manifest.json").write_text(json.dumps(MANIFEST | {"predictions": {"H1": known.fingerprint()}}))
    return tmp_path


def run(folder, *words):
    return command.main(
        [*words, "--results", str(folder / "results"), "--predictions", str(folder / "predictions.yaml")]
    )


def test_the_command_marks_what_was_changed_later(results, capsys):
    assert run(results) == 0
    found = records.read(results / "results" / "verdicts.parquet", VERDICTS)
    assert found[["verdict", "note"]].values.tolist() == [["supported", ""]]
    path = results / "predictions.yaml"
    line = path.read_text()
    path.write_text(line.replace("0.1", "0.3") + line.replace("H1", "H2"))
    assert run(results) == 0
    notes = records.read(results / "results" / "verdicts.parquet", VERDICTS).set_index("id")["note"]
    assert notes.to_dict() == {"H1": "edited after the data", "H2": "written after the data"}
    assert "2 supported, 0 refuted, 0 undecided" in capsys.readouterr().out


def test_seeds_and_code_that_differ_from_the_plan_show(results):
    path = results / "results" / "s" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["seeds"] = [0, 1, 2, 3, 4, 99]  # five of which were run; seeds 5 to 7 came later
    manifest["runs"]["b"]["source"] = "2"
    path.write_text(json.dumps(manifest))
    assert run(results) == 0
    (row,) = records.read(results / "results" / "verdicts.parquet", VERDICTS).to_dict("records")
    assert row["seeds"] == 5
    assert row["note"] == "arms by different code; 6 seeds were planned"


def test_naming_a_study_shows_it_and_keeps_the_others(results, capsys):
    path = results / "predictions.yaml"
    path.write_text(path.read_text() + path.read_text().replace("H1", "Z1").replace("study: s", "study: z"))
    shutil.copytree(results / "results" / "s", results / "results" / "z")
    rows_of_z = records.read(results / "results" / "z", records.STUDY).assign(study="z")
    records.write(rows_of_z, results / "results" / "z" / "records.parquet", records.STUDY)
    assert run(results, "z") == 0
    assert records.read(results / "results" / "verdicts.parquet", VERDICTS)["id"].tolist() == ["H1", "Z1"]
    assert "1 supported" in capsys.readouterr().out


@pytest.mark.slow
def test_the_committed_verdicts_are_those_of_the_committed_rows():
    found = command.collect(ROOT / "results", SHIPPED)
    kept = records.read(ROOT / "results" / "verdicts.parquet", VERDICTS)
    pd.testing.assert_frame_equal(found, kept, rtol=1e-6)
    assert set(kept["note"]) <= {"", "not measured", "arms by different code"}


@pytest.mark.parametrize(
    ("words", "spoil", "said"),
    [
        (["nothing"], "", "nothing: wanted studies"),
        ([], "s/records.parquet", "none; type python experiments/study.py"),
        (["s"], "s/records.parquet", "none; type python"),
        ([], "s/manifest.json", "damaged"),
        ([], "s/questions.parquet", "questions.parquet"),
    ],
)
def test_bad_input_is_answered_in_a_line(results, capsys, words, spoil, said):
    if spoil:
        (results / "results" / spoil).unlink()
    assert run(results, *words) == 2
    assert said in capsys.readouterr().err

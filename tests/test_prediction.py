"""Predictions and verdicts: what is written down is what is judged, and a later edit shows."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablate import records, stats
from ablate.outcomes import QUESTIONS, Outcome
from ablate.prediction import VERDICTS, Prediction, read_predictions, verdicts
from experiments import verdicts as command
from experiments.followups import STUDIES
from tests.test_outcomes import RUN

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "experiments" / "predictions.yaml"
NONE = pd.DataFrame(columns=list(QUESTIONS))


def rows(values, study="s", condition="c", **changes):
    """{arm: value a seed} as rows of a study whose curves are flat."""
    found = [
        {**RUN, **changes, "study": study, "condition": condition, "arm": arm, "run": f"{arm}{seed}", "regime": arm,
         "seed": seed, "stage": 0, "step": step, "value": value}
        for arm, column in values.items() for seed, value in enumerate(column) for step in (0, 10)
    ]  # fmt: skip
    return records.table(found, records.STUDY)


def prediction(direction="lower", threshold=0.1, name="H", **changes):
    return Prediction(name, "s", "c", "a is lower", "ours", "a", "b", direction, threshold, **changes)


SPREAD = np.array([-0.2, 0.1, 0.05, 0.2, -0.1, 0.0, 0.15, -0.2])


@pytest.mark.parametrize(
    ("shift", "direction", "verdict"),
    [(-1, "lower", "supported"), (1, "lower", "refuted"), (1, "higher", "supported"), (-1, "higher", "refuted"),
     (0, "equal", "undecided"), (1, "equal", "refuted"), (0, "lower", "undecided")],
)  # fmt: skip
def test_the_sign_is_arm_less_other(shift, direction, verdict):
    (row,) = verdicts([prediction(direction)], rows({"a": SPREAD + shift, "b": [0.0] * 8}), NONE)
    assert row["verdict"] == verdict
    assert row["difference"] == pytest.approx(SPREAD.mean() + shift)
    assert row["low"] < row["difference"] < row["high"]


def test_only_seeds_that_both_arms_have_are_compared():
    table = rows({"a": SPREAD, "b": [0.0] * 8})
    table = table[(table["arm"] == "a") | (table["seed"] < 5)]
    (row,) = verdicts([prediction()], table, NONE)
    assert (row["seeds"], row["difference"]) == (5, pytest.approx(SPREAD[:5].mean()))
    assert verdicts([prediction()], table[(table["arm"] == "a") | (table["seed"] < 1)], NONE) == []


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
    kept = [{"study": "s", "condition": "c", "arm": arm, "seed": seed, "question": q, "value": value + noise}
            for arm, column in {"a": SPREAD, "b": [0.0] * 8}.items() for seed, value in enumerate(column)
            for q, noise in enumerate((-9.0, 9.0) if arm == "a" else (0.0, 0.0))]  # fmt: skip
    (seeds,), (both,) = (verdicts([prediction()], table, q) for q in (NONE, records.table(kept, QUESTIONS)))
    assert both["high"] - both["low"] > 5 * (seeds["high"] - seeds["low"])
    assert both["difference"] == seeds["difference"]
    other = prediction(outcome=Outcome(how="end"))  # not the outcome that is kept question by question
    (end,) = verdicts([other], table, records.table(kept, QUESTIONS))
    assert end["high"] - end["low"] == pytest.approx(seeds["high"] - seeds["low"])


def test_arrivals_are_compared_by_log_rank():
    score = Outcome("score", "decode", how="steps_to")
    early = rows({"a": [0.9] * 8, "b": [0.1] * 8}, metric="score", contexts="decode")
    (row,) = verdicts([prediction(threshold=1, outcome=score)], early, NONE)
    arrived, never = stats.arrivals([0.0] * 8, [True] * 8), stats.arrivals([10.0] * 8, [False] * 8)
    assert row["p"] == pytest.approx(stats.log_rank(arrived, never))
    assert (row["difference"], row["verdict"]) == (-10, "supported")


def test_a_change_of_any_field_changes_the_fingerprint():
    base = prediction()
    changed = [dataclasses.replace(base, **{name: value}) for name, value in {
        "direction": "higher", "threshold": 0.2, "claim": "x", "source": "y", "primary": True, "condition": "d",
        "other": "z", "outcome": Outcome(how="end")}.items()]  # fmt: skip
    assert len({p.fingerprint() for p in (base, *changed)}) == 9


def test_shipped_predictions_belong_to_shipped_studies():
    """Every one is decided by a study that has its condition and arms; primaries are no more than the seeds allow."""
    predictions = read_predictions(SHIPPED)
    for p in predictions:
        study = STUDIES[p.study]
        assert p.id in study.predictions
        assert {p.arm, p.other} <= {arm.name for arm in study.arms}
        assert p.condition in {condition.name for condition in study.conditions}
    for name, study in STUDIES.items():
        family = sum(p.primary for p in predictions if p.study == name)
        assert family == 0 or family <= stats.primaries(len(study.seeds))


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
    (folder / "manifest.json").write_text(json.dumps({"predictions": {"H1": known.fingerprint()}}))
    return tmp_path


def run(folder, *words):
    return command.main([*words, "--results", str(folder / "results"), "--predictions",
                         str(folder / "predictions.yaml")])  # fmt: skip


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


@pytest.mark.parametrize(
    ("words", "spoil", "said"),
    [
        (["nothing"], "", "wanted a study that has predictions, s"),
        ([], "s/records.parquet", "none; type python experiments/study.py"),
        (["s"], "s/records.parquet", "records.parquet"),
        ([], "s/manifest.json", "damaged"),
        ([], "s/questions.parquet", "questions.parquet"),
    ],
)
def test_bad_input_is_answered_in_a_line(results, capsys, words, spoil, said):
    if spoil:
        (results / "results" / spoil).unlink()
    assert run(results, *words) == 2
    assert said in capsys.readouterr().err

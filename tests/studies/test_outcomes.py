"""Outcomes: areas, sides of a switch and arrivals of curves whose numbers are known by hand."""

import numpy as np
import pandas as pd
import pytest

from ablate.core import records
from ablate.decoding.protocol import Protocol
from ablate.studies.outcomes import How, Outcome, by_question

RUN = {
    "run": "r",
    "corpus": "w",
    "regime": "a",
    "seed": 1,
    "objective": "",
    "tokens": 0,
    "loss_tokens": 0,
    "flops": 0.0,
    "domain": "new",
    "split": "test",
    "metric": "excess_bits",
    "contexts": "block",
    **records.NO_BLOCKS,
    "block_size": 1,
    "grid": "answer",
    "question": None,
}


def curve(points, **other):
    """Rows at (stage, step, value)."""
    return records.table([{**RUN, **other, "stage": s, "step": t, "value": v} for s, t, v in points])


POINTS = [(-1, 0, 99.0), (0, 0, 4.0), (0, 10, 2.0), (0, 30, 2.0), (1, 30, 6.0), (1, 40, 0.0)]


@pytest.mark.parametrize(
    ("how", "value"),
    [
        (How.mean, (30 + 40 + 0 + 30) / 40),  # the base model is not part of training
        (How.end, 0.0),
        (How.before_switch, 2.0),
        (How.after_switch, 6.0),
        (How.later_mean, 3.0),
    ],
)
def test_numbers_of_a_curve(how, value):
    assert Outcome(how=how).of(curve(POINTS)) == pytest.approx(value)


def test_arrivals_are_censored_at_the_last_look():
    score = Outcome("score", "decode", how=How.steps_to)
    rows = curve([(0, 0, 0.1), (0, 10, 0.79), (0, 20, 0.8), (0, 30, 0.5)], metric="score", contexts="decode")
    assert (score.of(rows), score.reached(score.curve(rows))) == (20, True)
    never = curve([(0, 0, 0.1), (0, 30, 0.7)], metric="score", contexts="decode")
    assert (score.of(never), score.reached(score.curve(never))) == (30, False)


def test_only_what_is_asked_is_counted():
    other = [
        curve(POINTS, **change)
        for change in (
            {"block_size": 2},
            {"split": "train"},
            {"domain": "general"},
            {"metric": "bits"},
            {"contexts": "decode"},
        )
    ]
    rows = pd.concat([curve(POINTS), *(part.assign(value=1e6) for part in other)])
    assert Outcome().of(rows) == Outcome().of(curve(POINTS))
    random = Outcome(contexts="random", block_size=None, split="train")
    assert random.of(rows) is None
    assert random.of(curve(POINTS, contexts="random", block_size=None, split="train")) == Outcome().of(curve(POINTS))


def test_an_outcome_names_order_pace_and_grid_and_never_averages_two_values():
    score = {"metric": "score", "contexts": "decode"}
    ways = [("answer", "confidence", "tokens:1"), ("sequence", "confidence", "tokens:1"), ("answer", "random", "all")]
    parts = [
        curve([(0, 0, float(i)), (0, 10, float(i))], **score, grid=grid, order=order, pace=pace)
        for i, (grid, order, pace) in enumerate(ways)
    ]
    rows = pd.concat(parts)
    for i, (grid, order, pace) in enumerate(ways):
        assert Outcome("score", "decode", how=How.end, grid=grid, order=order, pace=pace).of(rows) == i
    assert Outcome("score", "decode", how=How.end, pace="tokens:1.0").of(rows) == 0
    assert Outcome("score", "decode", how=How.end, pace="tokens:2").of(rows) is None
    again = parts[0].assign(protocol="temperature 1", value=5.0)
    with pytest.raises(ValueError, match="wanted one value of score, got 2"):
        Outcome("score", "decode", how=How.end).of(pd.concat([rows, again]))


def test_rows_from_before_protocols_are_read_as_they_were_measured(tmp_path):
    """As confidence, one token a pass, grid answer; in the words that a run of today has for that."""
    now = pd.concat(
        [
            curve(POINTS, metric="score", contexts="decode", order="confidence", pace="tokens:1", protocol=said)
            for said in [Protocol(1).rest]
        ]
        + [curve(POINTS), curve(POINTS, contexts="ar", block_size=None, grid="")]
    )
    old = now.drop(columns=["grid", "offset", "order", "pace"])
    old.loc[old["contexts"] == "decode", "protocol"] = "greedy; most confident first; one token a pass"
    old.to_parquet(tmp_path / records.FILE)
    pd.testing.assert_frame_equal(records.read(tmp_path), records.table(now.to_dict("records")))


def test_one_stage_has_no_switch_and_one_point_no_area():
    flat = curve([(0, 0, 1.0), (0, 10, 2.0)])
    assert Outcome(how=How.before_switch).of(flat) is None
    assert Outcome(how=How.after_switch).of(flat) is None
    assert Outcome(how=How.later_mean).of(flat) == 1.5
    assert Outcome(how=How.mean).of(curve([(0, 0, 1.0)])) is None


def test_questions_average_to_the_outcome():
    rng = np.random.default_rng(3)
    values = rng.exponential(size=(5, 7))
    steps = [0, 10, 15, 40, 80]
    parts = [
        curve([(0, t, v) for t, v in zip(steps, column, strict=True)], metric="question_bits", question=q)
        for q, column in enumerate(values.T)
    ]
    whole = curve([(0, t, v) for t, v in zip(steps, values.mean(1), strict=True)])
    kept = by_question(pd.concat([whole, *parts]))
    assert sorted(kept) == list(range(7))
    assert np.mean(list(kept.values())) == pytest.approx(Outcome().of(whole))

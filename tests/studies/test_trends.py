"""Trends over a dial: by seed, of whole seeds, and as verdicts."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from ablate.core.storage import digest
from ablate.studies.outcomes import How, Outcome
from ablate.studies.predictions import Prediction, verdicts
from ablate.studies.predictions_yaml import read_predictions
from ablate.studies.trends import Trend, changes, settings
from tests.studies.test_predictions import NONE, rows

DIAL = (1, 2, 4, 16)


def dialled(value, arm="a", seeds=8):
    """Rows of conditions k_1 .. k_16; value(place of the setting, seed)."""
    parts = [
        rows({arm: [value(place, seed) for seed in range(seeds)]}, condition=f"k_{setting}").assign(
            run=lambda part, setting=setting: part["run"] + f"at{setting}"
        )
        for place, setting in enumerate(DIAL)
    ]
    return pd.concat(parts, ignore_index=True)


def prediction(direction="higher", threshold=0.2, **changed):
    said = {"id": "D", "study": "s", "condition": "k", "claim": "it rises", "source": "ours", "arm": "a", "other": ""}
    return Prediction(**{**said, "direction": direction, "threshold": threshold, "trend": "condition", **changed})


def test_settings_stand_in_the_order_of_their_numbers():
    found = settings(["k_16", "k_2", "other_3", "k", "k_0.5", "k_x"], "k")
    assert list(found.items()) == [(0.5, "k_0.5"), (2.0, "k_2"), (16.0, "k_16")]


def test_a_change_is_the_slope_over_the_whole_dial_and_levels_are_nothing():
    found = changes(dialled(lambda place, seed: 0.5 * place + 10 * seed), "k", Trend.condition, Outcome())
    assert found == pytest.approx(dict.fromkeys(range(8), 1.5))
    bent = changes(dialled(lambda place, _: [0, 0, 0, 1][place]), "k", Trend.condition, Outcome())
    slope = np.polyfit(range(4), [0, 0, 0, 1], 1)[0]
    assert bent[0] == pytest.approx(3 * slope)


def test_seeds_that_lack_a_setting_are_left_out():
    whole = dialled(lambda place, _: place)
    lacking = whole[~((whole["condition"] == "k_4") & (whole["seed"] == 3))]
    assert sorted(changes(lacking, "k", Trend.condition, Outcome())) == [0, 1, 2, 4, 5, 6, 7]
    assert changes(whole[whole["condition"].isin(["k_1", "k_2"])], "k", Trend.condition, Outcome()) == {}


def test_block_sizes_of_one_run_are_a_dial_too():
    parts = [rows({"a": [size * (1.0 + seed) for seed in range(4)]}, block_size=size) for size in (1, 2, 3)]
    found = changes(pd.concat(parts), "c", Trend.block_size, Outcome())
    assert found == pytest.approx({seed: 2 * (1 + seed) for seed in range(4)})


def test_two_runs_of_a_seed_are_refused():
    twice = pd.concat([dialled(lambda place, _: place), dialled(lambda place, _: -place).assign(run="other")])
    with pytest.raises(ValueError, match=r"study s, k_1/a, seed 0: wanted one run"):
        verdicts([prediction()], twice, NONE)


NOISE = np.array([0.02, -0.03, 0.01, 0.0, 0.03, -0.02, -0.01, 0.02])


@pytest.mark.parametrize(
    ("slope", "direction", "verdict"),
    [
        (0.3, "higher", "supported"),
        (-0.3, "higher", "refuted"),
        (0.0, "higher", "refuted"),
        (0.0, "equal", "supported"),
        (0.3, "equal", "refuted"),
    ],
)
def test_verdicts_on_trends_are_those_on_differences(slope, direction, verdict):
    table = dialled(lambda place, seed: place * (slope + NOISE[seed]) + seed)
    (found,) = verdicts([prediction(direction)], table, NONE)
    assert found["verdict"] == verdict
    assert found["difference"] == pytest.approx(3 * (slope + NOISE.mean()))
    assert found["seeds"] == 8
    assert found["outcome"].endswith("change over conditions")


def test_a_trend_is_of_one_arm_and_not_of_what_is_censored(tmp_path):
    with pytest.raises(ValueError, match="wanted a trend of one arm's measured outcome, got other='b'"):
        prediction(other="b")
    with pytest.raises(ValueError, match="how=steps_to"):
        prediction(outcome=Outcome(how=How.steps_to))
    file = tmp_path / "p.yaml"
    file.write_text(
        "D: {study: s, condition: k, arm: a, direction: higher, threshold: 1, claim: c, source: s, trend: condition}"
    )
    assert read_predictions(file)[0].other == ""
    file.write_text("D: {study: s, condition: k, arm: a, direction: higher, threshold: 1, claim: c, source: s}")
    with pytest.raises(ValueError, match="got wrong or missing 'other'"):
        read_predictions(file)


def test_what_was_registered_before_there_were_trends_keeps_its_hash():
    plain = prediction(other="b", trend="")
    assert plain.fingerprint() != prediction().fingerprint()
    said = {**dataclasses.asdict(plain), "outcome": dataclasses.asdict(plain.outcome)}
    for name in ("grid", "order", "pace"):
        del said["outcome"][name]
    del said["trend"]
    assert plain.fingerprint() == digest(said)

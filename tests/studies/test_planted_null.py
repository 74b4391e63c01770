"""A planted null: the share of errors of a test where there is nothing to find."""

import numpy as np
import pytest

from ablate.analysis.statistics import ALPHA, equivalence, sign_flip
from ablate.studies.outcomes import How, Outcome
from ablate.studies.planted_null import planted_null
from experiments import verdicts as command
from tests import ROOT
from tests.studies.test_predictions import prediction, rows

DRAWS = 200
EVEN = np.tile([-0.3, -0.1, 0.1, 0.3], 2)
SKEWED = np.array([0.0, 0.01, 0.02, 0.03, 0.0, 0.01, 0.02, 3.0])  # where the outlier is not drawn, all lie on one side


def found(differences, **changes):
    values = {"a": np.asarray(differences) + 5.0, "b": np.full(len(differences), 5.0)}
    return planted_null(prediction(**changes), rows(values), DRAWS)


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_where_differences_are_even_the_test_errs_as_often_as_it_says_whatever_their_mean(shift):
    null = found(EVEN + shift)
    assert null.low <= ALPHA <= null.high
    assert null.holds
    assert (null.seeds, null.draws, null.errors) == (8, DRAWS, round(null.share * DRAWS))


def test_an_outlier_makes_it_err_more_often():
    null = found(SKEWED)
    assert null.low > ALPHA
    assert not null.holds


def test_of_an_equality_the_threshold_is_planted():
    assert equivalence(EVEN, 1.0) <= ALPHA
    for differences in (EVEN, EVEN / 100):
        assert found(differences, direction="equal", threshold=1.0).holds, "a difference of 1 is not within 1"


def test_errors_are_those_of_the_test_itself(monkeypatch):
    tried = []

    def told(differences):
        tried.append(differences)
        return 0.0 if len(tried) % 4 == 0 else 1.0

    monkeypatch.setattr("ablate.analysis.statistics.sign_flip", told)
    assert found(EVEN + 1).share == 0.25
    assert np.isclose(np.concatenate(tried).mean(), 0, atol=0.05), "planted mean"
    assert sign_flip(EVEN) == 1.0


def test_what_it_cannot_try_is_left_out():
    assert found(EVEN, outcome=Outcome(how=How.steps_to, metric="score", contexts="decode")) is None
    assert found([0.1]) is None
    with pytest.raises(ValueError, match="draws: wanted 1 or more, got 0"):
        planted_null(prediction(), rows({"a": EVEN, "b": EVEN}), 0)


def test_the_command_prints_a_line_a_prediction_and_refuses_in_one(capsys):
    asked = ["regimes", "--results", str(ROOT / "results"), "--null"]
    assert command.main([*asked, "20"]) == 0
    said = capsys.readouterr().out
    assert all(f"H{i} " in said for i in range(1, 7))
    assert "E1 " not in said, "steps to a level are censored"
    assert command.main([*asked, "0"]) == 2
    assert "draws: wanted 1 or more" in capsys.readouterr().err
    assert command.main(["nowhere", "--results", str(ROOT / "results"), "--null", "5"]) == 2
    assert "wanted rows of two seeds or more of nowhere" in capsys.readouterr().err

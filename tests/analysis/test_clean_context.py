"""Clean-context shares of drawn masks: they agree with the closed form, and would not with another one."""

import math

import pytest

from experiments.reports import clean_context_share
from experiments.reports.clean_context_share import CASES, HEAVY, PARENTS, shares


@pytest.fixture(scope="module")
def rows():
    return shares(draws=4000, seed=0)


def test_every_case_is_there_and_no_closed_form_is_contradicted(rows):
    assert {(row["schedule"], row["parents"], row["weighting"]) for row in rows} == {
        (case, parents, weighting) for case in CASES for parents in PARENTS for weighting in ("loss", "token")
    }
    assert min(row["p_holm"] for row in rows if not math.isnan(row["p_holm"])) > 0.01


def test_a_weight_without_variance_has_no_interval(rows):
    for row in rows:
        heavy = row["weighting"] == "loss" and row["schedule"] in HEAVY
        assert math.isnan(row["low"]) == math.isnan(row["high"]) == heavy
        assert not (heavy and not math.isnan(row["p_value"]))


def test_an_interval_holds_its_estimate_and_shares_fall_with_the_parents(rows):
    for row in rows:
        assert math.isnan(row["low"]) or row["low"] <= row["estimate"] <= row["high"]
    for case in CASES:
        exact = [r["closed_form"] for r in rows if r["schedule"] == case and r["weighting"] == "token"]
        assert exact == sorted(exact, reverse=True)


def test_one_parent_more_is_seen(monkeypatch):
    """Mutation: of so many draws the share with a parent too many is rejected."""
    exact = clean_context_share.clean_context_share
    monkeypatch.setattr(
        clean_context_share, "clean_context_share", lambda noise, r, weighted: exact(noise, r + 1, weighted)
    )
    wrong = shares(draws=4000, seed=0)
    assert min(row["p_holm"] for row in wrong if not math.isnan(row["p_holm"])) < 1e-6

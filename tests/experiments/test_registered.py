"""Results know runs, studies and predictions by the fingerprints of when they were made, whatever is renamed since."""

import json

import pandas as pd
import pytest

from experiments.presets.registry import GROUPS
from experiments.study_runner import kept_results, registered
from tests import ROOT

KEPT = pd.read_csv(registered.RENAMED)
RESULTS = ROOT / "results"
MANIFESTS = {path.parent.name: json.loads(path.read_text()) for path in RESULTS.glob("*/manifest.json")}
ARCHIVED = [json.loads(path.read_text()) for path in RESULTS.glob("archive/*/manifest.json")]


def test_one_fingerprint_of_today_stands_for_one_that_was_registered():
    assert KEPT["now"].is_unique
    assert KEPT["registered"].is_unique
    assert not set(KEPT["now"]) & set(KEPT["registered"])
    assert registered.registered(KEPT["now"][0]) == KEPT["registered"][0]
    assert registered.registered("another") == "another"


def test_the_map_speaks_of_runs_that_are_kept():
    there = {
        run["config_fingerprint"]
        for manifest in (*MANIFESTS.values(), *ARCHIVED)
        for run in manifest.get("runs", {}).values()
    }
    assert set(KEPT.loc[KEPT["kind"] == "run", "registered"]) <= there


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(name for name, manifest in MANIFESTS.items() if "runs" in manifest))
def test_every_study_that_ships_finds_its_results(name):
    study = GROUPS["study"][name]
    assert kept_results.earlier(study, ROOT / "results" / name)["runs"]

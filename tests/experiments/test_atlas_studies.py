"""The worlds of the atlas and their studies."""

import csv
import math

import numpy as np
import pytest

from ablate.core import records
from experiments.cli.compose import jobs
from experiments.cli.run_command import RUN
from experiments.presets import atlas_worlds
from experiments.presets.atlas_studies import (
    ADMISSION,
    ATLAS_RATES,
    CHOSEN,
    MEASURED,
    OBJECTIVES,
    RATES_TRIED,
    WORDS,
)
from experiments.presets.atlas_worlds import ATLAS, FAMILIES, FAMILY_OF, LIST, TO_DEVELOP, Size, sobol_worlds
from experiments.reports.atlas_table import OUTCOME
from tests import ROOT


def test_the_list_is_what_sobol_gives():
    with LIST.open(newline="") as file:
        assert list(csv.DictReader(file)) == sobol_worlds()


def test_sizes_are_spread_evenly_from_end_to_end():
    places = [(i + 0.5) / 1000 for i in range(1000)]
    for size in (Size(2, 5), Size(4, 64, log=True), Size(0.01, 0.2)):
        values = [float(size.at(place)) for place in places]
        assert (min(values), max(values)) == pytest.approx((size.low, size.high), rel=0.01)
    assert [[Size(2, 5).at(p) for p in places].count(str(v)) for v in (2, 3, 4, 5)] == [250] * 4


def test_the_atlas_shares_no_seed_and_no_world_with_what_chose_its_rates():
    assert not {*MEASURED.seeds} & {*ATLAS_RATES.seeds, *ADMISSION.seeds}
    assert not {world.name for world in MEASURED.conditions} & {world.name for world in ATLAS_RATES.conditions}
    assert ADMISSION.conditions == MEASURED.conditions == ATLAS


def test_rates_are_the_best_of_equal_trials():
    """By the outcome whose logarithm the atlas compares, over development worlds of every family."""
    trials = records.read(ROOT / "results" / "atlas_rates", records.STUDY)
    costs = {key: OUTCOME.of(run) for key, run in trials.groupby(["arm", "condition"])}
    for regime in OBJECTIVES:
        mean = {
            rate: np.mean([math.log(costs[f"{regime}_{rate:g}", world.name]) for world in TO_DEVELOP])
            for rate in RATES_TRIED
        }
        assert CHOSEN[regime] == min(mean, key=mean.__getitem__)


def test_worlds_are_many_apart_and_can_be_run():
    assert len(ATLAS) >= 48
    assert len(FAMILIES) >= 5
    assert len(TO_DEVELOP) >= 8
    every = [*ATLAS, *TO_DEVELOP]
    assert len({world.name for world in every}) == len({tuple(world.words) for world in every}) == len(FAMILY_OF)
    numbers = [word for world in every for word in world.words if ".world=" in word]
    assert len(set(numbers)) == len(every), "none has the tables of another"
    assert ATLAS_RATES.conditions == TO_DEVELOP
    RUN.register()
    for family in FAMILIES:
        words = atlas_worlds.worlds(family)[0].words
        (run,) = jobs(RUN, [*WORDS, "regime=ar", *words])
        assert run.corpus.name == family
        assert run.stage_steps == [600, 0]

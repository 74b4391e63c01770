"""Dials: what each turns, and that every arm ends with the objective that it is named after."""

import pytest
import torch

from experiments.cli.compose import jobs
from experiments.cli.run_command import RUN
from experiments.presets.dial_studies import CHOICES, DIALS, PERMUTED, PLACES, SIZES
from synthetic_data import Permuted, Trace


def composed(study, condition=0, arm=0):
    RUN.register()
    (run,) = jobs(RUN, study.words_of(study.conditions[condition], study.arms[arm], study.seeds[0]))
    return run


def test_every_dial_has_eight_settings_and_eight_seeds():
    for study in DIALS:
        settings = SIZES if len(study.conditions) == 1 else study.conditions
        assert len(settings) == len(study.seeds) == 8


@pytest.mark.slow
def test_an_arm_is_read_under_what_it_was_trained_with():
    """The last reading is of the last stage, whether that has steps or not."""
    for study in DIALS:
        for i, arm in enumerate(study.arms):
            run = composed(study, arm=i)
            trained = [stage.objective for stage, n in zip(run.regime.stages, run.stage_steps, strict=True) if n]
            assert run.regime.stages[-1].objective == trained[-1], f"{study.name}, {arm.name}"
            assert sum(run.stage_steps) == max(run.budget.evaluate_at)


@pytest.mark.slow
def test_knowing_nothing_costs_as_much_at_each_number_of_choices():
    for i in range(8):
        world = composed(CHOICES, condition=i).corpus
        assert world.values == 8 * world.choices == 8 * (i + 1)


@pytest.mark.slow
def test_places_have_the_entropy_that_they_are_named_by():
    world = Trace(operations=5, new_operators=12)
    tokens_BL, answer_L = world.batch(range(64), 0), world.queries(1, 0).answer_BL[0]
    for i, (bits, (order, swaps)) in enumerate(PLACES.items()):
        asked = composed(PERMUTED, condition=i).corpus
        assert (asked.order, asked.swaps, asked.corpus) == (order, swaps, world)
        place = Permuted(world, swaps=swaps, order=order).from_L
        found = []
        for at in (i for i in range(world.length) if answer_L[place[i]]):
            hidden_BL = tokens_BL.clone()
            hidden_BL[:, place[at:].copy()] = world.vocabulary.mask_id
            p_BV = world.oracle.posterior(hidden_BL).p_BLV[:, place[at]]
            found.append(torch.special.entr(p_BV).sum(1).mean().item() / torch.log(torch.tensor(2.0)).item())
        assert sum(found) / len(found) == pytest.approx(bits, abs=0.03)

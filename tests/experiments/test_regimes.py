"""Laws of stages: what a warmup makes of the noise step by step, and that every preset can be posed."""

import pytest
import torch

import synthetic_data
from ablate.model.attention import Attention
from ablate.noise.options import NO_WARMUP, Phase
from ablate.noise.schedules import Cap
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.regime import MaskWarmup, Stage
from experiments.cli.compose import jobs
from experiments.cli.run_command import RUN
from experiments.presets.registry import REGIMES
from tests.builders import address


def test_the_cap_rises_linearly_and_ends_abruptly():
    """u_max(s) = u_init + (1 - u_init) s / S (Stable-DiffCoder)."""
    warmup = MaskWarmup(share=0.25, u_init=0.01)
    caps = [warmup.phase(step, 400) for step in range(400)]
    assert [p.cap for p in caps[:100]] == pytest.approx([0.01 + 0.99 * s / 100 for s in range(100)])
    assert all(not p.weighted and not p.clipped for p in caps[:100])
    assert caps[100:] == [NO_WARMUP] * 300


def test_ingredients_are_apart():
    assert MaskWarmup(steps=10, cap=False).phase(3, 99) == Phase(1.0, weighted=False, clipped=False)
    assert MaskWarmup(steps=10, drop_weight=False, u_init=0.5).phase(5, 99) == Phase(0.75, weighted=True, clipped=False)
    assert MaskWarmup(steps=10, cap=False, clip=True).phase(0, 99).clipped
    assert MaskWarmup().phase(0, 99) == NO_WARMUP
    assert [MaskWarmup(share=0.5, steps=10).phase(s, 100) == NO_WARMUP for s in (9, 10)] == [False, True], (
        "steps override"
    )


@pytest.mark.parametrize(
    "objective", [Autoregressive(), BlockDiffusion(4, mask_sampling="count")], ids=lambda o: o.label
)
def test_what_has_no_rate_has_no_warmup_of_it(objective):
    with pytest.raises(ValueError, match=r"no mask rate that could rise; type regime.stages.0.mask_warmup.share=0"):
        Stage(objective, mask_warmup=MaskWarmup(share=0.1))


@pytest.mark.parametrize("wrong", [{"share": 1.5}, {"u_init": 0.0}, {"u_init": float("nan")}, {"steps": -1}], ids=str)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=rf"mask_warmup.{next(iter(wrong))}: wanted"):
        MaskWarmup(**wrong)


@pytest.mark.parametrize("name", list(REGIMES))
def test_every_stage_poses_a_problem(name):
    corpus = synthetic_data.make("trace")
    tokens_BL = corpus.batch(range(8), seed=0)
    for stage in REGIMES[name].stages:
        problem = stage.objective.pose(tokens_BL, address(8), corpus.vocabulary)
        assert torch.isfinite(problem.weight_RL).all()
        assert (problem.weight_RL > 0).any()
        assert problem.inputs_RL.shape == problem.targets_RL.shape == problem.weight_RL.shape


def test_arms_that_separate_confounds_differ_in_one_thing():
    """Attention, law of masks, supervised tokens and masked inputs, each against AR or masked diffusion."""
    first = {name: regime.stages[0].objective for name, regime in REGIMES.items()}
    assert first["ar_half_loss"] == Autoregressive(loss_share=0.5)
    assert first["ar_masked_input"] == Autoregressive(input_mask=0.15)
    assert first["r2l_ar"] == Autoregressive(Attention.anticausal)
    assert first["bidir_suffix"] == MaskedDiffusion(mask_sampling="suffix")
    assert first["lowcap"] == MaskedDiffusion(schedule=Cap(0.1))
    recipe = REGIMES["ar_to_block"].stages[1].objective
    assert (recipe.size, recipe.clip, recipe.guard, recipe.weight, recipe.shift) == (4, "atom", "force", "1/t", False)
    sizes = [stage.objective.reading.size for stage in REGIMES["ar_to_block_to_bidllm"].stages]
    assert sizes == [0, 4, 8, 0]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(REGIMES))
def test_regimes_pass_through_the_command_line_unchanged(name):
    RUN.register()
    (run,) = jobs(RUN, [f"regime={name}", "budget=smoke"])
    assert run.regime == REGIMES[name]


def test_blocks_longer_than_the_corpus_are_refused():
    """One block of the whole length is masked diffusion; one token more is refused, with what to type."""
    RUN.register()
    words, key = ["regime=ar_to_block", "budget=smoke"], "regime.stages.1.objective.size"
    (run,) = jobs(RUN, [*words, f"{key}=19"])
    assert run.corpus.length == 19
    with pytest.raises(ValueError, match=f"{key}=20: wanted at most corpus.length, 19 tokens; type {key}=19"):
        jobs(RUN, [*words, f"{key}=20"])

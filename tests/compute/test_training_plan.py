"""Plans: FLOPs against torch's own count, and what the command says."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ablate.compute.device import Recompute
from ablate.compute.execution import prepare
from ablate.compute.flops import Work, visible_pairs
from ablate.compute.training_plan import DAY, GB, Plan, mean_scored, pattern_of
from ablate.model.attention import CAUSAL, FULL, Attention, Pattern, visible
from ablate.model.config import ModelConfig
from ablate.model.transformer import Transformer
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.regime import Regime, Stage
from experiments.presets.model_sizes import MODELS
from experiments.presets.registry import REGIMES
from tests import ROOT

SHAPE, VOCABULARY, LENGTH = ModelConfig(32, 3, 4, 2), 50, 24
BLOCKS = Pattern(Attention.block, 4, 1)
PATTERNS = [
    CAUSAL,
    FULL,
    Pattern(Attention.anticausal),
    Pattern(Attention.block, 4),
    BLOCKS,
    Pattern(Attention.block, 4, 2),
    Pattern(Attention.block, 4, 1, True),
]


@pytest.mark.parametrize("length", [1, 2, 24, 27])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_pairs_are_those_of_the_mask(pattern, length):
    assert sum(visible_pairs(pattern, length)) == int(visible(pattern, length).sum())


def products(pattern, recompute=Recompute.none, scored=10):
    """FLOPs of matrix products in one step, as torch counts them."""
    network = prepare(Transformer(SHAPE, VOCABULARY, VOCABULARY - 1), False, recompute)
    inputs = torch.zeros(pattern.draws + 1, LENGTH, dtype=torch.long)
    outputs = torch.arange(scored)
    with FlopCounterMode(display=False) as counter:
        network.score(inputs, pattern, outputs, torch.zeros_like(outputs), torch.ones(scored))[0].backward()
    counted = counter.get_flop_counts()["Global"]
    return sum(n for operation, n in counted.items() if "attention" not in str(operation))


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_matrices_are_counted_exactly(pattern):
    assert Work(SHAPE, VOCABULARY, pattern, LENGTH, 10).matrices == products(pattern)


@pytest.mark.parametrize("pattern", [CAUSAL, BLOCKS], ids=str)
def test_what_is_made_anew_is_counted_exactly(pattern):
    work = Work(SHAPE, VOCABULARY, pattern, LENGTH, 10)
    attention = work.attention / 3  # of a forward pass
    assert work.again(Recompute.full) - attention == products(pattern, Recompute.full) - products(pattern)
    assert work.again(Recompute.selective) == products(pattern, Recompute.selective) - products(pattern) == 0
    assert work.again(Recompute.full, every=3) < work.again(Recompute.full) / 2


def test_convention_bounds_what_is_computed():
    """It counts every key as seen and every output as scored; with all of them it is what is computed."""
    work = Work(SHAPE, VOCABULARY, FULL, LENGTH, LENGTH)
    assert work.convention == work.computed
    assert Work(SHAPE, VOCABULARY, CAUSAL, LENGTH, LENGTH).computed < work.convention
    blocks = Work(SHAPE, VOCABULARY, BLOCKS, LENGTH, LENGTH / 2)
    assert blocks.convention == 2 * work.convention
    assert blocks.computed < blocks.convention


def test_scored_outputs_are_counted_from_masks():
    assert mean_scored(Autoregressive(), 64) == 63
    assert mean_scored(MaskedDiffusion(), 256) == pytest.approx(127.5, rel=0.1)
    assert mean_scored(BlockDiffusion(4, complementary=True), 256) == 255
    assert pattern_of(BlockDiffusion(8, draws=2)) == Pattern(Attention.block, 8, 2)


def plan(**fields):
    return Plan(MODELS["tiny"], REGIMES["ar_to_block"], **({"length": 64, "global_batch": 8} | fields))


def test_days_follow_from_the_stated_share():
    one, two = (plan(gpus=n, steps=1350).stages() for n in (1, 2))
    shape = MODELS["tiny"]
    for stage, rows, steps in zip(one, (1, 2), (1000, 350), strict=True):
        processed = 0.4 * 989e12 / shape.flops(64, 32_768)
        assert stage["rows_read"] == rows
        assert stage["processed_tokens_per_second"] == pytest.approx(processed)
        assert stage["days"] == pytest.approx(steps * 8 * 64 * rows / processed / DAY)
    assert two[0]["days"] == pytest.approx(one[0]["days"] / 2)


def test_strategies_differ_in_what_a_processor_holds():
    """DDP keeps the gradients all the time; shards are an n-th each, and what is whole for a while is less than all."""
    alone, ddp, sharded = plan(batch=8), plan(gpus=2, batch=8, global_batch=16), plan(gpus=4, batch=2, strategy="fsdp")
    parameters = MODELS["tiny"].parameters(32_768)
    assert alone.summary()["bytes"] == ddp.summary()["bytes"]
    assert sum(sharded.summary()["bytes"].values()) == 16 * parameters / 4
    peaks = [p.stages()[0]["bytes"]["peak"] for p in (alone, ddp, sharded)]
    assert 0 < peaks[1] - peaks[0] <= 4 * parameters
    assert 16 * parameters / 4 < peaks[2] < peaks[0]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"gpus": 3}, "try global_batch=6"),
        ({"gpus": 0}, "try gpus=1"),
        ({"mfu": 1.5}, "try mfu=0.4"),
        ({"length": 2}, "try length=4096"),
        ({"out": "x.csv"}, "try out=plan.json"),
        ({"peak": 0}, "try peak="),
    ],
)
def test_bad_plans_say_what_to_try(fields, told):
    with pytest.raises(ValueError, match=told):
        plan(**fields)


@pytest.mark.slow
def test_every_regime_can_be_planned_for():
    for regime in REGIMES.values():
        for stage in Plan(MODELS["tiny"], regime, length=32, global_batch=1, steps=10).stages():
            assert 0 < stage["scored_share"] <= 1
            assert stage["bytes"]["peak"] < GB


@pytest.mark.slow
def test_the_paper_size_is_planned_without_being_made(tmp_path):
    """The command of the README: 2.5 billion parameters; a block pass keeps twice the activations and takes twice the
    time a clean token."""
    path = tmp_path / "plan.json"
    command = [sys.executable, str(ROOT / "experiments" / "plan.py"), "model=2.5b", "regime=ar_to_block", "gpus=8"]
    done = subprocess.run([*command, f"out={path}"], capture_output=True, text=True, check=True)
    assert "2,493,114,880 parameters" in done.stdout
    assert "days at 40% MFU" in done.stdout
    first, second = json.loads(path.read_text())["stages"]
    assert second["bytes"]["activations"] == pytest.approx(2 * first["bytes"]["activations"], rel=0.05)
    assert second["clean_tokens_per_second"] == pytest.approx(first["clean_tokens_per_second"] / 2)
    assert 40 * GB < first["bytes"]["peak"] < 80 * GB


def test_what_does_not_fit_is_said_with_what_to_type(capsys):
    from experiments.plan import advice, job

    small = plan(gpus=2, batch=2, memory=0.01)
    job(small)
    assert "does not fit; type batch=1 or recompute=full or strategy=fsdp" in capsys.readouterr().out
    assert advice(replace(small, memory=80.0), GB) == "fits"
    assert "gpus=N" in advice(plan(recompute="full"), 100 * GB)


def test_a_stage_of_no_steps_takes_no_days():
    regime = Regime("one", [Stage(Autoregressive()), Stage(MaskedDiffusion(), 0.0)])
    assert Plan(MODELS["tiny"], regime, length=16, global_batch=1).stages()[1]["days"] == 0

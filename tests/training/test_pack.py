"""Runs that train together: each as if it trained by itself, but for rounding, and none touches another."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from ablate.core import records
from ablate.model.attention import CAUSAL, FULL, Attention, Form, Pattern
from ablate.model.config import ModelConfig
from ablate.model.transformer import Transformer, initialise
from ablate.noise.options import Phase
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.loss import score
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.problem import packed
from ablate.objectives.regime import MaskWarmup, Regime, Stage
from ablate.training import checkpoint
from ablate.training.checkpoint import weights_hash
from ablate.training.lightning_module import TrainingModule
from ablate.training.pack import packs
from ablate.training.resolution import resolve
from ablate.training.run_manifest import RunError
from ablate.training.train import train, train_together
from tests.builders import BUDGET, MASK, VOCABULARY, address, tiny_run, tokens

QUIET = Console(quiet=True)
SEEDS, LENGTH, BATCH = 3, 13, 4
SHAPES = {
    "plain": ModelConfig(16, 2, 2, 2),
    "tied, grouped": ModelConfig(16, 2, 2, 1, tied=True),
    "biases, norms of heads": ModelConfig(16, 2, 2, 1, qkv_bias=True, qk_norm=True),
}
OBJECTIVES = {
    "ar": Autoregressive(),
    "half of the losses": Autoregressive(loss_share=0.5, input_mask=0.2),
    "right to left": Autoregressive(attention="anticausal"),
    "masked": MaskedDiffusion(),
    "causal": MaskedDiffusion("causal", shift=False),
    "block": BlockDiffusion(4),
    "block with shift, two copies": BlockDiffusion(4, shift=True, draws=2),
}


def networks(shape, form=Form.sdpa):
    """Of several seeds, with weights so large that every token matters."""
    members = [Transformer(shape, MASK + 1, MASK, form) for _ in range(SEEDS)]
    for seed, member in enumerate(members):
        initialise(member, seed)
        with torch.no_grad():
            for number, parameter in enumerate(member.parameters()):
                rng = torch.Generator().manual_seed(1000 * seed + number)
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=rng))
    return members


def posed(objective, seed, vocabulary=VOCABULARY, phase=Phase()):  # noqa: B008  # frozen
    return objective.pose(tokens(BATCH, LENGTH, seed), address(BATCH, seed=seed), vocabulary, phase)


def gradients(network):
    return {name: p.grad.clone() for name, p in network.named_parameters()}


@pytest.mark.parametrize("form", [Form.sdpa, Form.matmul, Form.dense])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_loss_and_gradient_are_those_of_each_network(objective, shape, form):
    members, objective = networks(SHAPES[shape], form), OBJECTIVES[objective]
    problems = [posed(objective, seed) for seed in range(SEEDS)]
    alone = []
    for seed, (member, problem) in enumerate(zip(members, problems, strict=True)):
        part = score(member, problem, 40 + seed)
        part.loss.backward()
        alone.append((part, gradients(member)))
    stacked = Transformer.stacked(members)
    part = score(stacked, packed(problems), torch.tensor([40.0 + seed for seed in range(SEEDS)]))
    part.loss.sum().backward()
    found = gradients(stacked)
    for seed, (one, wanted) in enumerate(alone):
        torch.testing.assert_close(part.loss[seed], one.loss, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(part.nats[seed], one.nats, rtol=1e-5, atol=1e-5)
        assert int(part.scored[seed]) == int(one.scored) == len(one.nats_N)
        for name, gradient in wanted.items():
            assert (found[name][seed] - gradient).norm() <= 1e-5 * gradient.norm(), name


@pytest.mark.parametrize("pattern", [CAUSAL, FULL, Pattern(Attention.block, 4)], ids=str)
def test_a_member_reads_as_the_network_that_it_was(pattern):
    members = networks(SHAPES["biases, norms of heads"])
    stacked = Transformer.stacked(members)
    tokens_BL = tokens(BATCH, LENGTH)
    together = stacked(tokens_BL.repeat(SEEDS, 1), dataclasses.replace(pattern, seeds=SEEDS)).unflatten(0, (SEEDS, -1))
    for seed, member in enumerate(members):
        wanted = member(tokens_BL, pattern)
        assert torch.equal(stacked.member(seed)(tokens_BL, pattern), wanted), "it has the same weights"
        torch.testing.assert_close(together[seed], wanted, rtol=1e-5, atol=1e-5)


def test_no_network_touches_another():
    """The others' losses and gradients are the same to the bit where one's weights are huge, or no numbers."""
    problems, counts = [posed(MaskedDiffusion(), seed) for seed in range(SEEDS)], torch.full((SEEDS,), 48.0)
    found = []
    for factor in (1.0, 1000.0, float("nan")):
        members = networks(SHAPES["plain"])
        with torch.no_grad():
            for parameter in members[1].parameters():
                parameter.mul_(factor)
        stacked = Transformer.stacked(members)
        part = score(stacked, packed(problems), counts)
        part.loss.sum().backward()
        found.append((part.loss, gradients(stacked)))
    (plain, wanted), *others = found
    for loss, gradient in others:
        assert not torch.equal(loss[1], plain[1])
        for seed in (0, 2):
            assert torch.equal(loss[seed], plain[seed])
            assert all(torch.equal(gradient[name][seed], wanted[name][seed]) for name in wanted)


def runs_of(folder, seeds=(1, 2, 3), **changes):
    return [tiny_run(folder, seed=seed, pack=8, out=str(folder / f"seed{seed}"), **changes) for seed in seeds]


def losses(run):
    rows = records.read(run.folder).query("metric == 'loss'")
    return rows["value"].to_numpy()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    second = Stage(MaskedDiffusion(), 0.3, warmup=2, optimizer="keep", mask_warmup=MaskWarmup(share=0.9))
    regime = Regime("x", [Stage(Autoregressive(), 0.7, warmup=2), second])
    runs = runs_of(
        tmp_path_factory.mktemp("together"), regime=regime, budget=dataclasses.replace(BUDGET, evaluations=9)
    )
    train_together(runs, QUIET)
    return runs


@pytest.mark.slow
def test_together_and_alone_differ_in_rounding_alone(together, tmp_path):
    for run in together:
        alone = dataclasses.replace(run, out=str(tmp_path / f"seed{run.seed}"), pack=1)
        train(alone, QUIET)
        ours, theirs = records.read(run.folder), records.read(alone.folder)
        keys = [name for name in ours.columns if name != "value"]
        pd.testing.assert_frame_equal(ours[keys], theirs[keys])
        same = ours["metric"].eq("loss") & ours["step"].le(20)
        np.testing.assert_allclose(ours["value"][same], theirs["value"][same], rtol=1e-5)
        manifests = [json.loads((r.folder / "manifest.json").read_text()) for r in (run, alone)]
        assert [manifest["pack"] for manifest in manifests] == [
            [resolve(r).label for r in together],
            [resolve(run).label],
        ]
        assert manifests[0]["config_fingerprint"] == manifests[1]["config_fingerprint"]
        assert manifests[0]["initial_weights"] == manifests[1]["initial_weights"], "the base is kept, and shared"


def elsewhere(runs, folder):
    return [dataclasses.replace(run, out=str(folder / f"seed{run.seed}")) for run in runs]


def stopped(runs, monkeypatch, stop_at):
    """Trains until a step of the new domain, at which the user stops it."""
    original, count = TrainingModule.training_step, [0]

    def stopping(self, batches, number):
        count[0] += self.stages[0] is not runs[0].base and self.steps != runs[0].base_steps
        if count[0] == stop_at:
            raise KeyboardInterrupt
        return original(self, batches, number)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            train_together(runs, QUIET)


def require_same(runs, wanted):
    for run, whole in zip(runs, wanted, strict=True):
        pd.testing.assert_frame_equal(records.read(run.folder), records.read(whole.folder))
        found, weights = (checkpoint.final_weights(r.folder) for r in (run, whole))
        assert weights_hash(found) == weights_hash(weights)


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [2, 10, 26, 31])
def test_resuming_together_is_exact(together, tmp_path, monkeypatch, stop_at):
    runs = elsewhere(together, tmp_path)
    stopped(runs, monkeypatch, stop_at)
    train_together(runs, QUIET)
    require_same(runs, together)


@pytest.mark.slow
@pytest.mark.parametrize("pauses", [1, 2])
def test_where_one_lacks_its_last_checkpoint_all_go_on_from_the_one_before(together, tmp_path, monkeypatch, pauses):
    """Killed between two checkpoints of a pause; at the first one there is none before, and all begin anew."""
    runs = elsewhere(together, tmp_path)
    stopped(runs, monkeypatch, runs[0].pauses()[pauses - 1] + 2)
    last = checkpoint.checkpoints(runs[1].folder / "checkpoints")
    assert len(last) == pauses
    shutil.rmtree(last[-1])
    train_together(runs, QUIET)
    require_same(runs, together)


@pytest.mark.slow
def test_one_that_is_ahead_loses_nothing_by_company(together, tmp_path, monkeypatch):
    alone, late = elsewhere(together[:2], tmp_path)
    stopped([alone], monkeypatch, 26)
    before = checkpoint.load(checkpoint.final(alone.folder) / checkpoint.PLAIN)["rows"]
    train_together([alone, late], QUIET)
    kept = records.table(before)
    assert len(kept.merge(records.read(alone.folder))) == len(kept) > 20
    assert [json.loads((run.folder / "manifest.json").read_text())["status"] for run in (alone, late)] == [
        "complete"
    ] * 2
    train(dataclasses.replace(late, out=f"{late.out}-alone"), QUIET)
    assert np.array_equal(losses(late), losses(dataclasses.replace(late, out=f"{late.out}-alone")))


@pytest.mark.slow
def test_rates_and_decay_of_each_are_its_own(tmp_path):
    stages = [Stage(Autoregressive(), 0.7, lr=lr, weight_decay=decay) for lr, decay in ((1e-3, 0.1), (4e-3, 0.0))]
    runs = [
        tiny_run(tmp_path, regime=Regime(f"x{i}", [stage]), pack=2, out=str(tmp_path / f"together{i}"))
        for i, stage in enumerate(stages)
    ]
    assert packs(runs) == [runs]
    train_together(runs, QUIET)
    for run in runs:
        alone = dataclasses.replace(run, out=f"{run.out}-alone", pack=1)
        train(alone, QUIET)
        np.testing.assert_allclose(losses(run), losses(alone), rtol=1e-4)
    assert not np.allclose(losses(runs[0]), losses(runs[1]), rtol=1e-3)


@pytest.mark.slow
def test_one_that_diverges_is_given_up_and_the_others_are_as_without_it(tmp_path):
    rates = (1e-3, 1e30, 2e-3)
    runs = [
        tiny_run(
            tmp_path,
            regime=Regime(f"x{i}", [Stage(Autoregressive(), 0.7, lr=lr, warmup=0)]),
            pack=3,
            out=str(tmp_path / f"x{i}"),
        )
        for i, lr in enumerate(rates)
    ]
    with pytest.raises(RunError, match=r"^\S*x1: step \d+: .*diverged; type a smaller regime.stages.0.lr than 1e\+30"):
        train_together(runs, QUIET)
    states = [json.loads((run.folder / "manifest.json").read_text())["status"] for run in runs]
    assert states == ["complete", "failed", "complete"]
    calm = [
        dataclasses.replace(run, out=f"{run.out}-calm", regime=Regime(run.regime.name, [stage]))
        for run, stage in (
            (r, dataclasses.replace(r.regime.stages[0], lr=min(r.regime.stages[0].lr, 0.5))) for r in runs
        )
    ]
    train_together(calm, QUIET)
    for i in (0, 2):
        assert np.array_equal(losses(runs[i]), losses(calm[i]))


@pytest.mark.slow
def test_what_cannot_go_on_stops_no_other(together, tmp_path, monkeypatch):
    """One whose checkpoints are all damaged, and one that is complete."""
    damaged, done, fresh = elsewhere(together, tmp_path)
    stopped([damaged], monkeypatch, 26)
    for path in checkpoint.checkpoints(damaged.folder / "checkpoints"):
        (path / checkpoint.PLAIN).write_bytes(b"")
    train(done, QUIET)
    before = (done.folder / records.FILE).read_bytes()
    with pytest.raises(RunError, match=r"seed1/checkpoints/.*no whole checkpoint is left"):
        train_together([damaged, done, fresh], QUIET)
    assert json.loads((fresh.folder / "manifest.json").read_text())["status"] == "complete"
    assert (done.folder / records.FILE).read_bytes() == before


def test_runs_of_one_seed_share_a_base_that_is_trained_once(tmp_path):
    runs = [
        tiny_run(
            tmp_path, regime=Regime(f"x{lr}", [Stage(Autoregressive(), 0.7, lr=lr)]), pack=2, out=f"{tmp_path}/{lr}"
        )
        for lr in (1e-3, 2e-3)
    ]
    train_together(runs, QUIET)
    first, second = (json.loads((run.folder / "manifest.json").read_text()) for run in runs)
    assert first["initial_weights"] == second["initial_weights"]
    bases = [json.loads(path.read_text()) for path in (tmp_path / "base").glob("*/base.json")]
    assert [base["pack"] for base in bases] == [1]


def test_packs_differ_in_numbers_alone(tmp_path):
    runs = runs_of(tmp_path, seeds=range(5))
    assert [[run.seed for run in pack] for pack in packs([dataclasses.replace(r, pack=2) for r in runs])] == [
        [0, 1],
        [2, 3],
        [4],
    ]
    assert packs([dataclasses.replace(run, pack=1) for run in runs[:2]]) != [runs[:2]]
    for change in (
        {"batch": 16},
        {"unique": 100},
        {"budget": dataclasses.replace(BUDGET, tokens=4800)},
        {"regime": Regime("y", [Stage(MaskedDiffusion())])},
        {"model": ModelConfig(16, 2, 2, 1)},
    ):
        other = dataclasses.replace(runs[1], **change)
        assert packs([runs[0], other, runs[2]]) == [[runs[0], runs[2]], [other]]

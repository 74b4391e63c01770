"""Base models that are trained until they are known in each way in which they may be read."""

import dataclasses
import json
import math

import pytest
import torch
from rich.console import Console

from ablate.core import records
from ablate.core.corpus import Domain
from ablate.decoding.predictor import Predictor
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.in_turn import InTurn
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.regime import Decay, Regime, Stage
from ablate.training import base_training
from ablate.training.base_model import base_models
from ablate.training.networks import plain_network
from ablate.training.probe_plan import probes
from ablate.training.resolution import resolve
from ablate.training.run_manifest import RunError
from ablate.training.train import train, train_together
from experiments.reports.run_report import report
from tests.builders import MASK, VOCABULARY, address, tiny_run, tokens

QUIET = Console(quiet=True)
PARTS = [Autoregressive(), MaskedDiffusion(), BlockDiffusion(2, shift=True)]
MIXED = Stage(InTurn(PARTS), lr=1e-2, warmup=2, decay=Decay.linear, until=1.8)


@pytest.mark.parametrize("step", range(7))
def test_each_step_poses_the_problem_of_one_objective(step):
    batch, where = tokens(4, 9), address(4, step)
    problem, wanted = (o.pose(batch, where, VOCABULARY) for o in (InTurn(PARTS), PARTS[step % 3]))
    for field in dataclasses.fields(problem):
        ours, theirs = (getattr(p, field.name) for p in (problem, wanted))
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs
    assert MASK not in problem.targets_RL


def test_one_objective_takes_no_turns():
    with pytest.raises(ValueError, match="two or more"):
        InTurn(PARTS[:1])


def excess(run, weights):
    """Of each reading, by the rows that a run records of the general domain."""
    network = plain_network(run)
    network.load_state_dict(weights)
    probe = next(p for p in probes(run) if p.domain is Domain.general)
    asked = probe.prepare(run.corpus_for(probe.domain, probe.split), run.seed)
    found = {}
    for objective in PARTS:
        rows = asked.measure(Predictor(network, objective))
        (found[objective.label],) = (r["value"] for r in rows if r["metric"] == "excess_bits" and r["block_size"] == 1)
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("bases")


def run_of(home, seed, name="alone", **changes):
    return tiny_run(home, base=MIXED, seed=seed, cache=str(home / name), out=str(home / f"{name}{seed}"), **changes)


def test_it_is_trained_in_rounds_until_every_reading_knows_and_says_so(home):
    runs = [resolve(run_of(home, seed)) for seed in (0, 1, 2)]
    rounds = []
    for run in runs:
        (base,) = base_models([run], QUIET)
        assert base.known["steps"] in [run.base_steps * 2**k for k in range(7)], "each round doubles what was trained"
        assert base.known["excess_bits"] == pytest.approx(excess(run, base.weights))
        assert max(base.known["excess_bits"].values()) <= MIXED.until
        shorter = dataclasses.replace(run, base=dataclasses.replace(MIXED, until=0.0))
        (one,) = base_models([shorter], QUIET)
        assert one.known == {"steps": run.base_steps}
        if base.known["steps"] > run.base_steps:
            assert max(excess(run, one.weights).values()) > MIXED.until, "it went on because it did not know yet"
        rounds.append(base.known["steps"] // run.base_steps)
    assert len(set(rounds)) > 1, "seeds that need different times, or the next test says nothing"


def test_runs_that_train_together_stop_each_at_its_own_time(home):
    alone = [base_models([resolve(run_of(home, seed))], QUIET)[0] for seed in (0, 1, 2)]
    runs = [resolve(run_of(home, seed, "pack", pack=3)) for seed in (0, 1, 2)]
    for base, one in zip(base_models(runs, QUIET), alone, strict=True):
        assert base.known["steps"] == one.known["steps"]
        for name, weights in one.weights.items():
            torch.testing.assert_close(base.weights[name], weights, rtol=1e-3, atol=1e-4)


def test_a_run_says_what_its_base_knows_and_reports_it(home):
    run = run_of(home, 0)
    train(run, QUIET)
    known = json.loads((run.folder / "manifest.json").read_text())["base"]
    assert set(known["excess_bits"]) == {part.label for part in PARTS}
    rows = records.read(run.folder)
    before = rows.query("stage == -1 and domain == 'general' and metric == 'excess_bits' and block_size == 1")
    assert before["value"].tolist() == [known["excess_bits"][PARTS[0].label]], "it is read as the first"
    report(run.folder, QUIET)


def test_a_base_that_is_found_is_not_lost_where_training_goes_on_and_diverges(home, monkeypatch):
    """Seed 1 needs longer than others; in its next round all losses are no numbers."""
    runs = [resolve(run_of(home, seed, "lost", pack=3)) for seed in (0, 1, 2)]
    steps = [base_models([run], QUIET)[0].known["steps"] for run in runs]
    first = min(steps)
    monkeypatch.setattr(
        base_training, "divergence", lambda where, *_: "diverged" if int(where.split()[-1]) > first else ""
    )
    found = base_training.train_bases(runs, QUIET)
    assert [isinstance(one, RunError) for one in found] == [step > first for step in steps]


def test_a_reading_that_is_no_number_is_not_known(home, monkeypatch):
    monkeypatch.setattr(base_training, "ROUNDS", 1)
    bits = iter([0.01, math.nan, 0.01])
    monkeypatch.setattr(base_training, "_excess_bits", lambda *_: next(bits))
    (found,) = base_training.train_bases([resolve(run_of(home, 0))], QUIET)
    assert isinstance(found, RunError)


def test_what_objectives_in_turn_are_together():
    whole = InTurn([Autoregressive(), BlockDiffusion(2, draws=2)])
    assert whole.rows_read == (1 + 3) / 2
    assert whole.noisy
    assert not InTurn([Autoregressive(), Autoregressive()]).noisy
    assert InTurn([Autoregressive(), MaskedDiffusion(mask_sampling="suffix")]).of_windows == "mask_sampling=suffix"


def test_what_is_never_known_is_given_up_and_not_kept(home, monkeypatch):
    monkeypatch.setattr(base_training, "ROUNDS", 2)
    impossible = dataclasses.replace(MIXED, until=1e-9)
    runs = [run_of(home, 0, "never", pack=2), run_of(home, 1, "never", pack=2)]
    runs[1].base = runs[0].base = impossible
    with pytest.raises(
        RunError, match=r"wanted 1e-09 excess bits or fewer .* after \d+ steps; type a larger base.until"
    ):
        train_together(runs, QUIET)
    assert not [path for path in (home / "never").iterdir() if path.is_dir()]


def test_a_stage_that_is_to_be_known_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no effect on a stage"):
        tiny_run(tmp_path, regime=Regime("x", [Stage(Autoregressive(), until=0.1)]))
    with pytest.raises(ValueError, match="0 or more bits"):
        Stage(Autoregressive(), until=-1.0)


def test_real_text_has_no_excess_bits(tmp_path):
    from ablate.text.corpora import PythonSource

    with pytest.raises(ValueError, match=r"base.until: only a world's oracle .* type base.until=0"):
        tiny_run(tmp_path, corpus=PythonSource(), base=MIXED)

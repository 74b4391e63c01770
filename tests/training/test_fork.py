"""Forks: a run that leaves its trunk is, to the last bit, the run that trained the common stages itself."""

import dataclasses
import json
import shutil

import pytest
from rich.console import Console

from ablate.core import records
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.regime import MaskWarmup, Regime, Stage
from ablate.training.checkpoint import FOLDER, final_weights, weights_hash
from ablate.training.pack import packs
from ablate.training.resolution import resolve
from ablate.training.run_manifest import RunError
from ablate.training.session import Session
from ablate.training.train import train, train_together
from tests.builders import BUDGET, tiny_run

QUIET = Console(quiet=True)
LONG = 30  # steps of the trunk; a run has 34
FORKS = (11, 23)
KEPT = Stage(MaskedDiffusion(), 1.0, warmup=0, optimizer="keep", mask_warmup=MaskWarmup(share=0.5))
FRESH = dataclasses.replace(KEPT, optimizer="reset", warmup=3)
AR = Stage(Autoregressive(), warmup=2)


def regime(step, last=KEPT, first=AR):
    """`first` for so many steps, then `last` to step 34."""
    return Regime("x", [dataclasses.replace(first, steps=step), dataclasses.replace(last, steps=34 - step)])


def run_of(folder, name, regime, seed=1, **changes):
    changes = {"budget": dataclasses.replace(BUDGET, evaluate_at=[4, 17, 29]), **changes}
    return tiny_run(folder, regime=regime, seed=seed, out=str(folder / name), **changes)


def trunk_of(folder, seed=1, **changes):
    changes = {"keep_at": [*FORKS], "budget": dataclasses.replace(BUDGET, evaluate_at=[4, 11, 17, 23, 29]), **changes}
    stages = [dataclasses.replace(AR, steps=LONG), dataclasses.replace(FRESH, steps=2)]
    return run_of(folder, f"trunk{seed}", Regime("trunk", stages), seed, **changes)


def rows(run):
    return records.read(run.folder).drop(columns="run")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Trunks of two seeds that train together, killed nowhere."""
    folder = tmp_path_factory.mktemp("forks")
    train_together([trunk_of(folder, seed, pack=2) for seed in (1, 2)], QUIET)
    train(trunk_of(folder, 3), QUIET)
    return folder


def fork(home, name, regime, seed=3, **changes):
    return run_of(home, name, regime, seed, fork=str(home / f"trunk{seed}"), **changes)


@pytest.mark.parametrize("last", [KEPT, FRESH], ids=["moments kept", "moments fresh"])
@pytest.mark.parametrize("step", FORKS)
def test_records_and_weights_are_those_of_the_whole_run(home, step, last):
    name = f"{step}-{last.optimizer}"
    whole, forked = run_of(home, f"whole-{name}", regime(step, last), seed=3), fork(home, name, regime(step, last))
    for run in (whole, forked):
        train(run, QUIET)
    assert rows(forked).equals(rows(whole))
    assert weights_hash(final_weights(forked.folder)) == weights_hash(final_weights(whole.folder))
    ours, its = (json.loads((run.folder / "manifest.json").read_text()) for run in (forked, whole))
    assert ours["initial_weights"] == its["initial_weights"]
    assert ours["fork"]["step"] == step
    assert "fork" not in its


def test_an_interrupted_fork_goes_on_from_its_own_checkpoint(home, monkeypatch):
    run = fork(home, "resumed", regime(11))
    train(run, QUIET)
    wanted = rows(run)
    names = sorted(path.name for path in (run.folder / FOLDER).iterdir())
    shutil.rmtree(run.folder / FOLDER / names[-1])
    (run.folder / "records.parquet").unlink()
    manifest = json.loads((run.folder / "manifest.json").read_text())
    del manifest["content"], manifest["files"]
    (run.folder / "manifest.json").write_text(json.dumps({**manifest, "status": "running"}))
    for begin in ("_begin", "_leave_trunk"):
        monkeypatch.setattr(Session, begin, lambda _: pytest.fail("it begins anew"))
    train(run, QUIET)
    assert rows(run).equals(wanted)


def test_seeds_that_train_together_leave_their_own_trunks(home):
    runs = [resolve(fork(home, f"pack{seed}", regime(11), seed, pack=2)) for seed in (1, 2)]
    assert packs(runs) == [runs], "weights at the fork are each seed's own"
    assert packs([runs[0], dataclasses.replace(runs[1], fork_step=23)]) == [
        [runs[0]],
        [dataclasses.replace(runs[1], fork_step=23)],
    ]
    train_together(runs, QUIET)
    whole = [run_of(home, f"whole-pack{seed}", regime(11), seed, pack=2) for seed in (1, 2)]
    train_together(whole, QUIET)
    for one, other in zip(runs, whole, strict=True):
        assert rows(one).equals(rows(other)), "the same pack, so the same rounding"


def test_where_a_run_leaves_is_known_from_its_stages(home):
    assert [resolve(fork(home, "x", regime(step))).fork_step for step in FORKS] == [*FORKS]
    other = fork(home, "x", Regime("x", [dataclasses.replace(AR, steps=11), *regime(23).stages]))
    assert resolve(other).fork_step == 11, "its second stage is the trunk's no more: fresh moments"


def test_the_fingerprint_has_the_weights_and_not_the_place(home, tmp_path):
    run = resolve(fork(home, "x", regime(11)))
    shutil.copytree(home / "trunk3", tmp_path / "elsewhere")
    moved = resolve(dataclasses.replace(fork(home, "x", regime(11)), fork=str(tmp_path / "elsewhere")))
    assert moved.fingerprint() == run.fingerprint() != resolve(run_of(home, "x", regime(11), 3)).fingerprint()
    assert dataclasses.replace(run, fork_weights="0").fingerprint() != run.fingerprint()


LINEAR = dataclasses.replace(AR, decay="linear")
REFUSED = {
    "nothing there": ({"fork": "nowhere"}, "wanted the folder of a run"),
    "another seed": ({"seed": 9, "fork": "{home}/trunk3"}, "seed=9"),
    "another batch": ({"batch": 4}, "batch=4"),
    "another rate": ({"regime": regime(11, first=dataclasses.replace(AR, lr=0.5))}, "another stage"),
    "a rate that depends on the end": ({"regime": regime(11, first=LINEAR)}, "another stage"),
    "longer than the trunk": ({"regime": regime(31)}, "another stage"),
    "no checkpoint": ({"regime": regime(12)}, r"keep_at=\[12\]"),
    "moments that are gone": ({"regime": regime(LONG)}, "wants moments"),
    "a step within a stage": ({"fork_step": 5}, "fork_step=11"),
    "other weights": ({"fork_weights": "0" * 64}, "leave it out"),
    "other probes": ({"budget": dataclasses.replace(BUDGET, evaluate_at=[4], questions=3)}, "budget.questions=3"),
    "other steps of probes": ({"budget": dataclasses.replace(BUDGET, evaluate_at=[5])}, r"got none at \[5\]"),
    "other grids": ({"regime": regime(11, Stage(BlockDiffusion(2), warmup=2))}, r"budget.grids=\[answer,sequence\]"),
    "no trunk": ({"fork": "", "fork_step": 11}, "type fork=RUN"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_its_past_is_refused_before_anything_is_written(home, what):
    changes, words = REFUSED[what]
    changes = {"regime": regime(11), **changes}
    changes = {key: value.format(home=home) if key == "fork" else value for key, value in changes.items()}
    run = dataclasses.replace(fork(home, f"refused {what}", changes.pop("regime")), **changes)
    with pytest.raises((RunError, ValueError), match=words):
        train(run, QUIET)
    assert not run.folder.exists()


@pytest.mark.parametrize("what", ["source", "packages", "origin"])
def test_a_trunk_of_other_code_packages_or_checkpoint_is_no_past(home, tmp_path, what):
    shutil.copytree(home / "trunk3", tmp_path / "trunk")
    manifest = json.loads((tmp_path / "trunk" / "manifest.json").read_text())
    del manifest["content"]
    other = {"torch": "1"} if what == "packages" else "other"
    (tmp_path / "trunk" / "manifest.json").write_text(json.dumps({**manifest, what: other}))
    with pytest.raises(RunError, match=f"the same {what}, got others"):
        resolve(dataclasses.replace(fork(home, "x", regime(11)), fork=str(tmp_path / "trunk")))


HOSTILE = {
    "no configuration": ("config.yaml", b"[1]", "wanted a run's configuration"),
    "no text": ("config.yaml", b"\xff\xfe", "wanted a run's configuration"),
    "a date that is none": ("config.yaml", b"a: 2001-99-99", "wanted a run's configuration"),
    "a bomb": ("config.yaml", b"a: &a [1, 1]\nb: [*a, *a]", "wanted a run's configuration"),
    "a damaged manifest": ("manifest.json", b"{}", "without"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_strangers_trunk_is_refused_in_one_line(home, tmp_path, what):
    name, content, said = HOSTILE[what]
    shutil.copytree(home / "trunk3", tmp_path / "trunk")
    manifest = json.loads((tmp_path / "trunk" / "manifest.json").read_text())
    del manifest["content"], manifest["files"]
    (tmp_path / "trunk" / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "trunk" / name).write_bytes(content)
    with pytest.raises(RunError, match=said) as refused:
        resolve(dataclasses.replace(fork(home, "x", regime(11)), fork=str(tmp_path / "trunk")))
    assert "\n" not in str(refused.value)


def test_checkpoints_for_forks_stay_and_others_go(home):
    names = {path.name for path in (home / "trunk3" / FOLDER).iterdir()}
    assert names == {"000000011-0", "000000023-0", "000000030-1", "000000032-2"}


@pytest.mark.parametrize("keep_at", [[0], [99]])
def test_a_step_to_keep_must_be_one_of_the_run(tmp_path, keep_at):
    with pytest.raises(ValueError, match="keep_at: wanted steps of this run, 1"):
        resolve(tiny_run(tmp_path, keep_at=keep_at))

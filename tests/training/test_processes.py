"""Several processes (gloo) are the same run: the same noise, the same curve, whatever they share and whoever goes on.

Learning rates are small here: training is chaotic at the default ones, so that rounding alone, 2e-7 of the loss, has
grown a thousandfold after sixty steps, in one process on another processor as in two on the same one.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from ablate.core import records
from ablate.training import checkpoint
from ablate.training.checkpoint_writer import KEEP
from tests import ROOT
from tests.typed import Typed

# of every kind of parameter that a shape can have; budget.every=1 writes the loss of every step
WORDS = [
    "regime=ar_to_bidllm",
    "corpus.operations=3",
    "corpus.values=4",
    "budget=smoke",
    "budget.base_tokens=4000",
    "budget.tokens=8000",
    "budget.every=1",
    "budget.evaluations=6",
    "batch=8",
    "precision=fp32",
    "threads=1",
    "device=cpu",
    "draw=false",
    "base.lr=3e-4",
    "regime.stages.0.lr=1e-4",
    "regime.stages.1.lr=1e-4",
    "model.tied=true",
    "model.qkv_bias=true",
    "model.qk_norm=true",
    "model.head=24",
    "model.kv_heads=2",
]
TOGETHER = 2  # processes
pytestmark = pytest.mark.slow


def start(place: Path, name: str, *words: str, processes: int = 1, machines: int = 1) -> list[Typed]:
    """The run by one process, or by several that have the environment which torchrun gives."""
    here, port = processes // machines, free_port()
    places = [
        {
            **{"RANK": rank, "LOCAL_RANK": rank % here, "GROUP_RANK": rank // here},
            **{"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": here, "GROUP_WORLD_SIZE": machines},
            **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": name},
        }
        for rank in range(processes)
    ]
    return [
        Typed(
            *("run", *WORDS, *words, f"out={name}", f"cache=base-{name}"),
            folder=place,
            log=place / f"{name}.log",
            **({key: str(value) for key, value in around.items()} if processes > 1 else {}),
        )
        for around in places
    ]


def finish(processes: Sequence[Typed]) -> str:
    """What all have said."""
    return [process.finish() for process in processes][-1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def kill_after_first_checkpoint(processes: Sequence[Typed], folder: Path) -> str:
    """SIGKILL to every process of the run, inside its first stage; the name of the last whole checkpoint."""
    processes[0].wait_for(lambda: checkpoint.latest(folder))
    for process in processes:
        process.kill()
    path = checkpoint.latest(folder)
    assert path is not None
    return path.name


def rows(place: Path, name: str) -> pd.DataFrame:
    return records.read(place / name)


def check_same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """The same rows; the same number of masked tokens, so the same masks; losses and norms of all steps to 1e-5."""
    own = ["value", "run"]  # a run's name says in how many micro-batches it was made
    assert ours.drop(columns=own).equals(theirs.drop(columns=own)), "loss_tokens are counted exactly"
    curves = ours["metric"].isin(["loss", "grad_norm", "scored_nats", "bits", "excess_bits"])
    assert (ours[curves & (ours["metric"] == "loss")]["step"].nunique()) == 112
    assert ours[curves]["value"].tolist() == pytest.approx(theirs[curves]["value"].tolist(), rel=1e-5)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    finish(start(folder, "alone"))
    return folder


@pytest.mark.parametrize(
    ("name", "words"),
    [("ddp", ["strategy=ddp", "accumulate=2", "loaders=1"]), ("fsdp", ["strategy=fsdp", "recompute=selective"])],
)
def test_two_processes_give_the_curve_of_one(place, name, words):
    """Each trains its base model, too. Micro-batches, loaders and recomputed activations change nothing either."""
    finish(start(place, name, *words, processes=TOGETHER))
    check_same(rows(place, name), rows(place, "alone"))
    whole, alone = (checkpoint.final_weights(place / run) for run in (name, "alone"))
    assert whole.keys() == alone.keys()
    assert all(((whole[key] - alone[key]).abs() <= 1e-5).all() for key in whole)


def test_two_machines_have_a_copy_each(place):
    """Weights are sharded within a machine, gradients summed between."""
    finish(start(place, "machines", "strategy=fsdp", processes=TOGETHER, machines=2))
    check_same(rows(place, "machines"), rows(place, "alone"))


@pytest.mark.parametrize(("name", "first", "then"), [("two-to-one", 2, 1), ("one-to-two", 1, 2)])
def test_a_killed_run_goes_on_with_another_number_of_processes(place, name, first, then):
    words = {1: [], TOGETHER: ["strategy=fsdp"]}
    reached = kill_after_first_checkpoint(start(place, name, *words[first], processes=first), place / name)
    said = finish(start(place, name, *words[then], processes=then))
    assert f"resuming {name} at step {int(reached.split('-')[0])}" in said
    check_same(rows(place, name), rows(place, "alone"))
    names = sorted(path.name for path in (place / name / "checkpoints").iterdir())
    assert len(names) == KEEP, "the last ones are kept, and nothing of the one that was cut off"
    assert not any(name.startswith(".") for name in names)


def test_bf16_shards_train_alike(place):
    """Weights travel in bf16, the master copy is fp32: within the rounding of bf16 of autocast's curve."""
    finish(start(place, "alone16", "precision=bf16"))
    finish(start(place, "fsdp16", "strategy=fsdp", "precision=bf16", "recompute=full", processes=TOGETHER))
    ours, theirs = (rows(place, name).query("metric == 'loss'")["value"].tolist() for name in ("fsdp16", "alone16"))
    assert ours == pytest.approx(theirs, rel=2**-7)
    assert {t.dtype.itemsize for t in checkpoint.final_weights(place / "fsdp16").values()} == {4}


def test_several_processes_find_a_finished_run_finished(place):
    """The first one knows it, gives back what was lost, and goes; the others must not wait for it, nor it for them.
    Typed as the documentation has it."""
    shutil.copytree(place / "alone", place / "finished")
    (place / "finished" / records.FILE).unlink()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(ROOT / "experiments" / "run.py"), *WORDS, "out=finished", "cache=base-finished"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    assert "complete already: finished" in done.stdout
    pd.testing.assert_frame_equal(rows(place, "finished"), rows(place, "alone"))


def test_shards_without_processes_are_refused(tmp_path):
    (process,) = start(tmp_path, "x", "strategy=fsdp")
    assert process.wait() == 2
    assert "type torchrun" in process.said
    assert not (tmp_path / "x").exists()

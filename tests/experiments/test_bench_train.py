"""The benchmark of training: what it needs, what it finds, and what it says where something fails."""

import importlib.metadata as metadata
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ablate.compute.device import Recompute
from ablate.model.attention import Form
from ablate.model.config import ModelConfig
from ablate.noise.options import Clip, Guard
from ablate.objectives.block_diffusion import BlockDiffusion
from experiments import bench
from experiments.benchmarks import gpu_check, pass_cost, train_speed, train_table
from experiments.benchmarks.gpu_parts import PARTS
from experiments.benchmarks.pass_cost import OUT_OF_MEMORY, Case
from experiments.benchmarks.train_speed import CONTESTANTS, Contest, largest_fitting
from tests import ROOT

ALLOWED = ("torch", "lightning", "numpy", "scipy", "pandas")
REFUSED = (
    "rich",
    "hydra",
    "omegaconf",
    "pyarrow",
    "tokenizers",
    "safetensors",
    "statsmodels",
    "matplotlib",
    "optuna",
    "yaml",
    "seaborn",
    "transformers",
)
HOOK = """
import sys

class Poorer:  # a finder that does not find some packages, as if they were not installed
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in {refused!r} else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Poorer, sys.meta_path)
"""


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(names):
    """The distributions and what they need, extras apart."""
    found, left = set(), [canonical(name) for name in names]
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        try:
            asked = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        left += [canonical(re.match(r"[\w.-]+", line)[0]) for line in asked if "extra ==" not in line]
    return found


def refused():
    """Modules of all that is installed here beside what is allowed, and those that are named."""
    allowed = needed(ALLOWED)
    others = {
        module
        for module, owners in metadata.packages_distributions().items()
        if not {canonical(owner) for owner in owners} & allowed
    }
    return sorted((others - {"ablate", "experiments", "synthetic_data", "figures"}) | set(REFUSED))


@pytest.mark.slow
def test_it_runs_where_little_is_installed(tmp_path):
    """From command to file, in processes that refuse every other package; each contestant has its numbers."""
    (tmp_path / "sitecustomize.py").write_text(HOOK.format(refused=refused()))
    path = tmp_path / "made" / "train.json"
    command = [sys.executable, str(ROOT / "experiments" / "bench.py"), "train", "model=tiny", "--quick"]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    check = [sys.executable, "-c", "import rich"]
    assert "No module named 'rich'" in subprocess.run(check, env=environment, capture_output=True, text=True).stderr
    done = subprocess.run(
        [*command, "--context", "64", "--batch", "2", "--out", str(path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(path.read_text())["models"]["tiny"]
    assert [row["contestant"] for row in result["contestants"]] == [c.name for c in CONTESTANTS]
    for row in result["contestants"]:
        assert "failed" not in row, row
        rows = 2 if "block" in row["contestant"] else 1
        clean, processed = (row[f"{kind}_tokens_per_second"]["median"] for kind in ("clean", "processed"))
        assert processed == pytest.approx(rows * clean)
        assert row["batch"] == 2
        assert len(row["step_seconds"]) == 2
        assert row["mfu_processed"] > 0  # of a peak measured here, which a busy machine makes small
        assert row["peak_bytes"] > row["planned_peak_bytes_eager"] > 16 * result["parameters"]
    assert result["contestants"][4]["attention"] == "dense"
    assert result["speed_over_dense_mask"] > 0
    assert "the largest that fits was not looked for" in done.stdout


@pytest.mark.slow
def test_the_check_of_a_gpu_goes_through_all_its_parts_where_little_is_installed(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HOOK.format(refused=refused()))
    script, path = ROOT / "experiments" / "benchmarks" / "gpu_check.py", tmp_path / "check.json"
    parts = [name for name in PARTS if name != "train"]  # which has a test of its own
    done = subprocess.run(
        [sys.executable, str(script), "--device", "cpu", "--out", str(path), "--only", *parts],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: found["ok"] for name, found in json.loads(path.read_text())["parts"].items()} == dict.fromkeys(
        parts, True
    )


def test_a_part_of_the_check_that_does_not_hold_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "_carried_out", lambda name, _: {"ok": name != "head", "seconds": 0.0})
    assert gpu_check.main(["--device", "cpu", "--out", str(tmp_path / "x.json"), "--only", "finite", "head"]) == 1
    assert "head: FAILED" in capsys.readouterr().out


def case(**changes):
    objective = BlockDiffusion(4, clip=Clip.atom, guard=Guard.force)
    usual = Case(ModelConfig(32, 2, 2, 2, vocabulary=40), objective, 16, 2, Recompute.none, False, 2, 1, None, 10**9)
    return replace(usual, **changes)


def test_forms_and_recomputation_cost_the_same_loss():
    """All contestants of one objective take the same steps."""
    ways = zip((Form.sdpa, Form.dense, Form.matmul), Recompute, strict=True)
    losses = [pass_cost.measure(case(form=form, recompute=way), False)["last_loss_nats"] for form, way in ways]
    assert losses == pytest.approx([losses[0]] * 3, rel=0.01)
    assert losses[0] == pytest.approx(math.log(40), abs=1)  # nothing is known yet; few tokens, of unequal weights


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4, 5, 6, 7, 100, 5000, 10**9])
def test_the_largest_micro_step_is_found_in_few_trials(most):
    tried = []
    assert largest_fitting(lambda n: tried.append(n) or n <= most) == min(most, train_speed.MOST)
    assert len(tried) == len(set(tried)) <= 2 * max(1, most.bit_length()) + 1


def contest(**changes):
    return replace(Contest("tiny", 64, 0, None, False, 2, 1, 80 * 10**9, 1e12), **changes)


def found(batch, **more):
    return {
        "batch": batch,
        "step_seconds": [1.0, 2.0],
        "peak_bytes": 10,
        "attention": "flex",
        "precision": "bf16",
        "compiled": True,
        "recompute": "none",
        "first_step_seconds": 9.0,
    } | more


def test_a_contestant_starts_at_the_largest_and_steps_down(monkeypatch):
    """On a card for 5 sequences, whose timed steps ask for more than the trials did."""
    monkeypatch.setattr(Case, "device", property(lambda _: pass_cost.Device.cuda))
    asked = []

    def in_process(case, fresh):
        asked.append((case.batch, fresh))
        return found(case.batch) if case.batch <= (4 if fresh else 5) else {"failed": OUT_OF_MEMORY}

    row = contest().result(CONTESTANTS[2], in_process)
    assert asked == [(1, False), (2, False), (4, False), (8, False), (6, False), (5, False), (5, True), (4, True)]
    assert (row["largest_micro_step"], row["batch"]) == (4, 4)
    assert row["clean_tokens_per_second"]["median"] == pytest.approx(4 * 64 * 0.75)
    with pytest.raises(RuntimeError, match="broken"):
        contest().result(CONTESTANTS[2], lambda *_: {"failed": "broken"})
    none = contest().result(CONTESTANTS[0], lambda *_: {"failed": OUT_OF_MEMORY})
    assert none["failed"] == f"{OUT_OF_MEMORY} at a micro-step of one sequence"


@pytest.mark.slow
def test_recomputation_is_chosen_by_the_plan():
    """The least that fits one sequence; as asked where it is asked."""
    chosen = {}
    whole = contest(context=512).case(CONTESTANTS[0])
    plans = {way: replace(whole, recompute=way).planned() for way in Recompute}
    assert plans[Recompute.none] > plans[Recompute.selective] > plans[Recompute.full]
    for way, planned in plans.items():
        fitting = math.ceil(planned / train_speed.ROOM)
        chosen[way] = contest(context=512, memory=fitting).case(CONTESTANTS[0]).recompute
    assert chosen == {way: way for way in Recompute}
    assert contest(recompute=Recompute.full).case(CONTESTANTS[0]).recompute is Recompute.full


@pytest.mark.slow
def test_one_that_fails_is_a_row(capsys):
    def in_process(case, fresh):
        if case.form is Form.dense:
            raise RuntimeError("no kernel\nand a long tale")
        return found(case.batch)

    around = {"peak": {"flops_per_second": 1e12, "source": "here"}, "machine": {"gpu": None}}
    result = train_speed.compete(contest(), around, in_process)
    *others, dense = result["contestants"]
    assert dense == {"contestant": train_table.DENSE, "failed": "RuntimeError: no kernel"}
    assert all("mfu_processed" in row for row in others)
    assert result["speed_over_dense_mask"] is None
    assert "failed: RuntimeError: no kernel" in train_table.report(result)
    capsys.readouterr()


def test_targets_are_those_of_one_h100():
    rows = [{"contestant": c.name, "mfu_processed": 0.47} for c in CONTESTANTS]
    result = {
        "machine": {"gpu": "NVIDIA H100 80GB HBM3"},
        "model": "2.5b",
        "context": 4096,
        "contestants": rows,
        "speed_over_dense_mask": 4.2,
    }
    said = train_table.targets(result)
    assert [line.rsplit(" ", 1)[1] for line in said] == ["missed", "missed", "met", "met", "met"]
    assert train_table.targets(result | {"model": "small"}) == []
    assert train_table.targets(result | {"machine": {"gpu": None}}) == []


def test_a_file_holds_the_models_of_a_machine(tmp_path):
    path = train_speed.place({"gpu": "NVIDIA H100 80GB HBM3", "cores": 8, "instructions": "AVX512"})
    assert path == Path("benchmarks/nvidia-h100-80gb-hbm3.json")
    assert train_speed.place({"gpu": None, "cores": 2, "instructions": "AVX512"}).name == "2-cores-avx512.json"
    path = tmp_path / path
    for model, n in (("tiny", 1), ("small", 2), ("tiny", 3)):
        train_speed.keep(path, {"model": model, "n": n})
    assert {name: m["n"] for name, m in train_speed.earlier(path).items()} == {"tiny": 3, "small": 2}
    path.write_text("[]")
    with pytest.raises(ValueError, match="type --out"):
        train_speed.earlier(path)


@pytest.mark.parametrize("words", [["model=tny"], ["--context", "0"], ["--recompute", "some"], ["--batch", "x"]])
def test_bad_words_exit_with_2(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.main(["train", *words])
    assert stopped.value.code == 2
    assert "error" in capsys.readouterr().err


def test_what_cannot_fit_is_refused_before_anything_is_made(monkeypatch, capsys):
    if torch.cuda.is_available():
        pytest.skip("the paper's size fits a GPU")
    monkeypatch.setattr(os, "sysconf", lambda name: 2**12 if name == "SC_PAGE_SIZE" else 2**20)  # 4 GiB
    monkeypatch.setattr(bench, "in_fresh_process", lambda function, *arguments: function(*arguments))
    assert bench.main(["train", "model=2.5b"]) == 2
    assert "type model=base or smaller" in capsys.readouterr().err
    row = contest(batch=4096, recompute=Recompute.none, memory=2**32).result(
        CONTESTANTS[0], lambda *_: pytest.fail("it was tried")
    )
    assert "planned to take" in row["failed"]

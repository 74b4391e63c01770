"""The command line, as typed."""

import itertools
import os
import shlex
import subprocess
import sys

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ablate.core.validation import UsageError
from experiments import run
from experiments.cli import compose, run_command
from tests import ROOT

RUN = [sys.executable, str(ROOT / "experiments" / "run.py")]


def started(*words, cwd, **environment):
    return subprocess.run(
        [*RUN, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ABLATE_CACHE": str(cwd / "text-cache"), **environment},
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("regime=ar_to_bidlm", ["regime=ar_to_bidlm", "wanted one of ar, ardllm", "type regime=ar_to_bidllm"]),
        ("corpus=sudoku", ["corpus=sudoku", "arithmetic", "type corpus="]),
        ("corpus=arithmetic corpus.digit=2", ["corpus.digit", "records, digits", "type corpus.digits="]),
        ("sead=1", ["sead", "type seed="]),
        ("seed=abc", ["seed", "Integer", "'abc'", "type seed=0"]),
        ("seed=-1", ["seed: wanted 0..", "got -1; try seed=0"]),
        ("corpus=arithmetic corpus.digits=9", ["corpus.digits: wanted 1..8", "got 9", "try corpus.digits=8"]),
        ("regime.stages.1.objective.attention=sideways", ["causal, full", "'sideways'"]),
        ("regime.stages.7.steps=3", ["regime.stages", "0, 1"]),
        ("regime.stages.0.objective.attention=full", ["Autoregressive", "one side only", "regime=bidllm"]),
        ("regime.stages.0.optimizer=keep", ["weights alone", "regime.stages.0.optimizer=reset"]),
        ("regime.stages.0.lr=-1", ["lr of a stage: wanted more than 0, got -1", "try regime.stages.0.lr=0.001"]),
        ("precision=fp8", ["auto, fp32, bf16", "type precision=auto"]),
        ("device=cuda", ["device=cuda", "type device=cpu"]),
        ("batch=64 accumulate=3", ["accumulate: wanted a divisor of batch=64, got 3"]),
        ("strategy=fsdp", ["strategy=fsdp", "type torchrun --nproc-per-node 2"]),
        ("strategy=ddp", ["strategy=ddp", "type torchrun --nproc-per-node 2"]),
        ("regime.stages.1.mask_warmup=${seed}", ["regime.stages.1.mask_warmup", "MaskWarmup"]),
        ("seed=${regime.name}", ["seed", "ar_to_bidllm"]),
        ("out='~nosuch/x'", ["out=~nosuch/x", "home folder of nobody", "type out=PATH"]),
        ("cache='~nosuch/x'", ["cache=~nosuch/x", "type cache=PATH"]),
        ("corpus=text corpus.folder='~nosuch/x'", ["corpus.folder=~nosuch/x", "type corpus.folder=PATH"]),
        ("-sc", ["'install'", "'query'", "type --help"]),
        ("-sc install=csh", ["csh", "type --help"]),
        ("init=hf:nowhere/x", ["nowhere/x: wanted the folder of a checkpoint", "that is not there; type ls "]),
        ("init=hf:.", ["config.json: wanted a checkpoint's config.json", "with its config.json and weights"]),
        ("model=hf:", ["model=hf:: wanted the folder of a checkpoint", "type model=hf:FOLDER"]),
        ("model.layers=1000000000", ["model.layers: wanted 1..4096", "try model.layers=4096"]),
        ("recompute_every=0", ["recompute_every: wanted 1..", "try recompute_every=1"]),
        ("processes=2", ["processes=2", "type torchrun --nproc-per-node 2"]),
        ("seed=0,1", ["type -m seed=0,1"]),
        ("-m seed=0,1 regime=ar,foo", ["regime=foo"]),
        ("seed", ["wanted key=value"]),
        ("--frobnicate", ["no such option", "--help"]),
        ("+extra=1", ["+extra=1"]),
        ("corpus.domain=general", ["a run sets both itself"]),
        ("corpus=text", ["corpus.folder"]),
        ("--cfg job regime=foo", ["regime=foo"]),
        ("regime.stages.0.share=1", ["shares", "1 or less, got 1.25926"]),
        ("regime.stages.0.share=0 regime.stages.1.share=0", ["at least one step", "regime.stages.0.share=1"]),
        ("base.share=0.5", ["base.share", "type base.steps=N"]),
        ("out=/proc/nothing/here", ["/proc/nothing"]),
        ("-m seed=0,1 out=both", ["both: wanted a folder for each job"]),
        ("-m model=tiny,small model.vocabulary=3", ["model.vocabulary=3"]),
        ("-m corpus=trace,text", ["corpus.folder"]),
        ("corpus=text corpus.folder=.", ["no usable document", "corpus.folder=PATH"]),
        ("-m seed=3,3", ["two jobs"]),
        ("-m seed=glob(*)", ["list of values"]),
        ("model=[tiny]", ["wanted one of tiny", "type model=tiny"]),
        ("+corpus=trace", ["type corpus=trace"]),
        ("seed=1180591620717411303424", ["seed: wanted 0.."]),
        ("threads=100000", ["threads: wanted 0..1024"]),
        ("budget.block_sizes=[1,1]", ["each once", "budget.block_sizes=[1,2,32]"]),
        ("model.rope_theta=nan", ["model.rope_theta: wanted a finite number", "got nan; try model.rope_theta=10000"]),
        ("regime.name=../x", ["regime.name", "names a folder"]),
        ("cache=/proc/foo/x", ["cache=/proc/foo/x", "type cache=PATH"]),
        ("--cfg job -m seed=0,1", ["--multirun"]),
        ("budget.tokens=-5", ["budget.tokens: wanted 1..1e+12, got -5", "try budget.tokens="]),
        ("model.heads=5", ["model.heads=5", "try model.heads=4"]),
        ("model=2.5b model.layers=400", ["e9 parameters", "GiB", "type model=base"]),
        ("model.vocabulary=3", ["model.vocabulary=3", "type model.vocabulary=0"]),
    ],
)
def test_bad_input_is_one_message_and_writes_nothing(words, said, typed, tmp_path):
    import torch

    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    code, out, error = typed(run_command.RUN, run.job, *words.split())
    assert (code, out) == (2, "")
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert all(part in error for part in said), error
    assert list(tmp_path.iterdir()) == []


def test_a_process_refuses_in_the_same_way(tmp_path):
    done = started("regime=ar_to_bidlm", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: regime=ar_to_bidlm: wanted one of ar, ardllm")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_group_and_what_it_holds(tmp_path):
    from experiments.cli.run_command import RUN as COMMAND
    from experiments.presets.registry import GROUPS

    shown = started("--help", cwd=tmp_path).stdout
    for group in COMMAND.groups:
        assert group in shown
        assert all(name in shown for name in GROUPS[group])
    assert list(tmp_path.iterdir()) == []


def test_cfg_job_prints_nested_overrides(tmp_path):
    import yaml

    done = started("--cfg", "job", "corpus=arithmetic", "corpus.digits=2", "regime.stages.1.steps=300", cwd=tmp_path)
    config = yaml.safe_load(done.stdout)
    assert config["corpus"]["digits"] == 2
    assert config["regime"]["stages"][1]["steps"] == 300
    assert config["regime"]["stages"][0]["steps"] == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_tab_completion(tmp_path):
    from experiments.presets.registry import REGIMES

    def complete(line):
        line = f"python {RUN[1]} {line}"
        return started("-sc", "query=bash", cwd=tmp_path, COMP_LINE=line, COMP_POINT=str(len(line))).stdout.split()

    assert set(complete("regime=ar")) == {f"regime={name}" for name in REGIMES if name.startswith("ar")}
    assert "corpus.operations=" in complete("corpus.op")


@pytest.mark.slow
def test_every_preset_builds():
    """Each name of each group composes into a run whose nouns accept it."""
    from experiments.cli.compose import jobs
    from experiments.cli.run_command import RUN
    from experiments.presets.registry import GROUPS

    RUN.register()
    for group in RUN.groups:
        for name in GROUPS[group]:
            (run,) = jobs(RUN, [f"{group}={name}"])
            assert sum(run.regime.steps(135)) == 135
    sweep = jobs(RUN, ["-m", "regime=ar,bidllm", "seed=0,1,2"])
    assert [(j.regime.name, j.seed) for j in sweep] == [(r, s) for r in ("ar", "bidllm") for s in (0, 1, 2)]


def test_every_change_of_objective_has_the_same_warmup():
    from experiments.presets.registry import REGIMES

    changes = set()
    for regime in REGIMES.values():
        previous = None
        for stage in regime.stages:
            if stage.objective != previous:
                changes.add((stage.warmup, stage.optimizer, stage.lr, stage.decay))
            else:
                assert (stage.warmup, stage.optimizer) == (0, "keep")
            previous = stage.objective
    assert len(changes) == 1
    for regime in REGIMES.values():  # outputs change what they predict at most once
        offsets = [stage.objective.offset for stage in regime.stages]
        assert sum(a != b for a, b in itertools.pairwise(offsets)) <= 1


@pytest.mark.slow
def test_a_sweep_runs_every_arm_and_compare_draws_them(tmp_path):
    tiny = [
        "budget=smoke",
        "budget.base_tokens=2000",
        "budget.tokens=4000",
        "corpus.operations=3",
        "batch=8",
        "threads=1",
    ]
    done = started("-m", "regime=ar_to_bidllm,bidllm", "seed=0,1", *tiny, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folders = sorted(p for p in (tmp_path / "runs").iterdir() if p.name != ".base")
    assert len(folders) == 4
    assert all((f / "training_dynamics.png").exists() for f in folders)
    compare = subprocess.run(
        [sys.executable, str(ROOT / "experiments" / "compare.py"), *map(str, folders)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert compare.returncode == 0, compare.stderr
    again = started("regime=bidllm", "seed=1", *tiny, cwd=tmp_path)
    assert "complete already" in again.stdout


@pytest.mark.slow
@settings(deadline=None, derandomize=True)
@given(st.text(st.sampled_from("ab/=,#[]{}() ü'\"$%:!\\~;&*"), min_size=1, max_size=12), st.booleans())
def test_a_place_of_any_name_is_taken_or_told_how_to_be_typed(name, rooted):
    assume("${" not in name)  # stands for another key's value
    assume(rooted or "/" in name or name == name.strip())  # blanks around a word that is no place mean nothing
    place = f"/{name}" if rooted else name
    run_command.RUN.register()
    try:
        (made,) = compose.jobs(run_command.RUN, [f"out={place}"])
    except UsageError as error:
        told = str(error)
        assert "\n" not in told
        before = ", or " if "several values" in told else "where it is one text type "
        (typed,) = shlex.split(told.rpartition(before)[2].removesuffix(" for one text with a comma"))
        (made,) = compose.jobs(run_command.RUN, [typed])
    assert made.out == place


def test_blanks_around_what_is_no_place_mean_nothing():
    run_command.RUN.register()
    made = compose.jobs(run_command.RUN, ["-m", "seed=0,1 ", "regime=ar ", "batch= 16"])
    assert [(run.seed, run.regime.name, run.batch) for run in made] == [(0, "ar", 16), (1, "ar", 16)]
    with pytest.raises(UsageError) as error:
        compose.jobs(run_command.RUN, ["out=/a\n"])
    assert "\n" not in str(error.value)

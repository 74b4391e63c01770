"""What `pip install .` leaves: every command, from an empty folder, out of a wheel and of nothing else."""

import os
import subprocess
import sys

import pytest

from experiments.__main__ import MODULES
from experiments.cli.words import quoted
from tests import ROOT
from tests.experiments.test_study import TINY

pytestmark = pytest.mark.slow
IGNORED = ("results", "runs", "docs", "tests", "build", "*.egg-info", ".git*", "__pycache__", ".*_cache")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that the wheel was installed into; built from a copy, so that the checkout is left as it is."""
    import shutil

    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*IGNORED))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(folder / "dist"), str(folder / "source")]
    subprocess.run([*pip, *build], check=True, cwd=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", str(folder / "there"), str(wheel)], check=True, cwd=folder
    )
    return folder / "there"


@pytest.fixture
def typed(installed, tmp_path):
    def run(*words, module=""):
        """`ablate WORD ...`, or `python -m MODULE WORD ...`, in an empty folder."""
        start = ["-m", module] if module else [str(installed / "bin" / "ablate")]
        surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
        return subprocess.run(
            [sys.executable, *start, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**surroundings, "PYTHONPATH": str(installed), "ABLATE_CACHE": str(tmp_path / ".cache")},
        )

    return run


def test_the_list_of_commands_and_a_wrong_name(typed):
    said = typed("--help").stdout
    assert all(f"  {name} " in said for name in MODULES)
    wrong = typed("runs")
    assert (wrong.returncode, "type ablate run" in wrong.stderr) == (2, True)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_command_says_what_it_does(name, typed, tmp_path):
    done = typed(name, "--help")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 3
    assert list(tmp_path.iterdir()) == []


def test_a_run_by_either_name(typed, installed, tmp_path):
    words = [*TINY, "regime=bidllm", "seed=1"]
    first = typed("run", *words, "out=run")
    assert first.returncode == 0, first.stderr
    assert {"records.parquet", "manifest.json", "training_dynamics.png"} <= {
        p.name for p in (tmp_path / "run").iterdir()
    }
    again = typed(*words, "out=run", module="experiments.run")
    assert "complete already" in again.stdout + again.stderr
    by_path = subprocess.run(
        [sys.executable, str(installed / "experiments" / "run.py"), *words, "out=run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert "complete already" in by_path.stdout + by_path.stderr, by_path.stderr


def test_a_study_and_a_sweep_start_their_runs(typed, tmp_path):
    words = f"words=[{','.join(map(quoted, TINY))}]"
    done = typed("study", "study=rates", "study.name=tiny", "only=[trace-ar]", "study.seeds=[1]", words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "results" / "tiny" / "records.parquet").exists()
    done = typed("sweep", "sweep=lr", "regime=bidllm", "trials=1", "seeds=[100]", *TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "results" / "lr" / "trials.parquet").exists()


def test_figures_of_the_papers_are_drawn_and_the_lack_of_others_is_said(typed, tmp_path):
    done = typed("figures")
    assert done.returncode == 0, done.stderr
    assert "not part of the installed package; type --results FOLDER" in done.stderr
    drawn = {path.name for path in (tmp_path / "figures" / "out").iterdir()}
    assert drawn == {
        f"{name}.{kind}" for name in ("paper_training_dynamics", "paper_warmup") for kind in ("pdf", "png")
    }
    assert typed("figures", "--results", str(ROOT / "results"), "verdicts").returncode == 0


def test_data_lie_beside_the_code(installed):
    for path in ("experiments/presets/predictions.yaml", "experiments/presets/renamed_fingerprints.csv"):
        assert (installed / path).stat().st_size
    assert (installed / "experiments" / "hf_export" / "modeling_ablate.py").exists()
    assert len([*(installed / "figures" / "paper").glob("*.csv")]) == 2

"""Every command, and every kind of child that there is, started in a folder whose modules must not run."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import MODULES
from tests import ROOT
from tests.experiments.test_study import TINY
from tests.packaging.test_search_path import console, started
from tests.text.prose import prose


def words_of(command: str, way: str, folder: Path) -> list[str]:
    """How a command is started, Python's own word first."""
    module = MODULES[command]
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if way == "console":
        return [*console(folder)[:-1], command]
    return [sys.executable, str(path)] if way == "path" else [sys.executable, "-m", module]


def unharmed(folder: Path, done: subprocess.CompletedProcess[str], code: int = 0) -> None:
    assert not (folder / "ran").exists(), (folder / "ran").read_text()
    assert done.returncode == code, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", MODULES)
def test_help_of_every_command(command, hostile):
    """By its path, which each script sees to by itself; the other ways have one beginning for all commands."""
    done = started([*words_of(command, "path", hostile), "--help"], hostile)
    unharmed(hostile, done)
    assert done.stdout


@pytest.mark.slow
def test_figures_by_name(hostile):
    unharmed(hostile, started([*words_of("figures", "name", hostile), "nosuch"], hostile), 2)


@pytest.mark.slow
def test_figures_drawn_by_a_pool(hostile):
    """Two of them that need no rows; they are written into the checkout's own folder of figures, or into this one."""
    names = ["paper_training_dynamics", "paper_warmup"]
    unharmed(hostile, started([*words_of("figures", "path", hostile), *names], hostile))


@pytest.mark.slow
def test_the_folder_as_data_tokenised_by_workers(hostile):
    for i in range(12):
        (hostile / f"{i}.txt").write_text(prose(i), encoding="utf-8")
    words = ["corpus=text", "corpus.folder=.", "corpus.duplicates=exact", "corpus.workers=2"]
    other = [word for word in TINY if not word.startswith("corpus")]
    general = hostile.parent / "general"
    general.mkdir()
    for i in range(100, 112):
        (general / f"{i}.txt").write_text(prose(i), encoding="utf-8")
    words += [
        f"corpus.general={general}",
        "corpus.length=32",
        "corpus.answer=8",
        f"corpus.cache={hostile.parent / 'cache'}",
        "regime=ar",
    ]
    places = [
        f"corpus.cache={hostile.parent / 'cache'}",
        f"out={hostile.parent / 'run'}",
        f"cache={hostile.parent / 'base'}",
        "loaders=1",
    ]
    done = started(
        [sys.executable, str(ROOT / "experiments" / "run.py"), *words, *other, *places, "loaders=1"], hostile
    )
    unharmed(hostile, done)
    assert (hostile.parent / "run" / "records.parquet").exists()


@pytest.mark.slow
def test_a_study_of_two_processes(hostile):
    words = ["study=regimes", "study.name=hostile", "study.predictions=[]", "study.seeds=[1]", "study.cells=[]"]
    words += ["only=[trace]", "words=[" + ",".join(f"'{word}'" for word in TINY[1:]) + "]", "workers=2"]
    done = started([*words_of("study", "name", hostile), *words], hostile)
    unharmed(hostile, done)
    assert list((hostile / "results").rglob("records.parquet"))


@pytest.mark.slow
def test_a_sweep_of_two_workers(hostile):
    words = [*TINY, "regime=bidllm", "sweep=lr", "trials=2", "workers=2", "seeds=[100]"]
    done = started([*words_of("sweep", "console", hostile), *words], hostile)
    unharmed(hostile, done)
    assert "2 complete" in done.stdout


SPAWNED = """
import json, sys
from dataclasses import dataclass

def double(value):
    return 2 * value

if __name__ == "__main__":
    from ablate.core.child_processes import spawning
    from ablate.text.process_pool import pool
    from ablate.text.tokenizer_check import fault_of
    from ablate.training.data_feed import DataFeed, loader
    import synthetic_data
    corpus = synthetic_data.make("trace", values=4, operations=3, new_operators=4, general_operators=2)
    with pool(2) as workers:
        print(*workers.each(len, ["a", "bc"]))
    print(len(list(loader([DataFeed(corpus, 0, 4, 1, 0, 3)], workers=2))))
    with spawning().Pool(1) as processes:
        print(processes.map(double, [1, 2]))
    print(fault_of("{}")[:7])
"""


@pytest.mark.slow
def test_children_of_a_script_that_uses_the_library(hostile, tmp_path_factory):
    """A script of another folder, started here: nothing has taken this folder off its children's path for it."""
    script = tmp_path_factory.mktemp("theirs") / "script.py"
    script.write_text(SPAWNED)
    done = started([sys.executable, str(script)], hostile)
    unharmed(hostile, done)
    assert done.stdout.split("\n")[:4] == ["1 2", "3", "[2, 4]", "Model m"]

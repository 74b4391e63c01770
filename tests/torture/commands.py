"""The smallest command of each kind: what it finds, what it does, and what it must have left when it has ended."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console

from ablate.core import records
from ablate.studies.design import Setting, Study
from ablate.studies.outcomes import QUESTIONS
from ablate.studies.search_space import Choices, Space
from ablate.text import dataset_build, sources
from ablate.training import checkpoint
from ablate.training.base_model import base_weights
from ablate.training.resolution import resolve
from ablate.training.run_config import Run
from ablate.training.train import train
from experiments.cli.compose import jobs
from experiments.cli.entry import main
from experiments.cli.run_command import RUN
from experiments.presets.registry import GROUPS
from experiments.presets.search_spaces import BOTH
from experiments.study import STUDY
from experiments.sweep import SWEEP, gathered
from tests.experiments.test_study import TINY
from tests.text.prose import content, fill
from tests.torture.operations import Operations
from tests.torture.warm import Ended, do, run_script

QUIET = Console(quiet=True)
# Twelve steps in two stages after a base model of three: three checkpoints
WORDS = [word for word in TINY if not word.startswith("budget")] + [
    "regime=ar_to_bidllm",
    "device=cpu",
    "draw=false",
    "budget.base_tokens=200",
    "budget.tokens=800",
    "budget.evaluations=2",
    "budget.questions=1",
    "budget.contexts=1",
    "budget.block_sizes=[1]",
]
REGIMES = ("ar_to_bidllm", "ar_to_block")
PRESETS: dict[str, Any] = {
    # of two arms that leave one trunk
    "study": Study("tiny", "?", [Setting(n, [f"regime={n}"]) for n in REGIMES], [1], words=WORDS, fork=True),
    "sweep": Space("tiny", "?", [Choices("lr", [0.001, 0.002], BOTH)]),
}
State = dict[str, Any]


@dataclass
class Command:
    """A command in a folder. prepare: lays what it finds there; go: in a process of its own; state: what it left.

    share: of the cases of a part that a quick command is tried in. found: the part of what it left that it reads, or
    all.
    """

    name: str
    prepare: Callable[[Path], None]
    go: Callable[[Path], None]
    state: Callable[[Path], State]
    share: float = 1
    found: Callable[[Path], State] | None = None

    def typed(self, place: Path, ready: Callable[[], None] = lambda: None) -> Ended:
        """Typed once, to its end."""
        return do(self.work(place), output_of(place), ready)

    def work(self, place: Path) -> Callable[[], None]:
        def carry_out() -> None:
            os.chdir(place)
            self.go(place)

        return carry_out

    @functools.cached_property
    def calm(self) -> tuple[State, list[str], float]:
        """What it leaves where nothing happens to it, its operations on files, and its seconds."""
        with tempfile.TemporaryDirectory(prefix="torture-calm-") as folder:
            place = self.laid(Path(folder) / "calm")
            seen = Operations(place, log=Path(folder) / "operations")
            begun = time.monotonic()
            ended = self.typed(place, seen.begin)
            assert ended.code == 0, ended.error
            return self.state(place), Path(folder, "operations").read_text().splitlines(), time.monotonic() - begun

    def laid(self, place: Path) -> Path:
        """A new folder with what it finds."""
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        self.prepare(place)
        return place

    def require_unharmed(self, place: Path, wanted: Callable[[], State] = dict) -> None:
        """Types it once more. Raises AssertionError unless it ends well and has left what it leaves undisturbed, apart
        from what is wanted else."""
        ended = self.typed(place)
        assert ended.code == 0, f"the same command again: {ended.error}"
        require_equal(self.state(place), self.calm[0] | wanted())


def output_of(place: Path) -> Path:
    """Where what a command says is kept: beside its folder, so that it finds the folder as it should."""
    return place.with_name(f"{place.name}.said")


def require_equal(found: State, wanted: State) -> None:
    """Raises AssertionError that names what differs."""
    differing = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
    shown = [f"{key}: wanted {str(wanted.get(key))[:90]}, got {str(found.get(key))[:90]}" for key in differing[:3]]
    assert not differing, f"{len(differing)} differ: {'; '.join(shown)}"


@functools.cache
def tiny() -> Run:
    """The run of the words, resolved."""
    RUN.register()
    return resolve(jobs(RUN, WORDS)[0])


def add_presets() -> None:
    """The tiny study and sweep can be typed from now on. For forks: other tests look through all presets."""
    for group, preset in PRESETS.items():
        GROUPS[group]["tiny"] = preset


def compose(register: Callable[[Any], None]) -> None:
    """Composes the configs that the commands ask for, which Hydra then keeps for the forks."""
    with patch.dict(GROUPS["study"]), patch.dict(GROUPS["sweep"]):
        add_presets()
        _compose(register)


def _compose(register: Callable[[Any], None]) -> None:
    for command in (RUN, STUDY, SWEEP):
        register(command)
    text = [word for word in TEXT_WORDS if not word.startswith(("corpus.folder", "corpus.general"))]
    for words in (WORDS, text, *([*WORDS, *arm.words] for arm in PRESETS["study"].arms)):
        jobs(RUN, list(words))
    jobs(STUDY, STUDY_WORDS)
    jobs(SWEEP, gathered(SWEEP_WORDS))


@functools.cache
def practise() -> None:
    """One run in this process, so that all it loads is there for the forks; its base model is kept for them."""
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    bases().mkdir()
    for study in ("study", "sweep"):
        __import__(f"experiments.{study}_runner")
    train(replace(tiny(), out=str(folder / "run"), cache=str(bases())), QUIET)
    shutil.rmtree(folder)


@functools.cache
def bases() -> Path:
    """A folder of this process with the base model of the tiny run."""
    home = tempfile.TemporaryDirectory(prefix="torture-base-")
    _HOMES.append(home)
    return Path(home.name) / "base"


_HOMES: list[tempfile.TemporaryDirectory[str]] = []


def lay_base(place: Path) -> None:
    practise()
    shutil.copytree(bases(), place / "base")


def state_of_run(folder: Path) -> State:
    """Every tensor of the last checkpoint, its plain values, records, config and the names of what else lies there."""
    path = checkpoint.final(folder)
    plain = checkpoint.load(path / checkpoint.PLAIN)
    manifest = json.loads((folder / "manifest.json").read_text())
    fixed = ("status", "initial_weights", "config_fingerprint", "data", "source")
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*")]
    return {
        **{f"tensor {name}": value for name, value in tensors(path).items()},
        **{f"plain {name}": value for name, value in plain.items() if name != "seconds"},
        **{f"manifest {name}": manifest[name] for name in fixed},
        "records": frame_hash(records.read(folder)),
        "config": without_places((folder / "config.yaml").read_text()),
        "files": sorted(name for name in names if not name.startswith("checkpoints/")),
        "remains": remains(folder),
    }


def tensors(path: Path) -> State:
    """SHA-256 of the bytes of every tensor of a checkpoint, by name: weights and the optimizer's state."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    known = FileSystemReader(path).read_metadata().state_dict_metadata
    room = {name: torch.empty(part.size, dtype=part.properties.dtype) for name, part in known.items()}  # type: ignore[union-attr]
    checkpoint.fill(path, room)
    return {name: hashlib.sha256(value.numpy().tobytes()).hexdigest()[:16] for name, value in room.items()}


def remains(folder: Path) -> list[str]:
    """Hidden files but locks and logs: what a dead process has left."""
    fixed = {".lock", ".claims", ".logs", ".base"}
    return sorted(
        p.relative_to(folder).as_posix()
        for p in folder.rglob(".*")
        if p.name not in fixed | {".metadata"} and not p.name.endswith(".lock")
    )


def without_places(config: str) -> list[str]:
    return [line for line in config.splitlines() if not line.startswith(("out:", "cache:", "fork:"))]


def frame_hash(frame: Any) -> str:
    return hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()[:16]


def state_of_base(place: Path) -> State:
    """The key beside the weights is told and not read: the folder's name is its hash."""
    (folder,) = (path for path in (place / "base").iterdir() if path.is_dir())
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    recorded = json.loads((folder / "base.json").read_text())["weights"]
    return {"weights": weights, "recorded": recorded, "name": folder.name, "remains": remains(place)}


def build_base(place: Path) -> None:
    """What run.py does first, alone."""
    sys.argv = ["run.py", *run_words(place)]
    main(RUN, lambda runs: base_weights(*runs, QUIET))


def build_text(place: Path) -> None:
    """What a command does with a corpus of real text before anything else."""
    sources.BUNDLE, dataset_build.SMALL = 3000, 0  # in pieces, as large texts are
    sys.argv = ["run.py", *TEXT_WORDS]
    main(RUN, lambda runs: runs[0].corpus.check())


def lay_text(place: Path) -> None:
    fill(place / "new", 0, 4), fill(place / "general", 100, 3)


def state_of_text(place: Path) -> State:
    found = {name: hashlib.sha256(data).hexdigest()[:16] for name, data in content(place / "cache").items()}
    return {**found, "remains": remains(place)}


def state_of_study(place: Path) -> State:
    return {**found_by_study(place), **state_of_runs(place), "remains": remains(place)}


def state_of_runs(place: Path) -> State:
    runs = sorted(path.parent for path in (place / "runs").glob("[!.]*/manifest.json"))
    assert runs, f"{place}: no run lies here"
    return {f"{path.name} {key}": value for path in runs for key, value in state_of_run(path).items()}


def found_by_pack(place: Path) -> State:
    """What a finished run vouches for: it does not read its checkpoint again."""
    found: State = {}
    for path in sorted((place / "runs").glob("trace-*")):
        found[f"{path.name} records"] = frame_hash(records.read(path))
        found[f"{path.name} config"] = without_places((path / "config.yaml").read_text())
    return found


def found_by_study(place: Path) -> State:
    folder = place / "results" / "tiny"
    manifest = json.loads((folder / "manifest.json").read_text())
    runs = {name: [run["initial_weights"], run["data"]] for name, run in manifest["runs"].items()}
    return {
        "rows": frame_hash(records.read(folder, records.STUDY)),
        "questions": frame_hash(records.read(folder / "questions.parquet", QUESTIONS)),
        **{f"manifest {name}": manifest[name] for name in ("identity", "seeds", "predictions", "spent")},
        "runs": runs,
    }


def state_of_sweep(place: Path) -> State:
    return {**found_by_sweep(place), **state_of_runs(place), "remains": remains(place)}


def found_by_sweep(place: Path) -> State:
    """Trials are known by their values: a dead one's number is not given again."""
    import pandas as pd

    folder = place / "results" / "tiny"
    trials = pd.read_parquet(folder / "trials.parquet")
    rows = sorted(trials.drop(columns="trial").itertuples(index=False, name=None))
    return {
        "rows": [str(row) for row in rows],
        "importance": frame_hash(pd.read_parquet(folder / "importance.parquet")),
    }


def lay_finished(place: Path) -> None:
    shutil.copytree(kept_run(), place, dirs_exist_ok=True)


@functools.cache
def kept_run() -> Path:
    """A folder of this process with a finished run and its base model."""
    _HOMES.append(tempfile.TemporaryDirectory(prefix="torture-run-"))
    place = Path(_HOMES[-1].name) / "place"
    place.mkdir()
    lay_base(place)
    ended = do(lambda: run_script("run.py", run_words(place)), output_of(place))
    assert ended.code == 0, ended.error
    return place


def run_words(place: Path) -> list[str]:
    return [*WORDS, f"out={place}/run", f"cache={place}/base"]


def state_of_export(place: Path) -> State:
    found = {name: hashlib.sha256(data).hexdigest()[:16] for name, data in content(place / "out").items()}
    return {**found, "remains": remains(place)}


def state_of_evaluation(place: Path) -> State:
    rows = records.read(place / "run" / "evaluation.parquet", records.EVALUATION)
    return {"rows": frame_hash(rows.drop(columns="seconds")), "remains": remains(place)}


def state_of_writing(place: Path) -> State:
    """The order of what was written, as it was drawn."""
    drawn = {name: hashlib.sha256((place / name).read_bytes()).hexdigest()[:16] for name in ("order.png", "order.pdf")}
    return {**drawn, "remains": remains(place)}


def lay_bases(place: Path) -> None:
    practise()
    shutil.copytree(bases(), place / "runs" / ".base")


BOTH_PLACES = ["runs=runs", "results=results"]
TEXT_WORDS = [
    *(word for word in WORDS if not word.startswith("corpus")),
    "corpus=text",
    *(f"corpus.{word}" for word in ("folder=new", "general=general", "tokens=300", "length=16", "answer=4")),
    *("corpus.workers=1", "corpus.cache=cache", "out=run", "cache=base"),
]
EVALUATE_WORDS = ["run", "block_sizes=[1,2]", "paces=[all]", "questions=4", "draw=false"]
GENERATE_WORDS = ["run", "questions=1", "trace=order.png"]
SEEDS = "seed=0,1"
PACK_WORDS = ["-m", *WORDS, SEEDS, "pack=2", "out=runs/*", "cache=base"]
STUDY_WORDS = ["study=tiny", *BOTH_PLACES]
SWEEP_WORDS = [
    "sweep=tiny",
    "sampler=grid",
    "seeds=[100]",
    *(w for w in WORDS if not w.startswith("draw")),
    *BOTH_PLACES,
]
COMMANDS = {
    command.name: command
    for command in (
        Command(
            "run",
            lay_base,
            lambda place: run_script("run.py", run_words(place)),
            lambda place: state_of_run(place / "run"),
        ),
        Command(
            "pack",
            lambda place: None,
            lambda place: run_script("run.py", PACK_WORDS),
            lambda place: {**state_of_runs(place), "remains": remains(place)},
            1 / 3,
            found_by_pack,
        ),
        Command("base", lambda place: None, build_base, state_of_base),
        Command("text", lay_text, build_text, state_of_text),
        Command(
            "study",
            lambda place: None,
            lambda place: run_script("study.py", STUDY_WORDS),
            state_of_study,
            1 / 3,
            found_by_study,
        ),
        Command(
            "sweep",
            lambda place: None,
            lambda place: run_script("sweep.py", SWEEP_WORDS),
            state_of_sweep,
            1 / 3,
            found_by_sweep,
        ),
        Command(
            "export",
            lay_finished,
            lambda place: run_script("export.py", [f"{place}/run", f"out={place}/out"]),
            state_of_export,
        ),
        Command(
            "evaluate",
            lay_finished,
            lambda place: run_script("evaluate.py", EVALUATE_WORDS),
            state_of_evaluation,
            1 / 3,
        ),
        Command(
            "generate",
            lay_finished,
            lambda place: run_script("generate.py", GENERATE_WORDS),
            state_of_writing,
            1 / 3,
        ),
    )
}

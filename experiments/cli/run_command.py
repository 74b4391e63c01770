"""The command run.py, which studies and sweeps compose too: what it takes, what it checks, its help."""

from __future__ import annotations

from pathlib import Path

from ablate.core.validation import UsageError, path_of
from ablate.training.pack import packs
from ablate.training.run_config import Run
from ablate.training.run_manifest import read_manifest
from experiments.cli.command import Command
from experiments.cli.help_text import groups, keys
from experiments.cli.places import require_place


def run_help() -> str:
    """What --help prints: the groups and what they hold, the plain keys, examples."""
    lines = ["One arm of the experiment on one seed: base model, stages, probes, records, figure.", ""]
    typed = " ".join(f"[{group}=NAME]" for group in RUN.groups)
    lines += [f"  python experiments/run.py {typed} [key=value ...]", ""]
    lines += [*groups(*RUN.groups), keys(Run)]
    lines += [
        "Every field of a config is a key too: regime.stages.1.steps=300  corpus.checksum=7  base.lr=1e-3",
        "init=hf:FOLDER           a checkpoint as base model, with its shape and tokenizer; see docs/checkpoints.md",
        "model=hf:FOLDER          its shape alone, likewise model=PATH/config.json",
        "-m regime=a,b seed=0,1   every combination, one after the other",
        "-m seed=0,1,2,3 pack=4   runs that differ in seeds or rates alone, together as one network",
        "fork=RUN keep_at=[STEP]  leave a run where it has trained the common stages; keep checkpoints to leave at",
        "torchrun --standalone --nproc-per-node 2 experiments/run.py ...   several processes; docs/processes.md",
        "--cfg job                print the configuration and stop",
        '-sc install=bash         print tab completion for: eval "$(python experiments/run.py -sc install=bash)"',
    ]
    return "\n".join(lines)


def check_runs(asked: list[Run]) -> list[Run]:
    """Every run asked for, every automatic choice made, before the first one writes anything."""
    from ablate.training.resolution import resolve  # loads torch

    asked = [resolve(run) for run in asked]
    for run in asked:
        read_manifest(run)
    for run in asked:
        require_place(run.folder, "out")
        require_place(path_of("cache", run.cache), "cache")
    folders = [str(run.folder) for run in asked]
    for folder in folders:
        if folders.count(folder) > 1:
            raise UsageError(
                f"{folder}: wanted a folder for each job of the sweep, got two jobs for it; name each "
                "value once, and leave out= out or type out=FOLDER/*"
            )
    return asked


SCRIPT = Path(__file__).resolve().parent.parent / "run.py"  # what studies and sweeps start
RUN = Command("run.py", lambda: Run, ("regime", "corpus", "model", "budget", "base"), run_help, check_runs, packs)
# Modules that every run needs, for studies and sweeps to load once
LOADED = ("experiments.run", "experiments.cli.entry", "ablate.training.train", "hydra", "pandas", "pyarrow.parquet")

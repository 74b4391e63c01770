"""The base model that every arm of a seed starts from: a checkpoint, or trained and cached under a fingerprint of all
that determines it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ablate.compute.distributed import from_first
from ablate.core.corpus import Domain, Split
from ablate.core.manifest import load
from ablate.core.provenance import description, packages, source_hash
from ablate.core.storage import Damaged, describe, digest, lock, whole_folder
from ablate.core.validation import path_of
from ablate.model.hf_weights import folder_of, read_weights
from ablate.model.tensor_files import write_safetensors
from ablate.training.base_training import BaseModel, finite, train_bases
from ablate.training.checkpoint import weights_hash
from ablate.training.run_config import Run
from ablate.training.run_manifest import RunError

WEIGHTS = "model.safetensors"
POLL = 0.5  # seconds between looks at a base that another run trains


def base_weights(run: Run, console: Console) -> Mapping[str, Tensor]:
    """Weights of the run's base model: a checkpoint's, read as they are asked for, or from the cache if whole and
    current, else trained and put there. Raises RunError where training diverged.

    Of several runs that need the same base one trains it and the others wait; all processes of a run train it together.
    """
    (found,) = base_models([run], console)
    if isinstance(found, RunError):
        raise found
    return found.weights


def base_models(runs: Sequence[Run], console: Console) -> list[BaseModel | RunError]:
    """The same of runs that train together, as their bases then do; an error in place of one that diverged.

    Where the cache lacks one, all are trained: in another pack the others would round otherwise.
    """
    if runs[0].init:
        return [
            BaseModel(read_weights(folder_of(run.init), run.model, run.vocabulary, run.init_pickle)) for run in runs
        ]
    first = runs[0].ranks[0] == 0
    places = [path_of("cache", run.cache) / digest(base_key(run))[:16] for run in runs]
    wanted = dict(zip(places, runs, strict=True))  # runs of one seed have one base
    with ExitStack() as claims:
        for folder in sorted(wanted):  # in one order, so that two packs never wait for each other
            claims.enter_context(_claim(folder, first))
        found: dict[Path, Any] = {folder: _read(folder, console) if first else None for folder in wanted}
        if from_first(any(base is None for base in found.values())):
            trained = dict(zip(wanted, train_bases(list(wanted.values()), console), strict=True))
            for folder, base in trained.items():
                if isinstance(base, RunError):
                    found[folder] = found[folder] or base
                elif first and found[folder] is None:
                    _write(folder, base, base_key(wanted[folder]), len(wanted))
                    found[folder] = base
    from_first(None)  # by now they lie there
    return [found[place] or BaseModel(load_file(place / WEIGHTS)) for place in places]


def _claim(folder: Path, first: bool) -> AbstractContextManager[Any]:
    """A lock on the base's folder, held by the first process. All ask for news together while another run has it: one
    that waited alone would be given up by the others."""
    told = False
    while True:
        handle = lock(folder.with_suffix(".lock")) if first else None
        if from_first(handle is not None):
            return handle or nullcontext()
        if first and not told:
            print(f"waiting for another process that trains {folder}", flush=True)
        told = True
        time.sleep(POLL)


def base_key(run: Run) -> dict[str, Any]:
    """Everything that determines the base model of a resolved run."""
    if run.init:
        return {"init": run.origin, "rows": run.vocabulary}
    return {
        "corpus": run.corpus_for(Domain.general, Split.train).fingerprint(),
        "length": run.corpus.length,
        "budget": run.base_steps,
        **({"looks": [run.budget.contexts, run.budget.block_sizes[:1], run.grids[:1]]} if run.base.until else {}),
        **{name: describe(getattr(run, name)) for name in ("model", "base", "seed", "batch", "accumulate", "device")},
        "numerics": [run.precision, run.threads, run.compile, *([run.processes] if run.processes > 1 else [])],
        "machine": [torch.backends.cpu.get_cpu_capability(), description()["gpu"]],
        "packages": packages(),
        "source": source_hash(run.corpus),
    }


def _write(folder: Path, base: BaseModel, key: dict[str, Any], pack: int) -> None:
    with whole_folder(folder) as fresh:
        write_safetensors(fresh / WEIGHTS, {name: tensor.clone() for name, tensor in base.weights.items()})
        told = {"weights": weights_hash(base.weights), "known": base.known, "pack": pack, "key": key}
        (fresh / "base.json").write_text(json.dumps(told, indent=1))


def _read(folder: Path, console: Console) -> BaseModel | None:
    """The cached base; None if there is none or if it is not what was written."""
    if not folder.exists():
        return None
    try:
        told = load(folder / "base.json", {"weights": str, "known": {...: object}})
        weights = load_file(folder / WEIGHTS)
        if weights_hash(weights) == told["weights"] and finite(weights):
            return BaseModel(weights, told["known"])
    except (OSError, Damaged, SafetensorError):
        pass
    console.print(f"{folder}: cached base model is damaged; training it again", style="yellow")
    return None

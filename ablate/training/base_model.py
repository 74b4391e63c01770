"""The AR base model that every arm of a seed starts from: a checkpoint, or trained and cached under a fingerprint of
all that determines it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ablate.compute.device import Compile, Strategy, attention_form
from ablate.compute.distributed import from_first
from ablate.compute.execution import copy_part, prepare, shard, whole_weights
from ablate.compute.train_step import StepResult
from ablate.core.corpus import Domain, Split
from ablate.core.manifest import load
from ablate.core.provenance import description, packages, source_hash
from ablate.core.storage import Damaged, describe, digest, lock, whole_folder
from ablate.core.validation import path_of
from ablate.model.hf_weights import folder_of, read_weights
from ablate.model.tensor_files import write_safetensors
from ablate.model.transformer import Transformer, initialise
from ablate.training.checkpoint import weights_hash
from ablate.training.data_feed import DataFeed
from ablate.training.lightning_module import TrainingModule, fit
from ablate.training.progress import ProgressCallback, TrainingCounters, require_finite
from ablate.training.run_config import Run
from ablate.training.run_manifest import RunError

Weights = dict[str, Tensor]
POLL = 0.5  # seconds between looks at a base that another run trains


def build_network(run: Run) -> Transformer:
    """The network of a resolved run, sharded where its strategy says so; weights initialised from its seed, or not at
    all where a checkpoint's follow."""
    form = attention_form(run.device, run.precision)
    vocabulary, sharded = run.corpus.vocabulary, run.strategy is Strategy.fsdp
    with torch.device("meta" if sharded or run.init else "cpu"):
        network = Transformer(run.model, run.vocabulary, vocabulary.mask_id, form, tokens=len(vocabulary))
    prepare(network, run.compile is Compile.always, run.recompute, run.recompute_every)
    if sharded:
        shard(network, run.device, run.precision)
    elif run.init:
        network.to_empty(device="cpu")
        network.fill_tables()
    if not run.init:
        initialise(network, run.seed, copy_part)
    return network


def base_weights(run: Run, console: Console) -> Mapping[str, Tensor]:
    """Weights of the run's base model: a checkpoint's, read as they are asked for, or from the cache if whole and
    current, else trained and put there.

    Of several runs that need the same base one trains it and the others wait; all processes of a run train it together.
    """
    if run.init:
        return read_weights(folder_of(run.init), run.model, run.vocabulary, run.init_pickle)
    key = base_key(run)
    folder = path_of("cache", run.cache) / digest(key)[:16]
    first = run.ranks[0] == 0
    with _claim(folder, first):
        weights = _read(folder, console) if first else None
        if from_first(weights is None):
            trained = _train(run, console)
            if first:
                weights = trained
                _write(folder, weights, key)
    from_first(None)  # by now it lies there
    return load_file(folder / "model.safetensors") if weights is None else weights


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
        **{name: describe(getattr(run, name)) for name in ("model", "base", "seed", "batch", "accumulate", "device")},
        "numerics": [run.precision, run.threads, run.compile, *([run.processes] if run.processes > 1 else [])],
        "machine": [torch.backends.cpu.get_cpu_capability(), description()["gpu"]],
        "packages": packages(),
        "source": source_hash(run.corpus),
    }


def _train(run: Run, console: Console) -> Weights:
    network, steps = build_network(run), run.base_steps
    corpus = run.corpus_for(Domain.general, Split.train)
    feed = DataFeed(corpus, run.seed, run.batch, run.accumulate, 0, steps, *run.ranks)
    module = TrainingModule(network, run.base, steps, 0, corpus.vocabulary)
    counters = TrainingCounters()

    def look(result: StepResult, trainer: Any) -> None:
        loss = trainer.strategy.reduce(result.loss, reduce_op="sum")
        require_finite(f"base model, step {counters.step}", loss, result.gradient_norm, "base.lr", run.base.lr)

    size = run.batch * corpus.length
    watch = ProgressCallback("base model", counters, run.budget.every, frozenset({steps}), size, look, console)
    fit(module, feed, watch, run)
    weights = whole_weights(network, run.ranks[0] == 0)
    if not from_first(_finite(weights)):  # the last step's loss is that of the weights before it
        raise RunError(
            f"base model, step {steps}: weights that are no numbers: training diverged; type a smaller base.lr than "
            f"{run.base.lr:g}, and out=PATH"
        )
    return weights


def _finite(weights: Weights) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in weights.values())


def _write(folder: Path, weights: Weights, key: dict[str, Any]) -> None:
    with whole_folder(folder) as fresh:
        write_safetensors(fresh / "model.safetensors", {name: tensor.clone() for name, tensor in weights.items()})
        (fresh / "base.json").write_text(json.dumps({"weights": weights_hash(weights), "key": key}, indent=1))


def _read(folder: Path, console: Console) -> Weights | None:
    """The cached weights; None if there are none or if they are not what was written."""
    if not folder.exists():
        return None
    try:
        recorded = load(folder / "base.json", {"weights": str})["weights"]
        weights = load_file(folder / "model.safetensors")
        if weights_hash(weights) == recorded and _finite(weights):
            return weights
    except (OSError, Damaged, SafetensorError):
        pass
    console.print(f"{folder}: cached base model is damaged; training it again", style="yellow")
    return None

"""The AR base model that every arm of a seed starts from: a checkpoint, or trained and cached under a fingerprint of
all that determines it."""

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
from ablate.training.progress import ProgressCallback, TrainingCounters, divergence
from ablate.training.run_config import Run
from ablate.training.run_error import RunError

Weights = dict[str, Tensor]
POLL = 0.5  # seconds between looks at a base that another run trains


def build_network(run: Run) -> Transformer:
    """The network of a resolved run, sharded where its strategy says so; weights initialised from its seed, or not at
    all where a checkpoint's follow."""
    network = plain_network(run)
    prepare(network, run.compile is Compile.always, run.recompute, run.recompute_every)
    if run.strategy is Strategy.fsdp:
        shard(network, run.device, run.precision)
    elif run.init:
        network.to_empty(device="cpu")
        network.fill_tables()
    if not run.init:
        initialise(network, run.seed, copy_part)
    return network


def build_networks(runs: Sequence[Run]) -> Transformer:
    """The network of one run, or those of several as one (see `Transformer.stacked`)."""
    if len(runs) == 1:
        return build_network(runs[0])
    members = [plain_network(run) for run in runs]
    for run, member in zip(runs, members, strict=True):
        initialise(member, run.seed)
    run, network = runs[0], Transformer.stacked(members)
    return prepare(network, run.compile is Compile.always, run.recompute, run.recompute_every)


def plain_network(run: Run) -> Transformer:
    """A network of a run's shape, its weights not filled; on meta where its strategy or a checkpoint fills it."""
    form, vocabulary = attention_form(run.device, run.precision), run.corpus.vocabulary
    with torch.device("meta" if run.strategy is Strategy.fsdp or run.init else "cpu"):
        return Transformer(run.model, run.vocabulary, vocabulary.mask_id, form, tokens=len(vocabulary))


def base_weights(run: Run, console: Console) -> Mapping[str, Tensor]:
    """Weights of the run's base model: a checkpoint's, read as they are asked for, or from the cache if whole and
    current, else trained and put there. Raises RunError where training diverged.

    Of several runs that need the same base one trains it and the others wait; all processes of a run train it together.
    """
    (found,) = base_models([run], console)
    if isinstance(found, RunError):
        raise found
    return found


def base_models(runs: Sequence[Run], console: Console) -> list[Mapping[str, Tensor] | RunError]:
    """The same of runs that train together, as their bases then do; an error in place of one that diverged.

    Where the cache lacks one, all are trained: in another pack the others would round otherwise.
    """
    if runs[0].init:
        return [read_weights(folder_of(run.init), run.model, run.vocabulary, run.init_pickle) for run in runs]
    first = runs[0].ranks[0] == 0
    places = [path_of("cache", run.cache) / digest(base_key(run))[:16] for run in runs]
    wanted = dict(zip(places, runs, strict=True))  # runs of one seed have one base
    with ExitStack() as claims:
        for folder in sorted(wanted):  # in one order, so that two packs never wait for each other
            claims.enter_context(_claim(folder, first))
        found: dict[Path, Any] = {folder: _read(folder, console) if first else None for folder in wanted}
        if from_first(any(weights is None for weights in found.values())):
            trained = dict(zip(wanted, _train(list(wanted.values()), console), strict=True))
            for folder, weights in trained.items():
                if isinstance(weights, RunError):
                    found[folder] = found[folder] or weights
                elif first and found[folder] is None:
                    _write(folder, weights, base_key(wanted[folder]), len(wanted))
                    found[folder] = weights
    from_first(None)  # by now they lie there
    return [found[place] if found[place] is not None else load_file(place / "model.safetensors") for place in places]


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


def _train(runs: Sequence[Run], console: Console) -> list[Weights | RunError]:
    """Trains the bases together; each in whole in the first process, empty in others, or why it is not to be had."""
    run, network = runs[0], build_networks(runs)
    corpus, steps = run.corpus_for(Domain.general, Split.train), run.base_steps
    feeds = [DataFeed(corpus, one.seed, run.batch, run.accumulate, 0, steps, *run.ranks) for one in runs]
    module = TrainingModule(network, [one.base for one in runs], steps, 0, corpus.vocabulary)
    counters, problems = [TrainingCounters() for _ in runs], [""] * len(runs)

    def look(result: StepResult, trainer: Any) -> None:
        loss_S = trainer.strategy.reduce(result.loss, reduce_op="sum")
        for i, one in enumerate(runs):
            where = f"base model, step {counters[i].step}"
            problems[i] = problems[i] or divergence(where, loss_S[i], result.gradient_norm[i], "base.lr", one.base.lr)
        if all(problems):
            raise RunError(problems[0])

    size = run.batch * corpus.length
    watch = ProgressCallback("base model", counters, run.budget.every, frozenset({steps}), size, look, console)
    fit(module, feeds, watch, run)
    found: list[Weights | RunError] = []
    for i, one in enumerate(runs):
        weights = whole_weights(network.member(i), run.ranks[0] == 0)
        if not problems[i] and not from_first(_finite(weights)):  # the last step's loss is of the weights before it
            problems[i] = (
                f"base model, step {steps}: weights that are no numbers: training diverged; type a smaller base.lr "
                f"than {one.base.lr:g}, and out=PATH"
            )
        found.append(RunError(problems[i]) if problems[i] else weights)
    return found


def _finite(weights: Weights) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in weights.values())


def _write(folder: Path, weights: Weights, key: dict[str, Any], pack: int) -> None:
    with whole_folder(folder) as fresh:
        write_safetensors(fresh / "model.safetensors", {name: tensor.clone() for name, tensor in weights.items()})
        told = {"weights": weights_hash(weights), "pack": pack, "key": key}
        (fresh / "base.json").write_text(json.dumps(told, indent=1))


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

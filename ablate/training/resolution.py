"""Every automatic choice of a run, made for this machine."""

from __future__ import annotations

import dataclasses
import os

from ablate.compute.device import (
    Strategy,
    require_memory,
    resolve_compile,
    resolve_device,
    resolve_precision,
    resolve_threads,
)
from ablate.core.validation import Rules, refuse
from ablate.model.hf_weights import folder_of, read_weights, require_fit
from ablate.training.run_config import Run
from ablate.training.trunk import fork_of


def resolve(run: Run) -> Run:
    """The same run with every automatic choice made. Raises ValueError where a choice is not to be had here."""
    refuse(_rules(run))
    require_fit(run.init, run.model, run.corpus.vocabulary)
    if run.init:
        read_weights(folder_of(run.init), run.model, run.vocabulary, run.init_pickle)  # headers alone
    _require_documents(run)
    device, world = resolve_device(run.device), run.ranks[1]
    shares = world if run.strategy is Strategy.fsdp else 1
    require_memory(run.model.parameters(run.vocabulary) * run.pack, device, shares=shares)
    refuse(_rules_of_processes(run, world))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    made = dataclasses.replace(
        run,
        strategy=Strategy.ddp if world > 1 and run.strategy is Strategy.auto else run.strategy,
        device=device,
        precision=resolve_precision(run.precision, device),
        compile=resolve_compile(run.compile, device, run.flops * run.pack),
        threads=resolve_threads(run.threads, run.flops / sum(run.stage_steps) / world, here),
        processes=world,
    )
    if not made.fork:
        return made
    fork = fork_of(made)
    return dataclasses.replace(made, fork_step=fork.step, fork_weights=fork.weights)


def _rules(run: Run) -> Rules:
    steps = sum(run.stage_steps)
    yield steps > 0, "regime.stages: wanted at least one step in all, got none; type regime.stages.0.share=1"
    for key, asked in (("keep_at", run.keep_at), ("budget.evaluate_at", run.budget.evaluate_at)):
        outside = [step for step in asked if not 1 <= step <= steps]
        yield not outside, f"{key}: wanted steps of this run, 1..{steps}, got {outside}; type {key}=[{steps}]"
    yield (
        bool(run.fork) or not (run.fork_step or run.fork_weights),
        "fork_step and fork_weights have no effect without fork; type fork=RUN",
    )


def _rules_of_processes(run: Run, world: int) -> Rules:
    yield (
        run.processes in (0, world),
        f"processes={run.processes}: wanted as many as torchrun started, got {world}; type torchrun "
        f"--nproc-per-node {run.processes} experiments/run.py ...",
    )
    yield (
        run.batch % (run.accumulate * world) == 0,
        f"batch={run.batch}: wanted a multiple of accumulate={run.accumulate} x {world} processes; type "
        f"batch={run.accumulate * world}",
    )
    yield (
        run.strategy is Strategy.auto or world > 1 or "RANK" in os.environ,
        f"strategy={run.strategy}: wanted processes that torchrun started, got none; type torchrun "
        "--nproc-per-node 2 experiments/run.py ...",
    )


def _require_documents(run: Run) -> None:
    """Raises ValueError for an objective that means whole windows, where attention is limited to documents."""
    if run.corpus.vocabulary.boundary is None:
        return
    stages = {"base": run.base, **{f"regime.stages.{i}": stage for i, stage in enumerate(run.regime.stages)}}
    for name, stage in stages.items():
        if setting := stage.objective.of_windows:
            raise ValueError(
                f"{name}.objective.{setting}: it counts the window as a whole, where attention is limited to "
                f"documents; leave {setting.partition('=')[0]} out, or type corpus.document_mask=false"
            )

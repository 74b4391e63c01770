"""The main job beside a bare loop that takes the same steps, and how soon it answers."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import nn

import ablate.training.train  # noqa: F401  # the job imports it, so it is part of the time to the first step
from ablate.compute.optimizer import adamw
from ablate.compute.train_step import StepResult, train_step
from ablate.core.child_processes import python
from ablate.core.corpus import Corpus, Domain, Split
from ablate.model.transformer import Transformer
from ablate.objectives.regime import Stage
from ablate.training.data_feed import DataFeed
from ablate.training.lightning_module import TrainingModule, fit
from ablate.training.networks import build_network
from ablate.training.progress import ProgressCallback, TrainingCounters
from ablate.training.resolution import resolve
from ablate.training.run_config import Run
from experiments.benchmarks.timing import middle, spread
from experiments.cli.compose import jobs
from experiments.cli.run_command import RUN, SCRIPT

# Bounds that a change of code must not break. Share of the bare loop's speed; seconds; seconds
LEAST_SPEED, MOST_FIRST_STEP, MOST_HELP = 0.85, 6.0, 2.0


def default_job(threads: int = 0) -> Run:
    """What `python experiments/run.py` runs on this machine's CPU; 0 threads means as many as the job itself takes."""
    RUN.register()
    return resolve(jobs(RUN, ["device=cpu", f"threads={threads}"])[0])


def overhead(rounds: int, steps: int, threads: int) -> dict[str, Any]:
    """The default job's loop (Lightning, progress, a logged row every few steps; no probes) beside the bare loop."""
    job = default_job(threads)
    torch.set_num_threads(job.threads)
    network = build_network(job)
    loops = {"lightning": through_lightning, "bare": bare}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for loop in loops.values():
        loop(job, network, min(steps, 20))  # not timed
    for _ in range(rounds):
        for name, loop in loops.items():
            start = time.perf_counter()
            loop(job, network, steps)
            seconds[name].append(time.perf_counter() - start)
    tokens = steps * job.batch * job.corpus.length
    return {
        "job": {
            "regime": job.regime.name,
            "corpus": job.corpus.name,
            "batch": job.batch,
            "length": job.corpus.length,
            "parameters": parameters(network),
            "precision": job.precision,
            "threads": job.threads,
            "steps_between_rows": job.budget.every,
        },
        "steps": steps,
        "seconds": seconds,
        "tokens_per_second": {name: spread(tokens / s for s in turns) for name, turns in seconds.items()},
        "speed_over_bare": spread(b / a for a, b in zip(seconds["lightning"], seconds["bare"], strict=True)),
    }


def through_lightning(job: Run, network: Transformer, steps: int) -> None:
    """The job's stages as train(run) goes through them, a row of loss and gradient norm logged every few steps."""
    first, rows = 0, []

    def log(result: StepResult, trainer: Any) -> None:
        rows.append({"metric": "loss", "value": float(trainer.strategy.reduce(result.loss, "sum"))})
        rows.append({"metric": "grad_norm", "value": float(result.gradient_norm)})

    for stage, n in zip(job.regime.stages, job.regime.steps(steps), strict=True):
        fit_stage(job, network, stage, job.corpus, range(first, first + n), log)
        first += n


def fit_stage(
    job: Run, network: Transformer, stage: Stage, corpus: Corpus, steps: range, on_step: Callable[..., None]
) -> None:
    """Trains through Lightning; the progress bar is drawn, into a buffer."""
    module = TrainingModule(network, [stage], len(steps), 0, corpus.vocabulary)
    screen = Console(file=io.StringIO(), force_terminal=True)
    tokens, first = job.batch * corpus.length, frozenset({1})
    watch = ProgressCallback("bench", [TrainingCounters()], job.budget.every, first, tokens, on_step, screen)
    fit(module, [DataFeed(corpus, job.seed, job.batch, job.accumulate, steps.start, len(steps))], watch, job)


def bare(job: Run, network: Transformer, steps: int) -> None:
    """The same stages, rows and noise in a plain loop."""
    first = 0
    for stage, n in zip(job.regime.stages, job.regime.steps(steps), strict=True):
        optimizer, feed = adamw(network, stage), DataFeed(job.corpus, job.seed, job.batch, job.accumulate, first, n)
        for i in range(len(feed)):
            tokens_BL, address, scorable = feed[i]
            problem = stage.objective.pose(tokens_BL, address, job.corpus.vocabulary)
            train_step(network, optimizer, problem, scorable, stage.clip_norm, job.device, job.precision)
        first += n


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def answers(times: int, threads: int) -> dict[str, list[float]]:
    """Seconds from starting Python to the end of the first training step, and to the end of --help, `times` each."""
    code = f"from experiments.benchmarks.run_speed import first_step; first_step({threads})"
    first, helped = [], []
    in_code, surroundings = python(code)
    for _ in range(times):
        start = time.time()  # the one clock that two processes share
        done = subprocess.run(in_code, env=surroundings, stdout=subprocess.PIPE, text=True, check=True)
        first.append(float(done.stdout.split()[-1]) - start)
    command = [sys.executable, "-P", str(SCRIPT), "--help"]
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(times):
            start = time.time()
            subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
            helped.append(time.time() - start)
    return {"first_step_seconds": first, "help_seconds": helped}


def first_step(threads: int) -> None:
    """Goes the default job's way to the end of its base model's first training step and prints the time, seconds."""
    job = default_job(threads)
    torch.set_num_threads(job.threads)
    corpus = job.corpus_for(Domain.general, Split.train)
    ends: list[float] = []
    fit_stage(job, build_network(job), job.base, corpus, range(1), lambda *_: ends.append(time.time()))
    print(ends[0])


def table(result: dict[str, Any]) -> Table:
    """What was measured beside what is wanted."""
    rates, speed = result["tokens_per_second"], result["speed_over_bare"]
    first, helped = spread(result["first_step_seconds"]), spread(result["help_seconds"])
    lines = Table("", "measured", "wanted", "", box=box.SIMPLE, title="The default main job (median, quartiles)")
    for name in ("lightning", "bare"):
        lines.add_row(f"{name} loop, 1000 tokens/s", middle(rates[name], ".1f", 1000))
    for name, value, form, bound, met in (
        ("lightning over bare", speed, ".1%", f">= {LEAST_SPEED:.0%}", speed["median"] >= LEAST_SPEED),
        ("start to first step, s", first, ".2f", f"< {MOST_FIRST_STEP:g}", first["median"] < MOST_FIRST_STEP),
        ("--help, s", helped, ".2f", f"< {MOST_HELP:g}", helped["median"] < MOST_HELP),
    ):
        lines.add_row(name, middle(value, form), bound, Text("met", "green") if met else Text("missed", "red"))
    return lines


def notes(result: dict[str, Any]) -> str:
    """What the numbers belong to."""
    job = result["job"]
    return (
        f"{result['steps']} steps a turn of {job['batch']} x {job['length']} tokens,\n"
        f"{job['parameters']:,} parameters, {job['precision']}, {job['threads']} thread(s); no probes, no checkpoints"
    )

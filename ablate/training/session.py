"""A run at work: its stages, its pauses for evaluation and checkpoints, and resuming from one."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ablate.compute.device import Device
from ablate.compute.distributed import from_first
from ablate.compute.execution import load_weights
from ablate.compute.train_step import StepResult
from ablate.core import records
from ablate.core.corpus import Domain, Split
from ablate.core.manifest import write_manifest
from ablate.decoding.predictor import Predictor
from ablate.evaluation.probe import ProbeSet
from ablate.evaluation.probe_rows import Row
from ablate.model.transformer import Transformer
from ablate.objectives.problem import Objective
from ablate.training.base_model import base_weights, build_network
from ablate.training.checkpoint import (
    FOLDER,
    latest,
    read_plain,
    restore,
    tensors_of,
    weights_hash,
)
from ablate.training.checkpoint_writer import Writer
from ablate.training.data_feed import DataFeed
from ablate.training.lightning_module import TrainingModule, fit
from ablate.training.probe_plan import probes
from ablate.training.progress import ProgressCallback, TrainingCounters, require_finite
from ablate.training.run_config import Run
from ablate.training.run_manifest import SECONDS, RunError

BASELINE = -1  # stage of the rows measured before any training on the new domain


@dataclass
class Session:
    """A resolved run at work: the state that its checkpoint holds, and what is derived from the configuration."""

    run: Run
    console: Console
    manifest: dict[str, Any]
    stage: int = BASELINE
    done: int = 0
    optimizer: dict[str, Any] | None = None
    counters: TrainingCounters = field(default_factory=TrainingCounters)
    rows: list[Row] = field(default_factory=list)
    network: Transformer = field(init=False)
    probe_sets: list[ProbeSet] = field(init=False)

    def __post_init__(self) -> None:
        self.clock = time.perf_counter(), time.process_time()
        self.evaluation_seconds = 0.0
        self.pauses = frozenset(self.run.pauses())
        self.label = self.run.label
        self.network = build_network(self.run)
        self.writer = Writer(self.run.folder / FOLDER, *self.run.ranks)

    @property
    def device(self) -> torch.device:
        """Where the network is evaluated: this process's own card, or the CPU."""
        card = f":{os.environ.get('LOCAL_RANK', '0')}" if self.run.device is Device.cuda else ""
        return torch.device(self.run.device.value + card)

    def go(self) -> None:
        """From the checkpoint, or else from the base model, to the end."""
        asked = ((probe, self.run.corpus_for(probe.domain, probe.split)) for probe in probes(self.run))
        self.probe_sets = [probe.prepare(corpus, self.run.seed) for probe, corpus in asked]
        path = self._whole_checkpoint()
        if path is None:
            self._begin()
        else:
            self._resume(path)
        while self.stage < len(self.run.regime.stages):
            self._train_stage()
        self.keep()
        self.writer.wait()

    def _whole_checkpoint(self) -> Path | None:
        """Looked for by the first process for all, which all must ask: each would read all checkpoints."""
        path, problem = None, ""
        if self.run.ranks[0] == 0:
            try:
                path = latest(self.run.folder, lambda line: self.console.print(line, soft_wrap=True, markup=False))
            except RunError as damage:
                problem = str(damage)
        path, problem = from_first((path, problem))
        if problem:
            raise RunError(problem)
        return path

    def _begin(self) -> None:
        """The base model, measured as it was trained and as the first stage will read it."""
        weights = base_weights(self.run, self.console)
        if self.run.ranks[0] == 0:
            self.manifest["initial_weights"] = weights_hash(weights)
            write_manifest(self.run.folder, self.manifest)  # before there is a checkpoint, which does not know it
        load_weights(self.network, weights)
        self.measure()
        self.stage = 0
        self.measure()

    def _train_stage(self) -> None:
        run, stage, steps = self.run, self.run.regime.stages[self.stage], self.run.stage_steps[self.stage]
        if steps > self.done:
            corpus = run.corpus_for(Domain.new, Split.train)
            module = TrainingModule(self.network, stage, steps, self.done, corpus.vocabulary)
            module.optimizer_state = self.optimizer
            title = f"stage {self.stage}: {stage.objective.label}"
            feed = DataFeed(
                corpus,
                run.seed,
                run.batch,
                run.accumulate,
                self.counters.step,
                steps - self.done,
                *run.ranks,
                unique=run.unique,
            )
            watch = ProgressCallback(
                title,
                self.counters,
                run.budget.every,
                self.pauses,
                run.batch * corpus.length,
                self._after_step,
                self.console,
                self._keep_now,
            )
            self.optimizer = fit(module, feed, watch, run)
        self._next_stage()

    def _next_stage(self) -> None:
        """The switch: the next stage's reading is measured before it has trained."""
        self.stage, self.done = self.stage + 1, 0
        if self.stage < len(self.run.regime.stages):
            if self.run.regime.stages[self.stage].optimizer == "reset":
                self.optimizer = None
            self.measure()
            self.keep()

    def _after_step(self, result: StepResult, trainer: Any) -> None:
        step = self.counters.step
        done = self.done + trainer.global_step
        loss, nats, scored = (
            trainer.strategy.reduce(x, reduce_op="sum")
            for x in (result.loss, result.nats, torch.tensor(float(result.scored)))
        )
        norm = result.gradient_norm
        rate = self.run.regime.stages[self.stage].lr
        require_finite(f"step {step}", loss, norm, f"regime.stages.{self.stage}.lr", rate)
        if step % self.run.budget.every == 0:
            self._add({"metric": "loss", "value": float(loss)})
            self._add({"metric": "grad_norm", "value": float(norm)})
            if scored:  # as if the loss were divided by scored tokens: a warmup's small loss is in part that scale
                self._add({"metric": "scored_nats", "value": float(nats) / float(scored)})
                self._add({"metric": "grad_norm_scored", "value": float(norm) * result.scorable / float(scored)})
        if step in self.pauses:
            self.measure()
            if done < self.run.stage_steps[self.stage]:  # the end of a stage is kept with its switch
                self.keep(done, trainer.optimizers[0].state_dict())

    def _keep_now(self, trainer: Any) -> None:
        """A checkpoint of the step that has just ended, where there is none yet."""
        done = self.done + trainer.global_step
        if self.counters.step not in self.pauses or done == self.run.stage_steps[self.stage]:
            self.keep(done, trainer.optimizers[0].state_dict())

    def measure(self) -> None:
        """Puts every probe to the model as the stage in force reads it."""
        start = time.perf_counter()
        objective = self.objective
        self.network.to(self.device).eval()  # Lightning leaves it on the CPU after each stage
        predict = Predictor(self.network, objective, self.run.corpus.vocabulary.boundary)
        for probe_set in self.probe_sets:
            for row in probe_set.measure(predict, objective.left_to_right, objective.reading.size):
                self._add(row)
        self.network.train()
        self.evaluation_seconds += time.perf_counter() - start

    @property
    def objective(self) -> Objective:
        """The objective as which the model is read: the stage's in force, at first the base's."""
        return (self.run.base if self.stage == BASELINE else self.run.regime.stages[self.stage]).objective

    def _add(self, row: Row) -> None:
        run, p = self.run, self.counters
        common = {
            "run": self.label,
            "corpus": run.corpus.name,
            "regime": run.regime.name,
            "seed": run.seed,
            "stage": self.stage,
            "objective": self.objective.label,
            "step": p.step,
            "tokens": p.tokens,
            "loss_tokens": p.loss_tokens,
            "flops": run.flops_after(p.step),
            "domain": str(Domain.new),
            "split": str(Split.train),
            "contexts": "",
            "question": None,
            **records.NO_BLOCKS,
        }
        self.rows.append({**common, **row})

    def keep(self, done: int | None = None, optimizer: dict[str, Any] | None = None) -> None:
        """Writes records, checkpoint and manifest; the checkpoint holds the rows, so the three agree on resuming."""
        self._clock()
        state = optimizer or self.optimizer
        plain = {
            "config": self.run.fingerprint(),
            "stage": self.stage,
            "done": self.done if done is None else done,
            "optimizer": state is not None,
            "counters": asdict(self.counters),
            "rows": self.rows,
            "seconds": {name: self.manifest[name] for name in SECONDS},
        }
        self.writer.write(f"{self.counters.step:09d}-{self.stage}", tensors_of(self.network, state), plain)
        if self.run.ranks[0] == 0:
            records.write(records.table(self.rows), self.run.folder / records.FILE)
            write_manifest(self.run.folder, self.manifest)

    def _resume(self, path: Path) -> None:
        plain = read_plain(self.run, path)
        self.optimizer = restore(path, self.network, plain["optimizer"])
        self.stage, self.done = plain["stage"], plain["done"]
        self.counters, self.rows = TrainingCounters(**plain["counters"]), plain["rows"]
        self.manifest.update(plain["seconds"])
        self.console.print(f"resuming {self.run.folder} at step {self.counters.step}")

    def _clock(self) -> None:
        """Adds the time since the last call to the manifest, seconds."""
        now = time.perf_counter(), time.process_time()
        self.manifest["wall_seconds"] += now[0] - self.clock[0]
        self.manifest["cpu_seconds"] += now[1] - self.clock[1]
        self.manifest["evaluation_seconds"] += self.evaluation_seconds
        self.clock, self.evaluation_seconds = now, 0.0

"""Runs at work together: their stages, their pauses for evaluation and checkpoints, and resuming from one.

A run by itself has a plain network. Several, which differ in numbers alone, have theirs stacked: one pass is that of
all. What the runs do apart from that, each does by itself (see `Member`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ablate.compute.execution import load_weights
from ablate.compute.optimizer import State
from ablate.compute.train_step import StepResult
from ablate.core.corpus import Domain, Split
from ablate.core.manifest import write_manifest
from ablate.model.transformer import Transformer
from ablate.training.base_model import base_models
from ablate.training.checkpoint import weights_hash
from ablate.training.data_feed import DataFeed
from ablate.training.lightning_module import TrainingModule, fit, states_of
from ablate.training.member import Member
from ablate.training.networks import build_networks, measured
from ablate.training.progress import ProgressCallback, ProgressLog, divergence
from ablate.training.run_manifest import RunError


@dataclass
class Session:
    """Resolved runs at work, all at one step of one stage."""

    members: Sequence[Member]
    console: Console
    network: Transformer = field(init=False)

    def __post_init__(self) -> None:
        self.clock = time.perf_counter(), time.process_time()
        self.evaluation_seconds = 0.0
        self.first = self.members[0]
        self.run = self.first.run  # that of them all, apart from seeds and rates
        self.pauses = frozenset(self.run.pauses())
        self.network = build_networks([member.run for member in self.members])

    @property
    def at_work(self) -> list[tuple[int, Member]]:
        """The runs that have not been given up, and their place among all."""
        return [(i, member) for i, member in enumerate(self.members) if not member.problem]

    def go(self, checkpoints: Sequence[Path] | None) -> None:
        """From a checkpoint of each run, or else from its trunk or base model, to the end. Raises RunError where every
        run has been given up."""
        for member in self.members:
            member.prepare()
        if checkpoints is None and self.run.fork:
            self._leave_trunk()
        elif checkpoints is None:
            self._begin()
        else:
            for i, (member, path) in enumerate(zip(self.members, checkpoints, strict=True)):
                member.resume(path, self.network.member(i))
            told = ", ".join(str(member.run.folder) for member in self.members)
            self.console.print(f"resuming {told} at step {self.first.counters.step}", soft_wrap=True)
        while self.first.stage < len(self.run.regime.stages):
            self._train_stage()
        self.keep()
        for member in self.members:
            member.writer.wait()

    def _begin(self) -> None:
        """The base models, measured as they were trained and as the first stage will read them."""
        found = base_models([member.run for member in self.members], self.console)
        for i, (member, base) in enumerate(zip(self.members, found, strict=True)):
            if isinstance(base, RunError):
                self._give_up(member, str(base))
                continue
            if self.run.ranks[0] == 0:
                member.manifest |= {"initial_weights": weights_hash(base.weights), "base": base.known}
                write_manifest(member.run.folder, member.manifest)  # before a checkpoint, which does not know it
            load_weights(self.network.member(i), base.weights)
        self._require_work()
        self.measure()
        for member in self.members:
            member.stage = 0
        self.measure()

    def _leave_trunk(self) -> None:
        """Each begins where its trunk has trained the stages that they have in common."""
        for i, member in enumerate(self.members):
            member.leave_trunk(self.network.member(i))
            if self.run.ranks[0] == 0:
                write_manifest(member.run.folder, member.manifest)
        self._next_stage()

    def _give_up(self, member: Member, problem: str) -> None:
        """Goes on without it, and says so; a run by itself says it at its end."""
        if len(self.members) > 1:
            problem = f"{member.run.folder}: {problem}"
            self.console.print(f"{problem}; the others go on", style="red", soft_wrap=True, markup=False)
        member.give_up(problem)

    def _require_work(self) -> None:
        if not self.at_work:
            raise RunError("; ".join(member.problem for member in self.members))

    def _train_stage(self) -> None:
        run, at = self.run, self.first
        steps = run.stage_steps[at.stage]
        if steps > at.done:
            corpus = run.corpus_for(Domain.new, Split.train)
            stages = [member.run.regime.stages[at.stage] for member in self.members]
            module = TrainingModule(self.network, stages, steps, at.done, corpus.vocabulary)
            module.optimizer_states = [m.optimizer for m in self.members if m.optimizer is not None]
            feeds = [
                DataFeed(
                    corpus,
                    member.run.seed,
                    run.batch,
                    run.accumulate,
                    at.counters.step,
                    steps - at.done,
                    *run.ranks,
                    unique=run.unique,
                    noise=stage.noise,
                )
                for member, stage in zip(self.members, stages, strict=True)
            ]
            watch = ProgressCallback(
                f"stage {at.stage}: {stages[0].objective.label}",
                [member.counters for member in self.members],
                run.budget.every,
                self.pauses,
                run.batch * corpus.length,
                self._after_step,
                self.console,
                self._keep_now,
            )
            for member, state in zip(self.members, fit(module, feeds, watch, run), strict=True):
                member.optimizer = state
        self._next_stage()

    def _next_stage(self) -> None:
        """The switch: the next stage's reading is measured before it has trained."""
        for member in self.members:
            member.stage, member.done = member.stage + 1, 0
        if self.first.stage == len(self.run.regime.stages):
            return
        if self.run.regime.stages[self.first.stage].optimizer == "reset":
            for member in self.members:
                member.optimizer = None
        self.measure()
        self.keep()

    def _after_step(self, result: StepResult, trainer: Any) -> None:
        step, stage = self.first.counters.step, self.first.stage
        done = self.first.done + trainer.global_step
        parts = {"loss": result.loss, "nats": result.nats, "scored": result.scored.float()}  # of this process
        whole = {name: trainer.strategy.reduce(part, reduce_op="sum") for name, part in parts.items()}
        result = replace(result, **whole)
        for i, member in self.at_work:
            own, key, rate = result.of(i), f"regime.stages.{stage}.lr", member.run.regime.stages[stage].lr
            problem = divergence(f"step {step}", own.loss, own.gradient_norm, key, rate)
            if problem:
                self._give_up(member, problem)
            elif step % self.run.budget.every == 0:
                member.log(own)
        self._require_work()
        if step in self.pauses:
            self.measure()
            # the end of a stage is kept with its switch, and before it for those who leave there
            if done < self.run.stage_steps[stage] or step in self.run.keep_at:
                self.keep(done, states_of(trainer))

    def _keep_now(self, trainer: Any) -> None:
        """A checkpoint of the step that has just ended, where there is none yet."""
        done = self.first.done + trainer.global_step
        if self.first.counters.step not in self.pauses or done == self.run.stage_steps[self.first.stage]:
            self.keep(done, states_of(trainer))

    def measure(self) -> None:
        """Asks every run's model every probe."""
        start, log, step = time.perf_counter(), ProgressLog(self.console), self.first.counters.step
        with measured(self.network, self.run):
            for i, member in self.at_work:
                for asked, of in member.measure(self.network.member(i)):
                    if log.due and self.run.ranks[0] == 0:
                        log.write(f"step {step}: probe {asked} of {of}, run {i + 1} of {len(self.members)}")
        self.evaluation_seconds += time.perf_counter() - start

    def keep(self, done: int | None = None, optimizers: Sequence[State] | None = None) -> None:
        """Keeps every run as it is now; first all have their last checkpoint, so that they have one in common."""
        self._clock()
        for member in self.members:
            member.writer.wait()
        for i, member in self.at_work:
            state = optimizers[i] if optimizers else member.optimizer
            member.keep(self.network.member(i), member.done if done is None else done, state)

    def _clock(self) -> None:
        """Adds the time since the last call to the manifests, each run's share of it."""
        now, share = (time.perf_counter(), time.process_time()), 1 / len(self.members)
        wall, cpu = (b - a for a, b in zip(self.clock, now, strict=True))
        for member in self.members:
            member.spend(wall * share, cpu * share, self.evaluation_seconds * share)
        self.clock, self.evaluation_seconds = now, 0.0

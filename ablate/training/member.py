"""One run of those that train together: its rows, its probes, its checkpoints, its manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ablate.compute.optimizer import State
from ablate.compute.train_step import StepResult
from ablate.core import records
from ablate.core.corpus import Domain, Split
from ablate.core.manifest import write_manifest
from ablate.decoding.predictor import Predictor
from ablate.evaluation.probe import ProbeSet
from ablate.evaluation.probe_rows import Row
from ablate.model.transformer import Transformer
from ablate.objectives.problem import Objective
from ablate.training.checkpoint import FOLDER, read_plain, restore, tensors_of
from ablate.training.checkpoint_writer import Writer
from ablate.training.probe_plan import probes
from ablate.training.progress import TrainingCounters
from ablate.training.run_config import Run
from ablate.training.run_manifest import SECONDS
from ablate.training.trunk import fork_of

LOGGED = ("loss", "grad_norm", "scored_nats", "grad_norm_scored")  # metrics of a step
BASELINE = -1  # stage of the rows measured before any training on the new domain


@dataclass
class Member:
    """A resolved run at work: what a checkpoint has of it, apart from the network. problem: why it was given up, if it
    was."""

    run: Run
    manifest: dict[str, Any]
    stage: int = BASELINE
    done: int = 0
    optimizer: State | None = None
    counters: TrainingCounters = field(default_factory=TrainingCounters)
    rows: list[Row] = field(default_factory=list)
    problem: str = ""
    probe_sets: list[ProbeSet] = field(init=False)

    def __post_init__(self) -> None:
        self.label = self.run.label
        self.writer = Writer(self.run.folder / FOLDER, *self.run.ranks, keep_at=frozenset(self.run.keep_at))

    def prepare(self) -> None:
        """Draws the questions of its probes."""
        asked = ((probe, self.run.corpus_for(probe.domain, probe.split)) for probe in probes(self.run))
        self.probe_sets = [probe.prepare(corpus, self.run.seed) for probe, corpus in asked]

    @property
    def objective(self) -> Objective:
        """The objective as which the model is read: the stage's in force, at first the base's."""
        return (self.run.base if self.stage == BASELINE else self.run.regime.stages[self.stage]).objective

    def measure(self, network: Transformer) -> Iterator[tuple[int, int]]:
        """Evaluates every probe set, read as the stage in force reads; yields the number done and the total."""
        objective = self.objective
        predict = Predictor(network, objective, self.run.corpus.vocabulary.boundary)
        for done, probe_set in enumerate(self.probe_sets, 1):
            for row in probe_set.measure(predict, objective.left_to_right, objective.reading.size):
                self.add(row)
            yield done, len(self.probe_sets)

    def log(self, result: StepResult) -> None:
        """Rows of what a step has measured of it; each of the result's tensors is its own entry of them."""
        norm, scored = float(result.gradient_norm), float(result.scored)
        values = [float(result.loss), norm]
        if scored:  # as if the loss were divided by scored tokens: a warmup's small loss is in part that scale
            values += [float(result.nats) / scored, norm * float(result.scorable) / scored]
        for metric, value in zip(LOGGED, values, strict=False):
            self.add({"metric": metric, "value": value})

    def add(self, row: Row) -> None:
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

    def keep(self, network: Transformer, done: int, optimizer: State | None) -> None:
        """Writes records, checkpoint and manifest; the checkpoint holds the rows, so the three agree on resuming."""
        plain = {
            "config": self.run.fingerprint(),
            "stage": self.stage,
            "done": done,
            "optimizer": optimizer is not None,
            "counters": asdict(self.counters),
            "rows": self.rows,
            "seconds": {name: self.manifest[name] for name in SECONDS},
        }
        self.writer.write(f"{self.counters.step:09d}-{self.stage}", tensors_of(network, optimizer), plain)
        if self.run.ranks[0] == 0:
            records.write_rows(self.rows, self.run.folder / records.FILE)
            write_manifest(self.run.folder, self.manifest)

    def resume(self, path: Path, network: Transformer) -> None:
        """Takes up a checkpoint."""
        plain = read_plain(self.run, path)
        self.optimizer = restore(path, network, plain["optimizer"])
        self.stage, self.done = plain["stage"], plain["done"]
        self.counters, self.rows = TrainingCounters(**plain["counters"]), plain["rows"]
        self.manifest.update(plain["seconds"])

    def leave_trunk(self, network: Transformer) -> None:
        """Takes up its trunk's checkpoint, with the rows that it would have by now, as the stage has ended that both
        have in common. Raises RunError where it is not to be had; see `fork_of`."""
        run, fork = self.run, fork_of(self.run)
        self.optimizer = restore(fork.checkpoint, network, fork.plain["optimizer"])
        self.stage, self.counters = fork.stage, TrainingCounters(**fork.plain["counters"])
        asked = {0, *run.pauses()}
        own = {"run": self.label, "regime": run.regime.name}
        self.rows = [
            row | own
            for row in fork.plain["rows"]
            if row["stage"] <= fork.stage and (row["metric"] in LOGGED or row["step"] in asked)
        ]
        trunk = fork.manifest
        told = {"trunk": trunk["config_fingerprint"], "wall_seconds": trunk["wall_seconds"]}
        told |= {"step": fork.step, "weights": fork.weights}
        self.manifest |= {"initial_weights": trunk["initial_weights"], "base": trunk.get("base", {}), "fork": told}

    def spend(self, wall: float, cpu: float, evaluation: float) -> None:
        """Adds seconds to the manifest."""
        for name, seconds in zip(SECONDS, (wall, cpu, evaluation), strict=True):
            self.manifest[name] += seconds

    def give_up(self, problem: str) -> None:
        """Is measured and kept no more; its slot of the network goes on, for nothing."""
        self.problem = problem

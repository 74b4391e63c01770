"""train(run): from a configuration to a folder of results, resumable at every pause."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from ablate import records
from ablate.base import base_weights, build_network
from ablate.checkpoint import load, locked, save, weights_hash, write_bytes
from ablate.corpus import Domain, Split
from ablate.decode import Predictor
from ablate.learner import Feed, Learner, Progressed, Watch, fit, objective_label
from ablate.machine import Compile, code_version, description, packages
from ablate.model import Transformer
from ablate.probe import Exam, Probe, Row
from ablate.run import Run, describe, source_hash

BASELINE = -1  # stage of the rows measured before any training on the new domain


class RunError(ValueError):
    """A run that cannot go on in its folder; the message says what to type."""


def train(run: Run, console: Console | None = None) -> Path:
    """Runs or resumes; returns the folder, whose records are then complete.

    Raises ValueError for what the machine does not have, RunError where the folder belongs to another run, is in use
    or is damaged. Nothing is written in these cases.
    """
    console = console or Console()
    run = run.resolved()
    torch.set_num_threads(run.threads)
    check_folder(run)
    if run.ranks[0]:
        Session(run, console, {}).go()
        return run.folder
    try:
        with locked(run.folder / ".lock"):
            manifest = check_folder(run) or new_manifest(run)
            if manifest["status"] == "complete":
                console.print(f"[green]complete already:[/] {run.folder}")
            else:
                _go(run, console, manifest)
    except BlockingIOError:
        raise RunError(f"out={run.folder}: another process is at work in this folder; wait for it, or type out=PATH") from None
    return run.folder


def check_folder(run: Run) -> dict[str, Any] | None:
    """The manifest of the run's folder, None where there is none. Raises RunError if it is another run's."""
    path = run.folder / "manifest.json"
    if not path.exists():
        foreign = run.folder.is_file() or (run.folder.is_dir() and any(p.name != ".lock" for p in run.folder.iterdir()))
        if foreign:
            raise RunError(f"out={run.folder}: wanted a new folder or one of an earlier run, got one with other files; "
                           "type out=PATH")  # fmt: skip
        return None
    try:
        manifest = json.loads(path.read_text())
        theirs, source = manifest["config_fingerprint"], manifest["source"]
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{path}: wanted the manifest of a run, got a damaged file; delete {run.folder} or type out=PATH") from None
    if theirs != run.fingerprint():
        raise RunError(f"out={run.folder}: holds another configuration ({theirs[:8]}, this is {run.fingerprint()[:8]}; "
                       "compare its config.yaml with --cfg job); type out=PATH")  # fmt: skip
    if manifest["status"] != "complete" and source != source_hash(run.corpus):
        raise RunError(f"out={run.folder}: was begun with other source code, so going on would mix two programs; "
                       "delete it or type out=PATH")  # fmt: skip
    return manifest


def new_manifest(run: Run) -> dict[str, Any]:
    """What is known of a run before its first step."""
    laws = {f"{d}/{s}": run.law(d, s).fingerprint() for d in Domain for s in Split}
    return {
        "status": "running",
        "command": " ".join(sys.argv),
        "config_fingerprint": run.fingerprint(),
        "data": laws,
        "initial_weights": None,
        "source": source_hash(run.corpus),
        "code": code_version(),
        "packages": packages(),
        "machine": description(),
        "wall_seconds": 0.0,
        "cpu_seconds": 0.0,
        "evaluation_seconds": 0.0,
    }


def _go(run: Run, console: Console, manifest: dict[str, Any]) -> None:
    session = Session(run, console, manifest)
    manifest["status"] = "running"
    write_bytes(run.folder / "config.yaml", yaml.safe_dump(describe(run), sort_keys=False).encode())
    session.write_manifest()
    try:
        session.go()
        manifest["status"] = "complete"
    except KeyboardInterrupt:
        manifest["status"] = "interrupted"
        raise
    except BaseException:
        manifest["status"] = "failed"
        raise
    finally:
        session.write_manifest()


@dataclass
class Session:
    """A resolved run at work: the state that its checkpoint holds, and what is derived from the configuration."""

    run: Run
    console: Console
    manifest: dict[str, Any]
    stage: int = BASELINE
    done: int = 0
    optimiser: dict[str, Any] | None = None
    progressed: Progressed = field(default_factory=Progressed)
    rows: list[Row] = field(default_factory=list)
    network: Transformer = field(init=False)
    exams: list[Exam] = field(init=False)

    def __post_init__(self) -> None:
        self.clock = time.perf_counter(), time.process_time()
        self.evaluation_seconds = 0.0
        self.pauses = frozenset(self.run.pauses())
        self.network = build_network(self.run)

    @property
    def path(self) -> Path:
        return self.run.folder / "checkpoints" / "last.ckpt"

    def go(self) -> None:
        """From the checkpoint, or else from the base model, to the end."""
        weights = base_weights(self.run, self.console)
        self.manifest["initial_weights"] = weights_hash(weights)
        self.network.load_state_dict(weights)
        self.exams = [probe.prepare(self.run.law(probe.domain, probe.split), self.run.seed) for probe in probes(self.run)]
        if self.path.exists():
            self._resume()
        else:
            self.measure()
            self.stage = 0
            self.measure()
        while self.stage < len(self.run.regime.stages):
            self._train_stage()
        self.keep()

    def _train_stage(self) -> None:
        run, stage, steps = self.run, self.run.regime.stages[self.stage], self.run.stage_steps[self.stage]
        if steps > self.done:
            corpus = run.law(Domain.new, Split.train)
            mask_id = corpus.vocabulary.mask_id
            learner = Learner(self.network, stage, steps, self.done, mask_id, run.compile is Compile.always)
            learner.optimiser_state = self.optimiser
            title = f"stage {self.stage}: {objective_label(stage.objective)}"
            feed = Feed(corpus, run.seed, run.batch, run.accumulate, self.progressed.step, steps - self.done, *run.ranks)
            watch = Watch(title, self.progressed, run.budget.every, self.pauses, run.batch * corpus.length,
                          self._after_step, self.console)  # fmt: skip
            self.optimiser = fit(learner, feed, watch, run)
        self._next_stage()

    def _next_stage(self) -> None:
        """The switch: the next stage's reading is measured before it has trained."""
        self.stage, self.done = self.stage + 1, 0
        if self.stage < len(self.run.regime.stages):
            if self.run.regime.stages[self.stage].optimiser == "reset":
                self.optimiser = None
            self.measure()
            self.keep()

    def _after_step(self, learner: Learner, optimiser: torch.optim.Optimizer) -> None:
        step = self.progressed.step
        done = self.done + learner.trainer.global_step
        if step % self.run.budget.every == 0:
            self._add({"metric": "loss", "value": float(learner.trainer.strategy.reduce(learner.loss_value, reduce_op="sum"))})
            self._add({"metric": "grad_norm", "value": float(learner.gradient_norm)})
        if step in self.pauses:
            self.measure()
            if done < self.run.stage_steps[self.stage]:  # the end of a stage is kept with its switch
                self.keep(done, optimiser.state_dict())

    def measure(self) -> None:
        """Puts every probe to the model as the stage in force reads it."""
        start = time.perf_counter()
        objective = self.objective
        self.network.eval()
        predict = Predictor(self.network, objective)
        for exam in self.exams:
            for row in exam.measure(predict, objective.left_to_right):
                self._add(row)
        self.network.train()
        self.evaluation_seconds += time.perf_counter() - start

    @property
    def objective(self):
        return (self.run.base if self.stage == BASELINE else self.run.regime.stages[self.stage]).objective

    def _add(self, row: Row) -> None:
        run, p = self.run, self.progressed
        common = {
            "run": run.label, "corpus": run.corpus.name, "regime": run.regime.name, "seed": run.seed,
            "stage": self.stage, "objective": objective_label(self.objective), "step": p.step, "tokens": p.tokens,
            "loss_tokens": p.loss_tokens, "flops": run.flops * p.step / max(sum(run.stage_steps), 1),
            "domain": str(Domain.new), "split": str(Split.train), "contexts": "", "block_size": None, "protocol": "",
        }  # fmt: skip
        self.rows.append({**common, **row})

    def keep(self, done: int | None = None, optimiser: dict[str, Any] | None = None) -> None:
        """Writes records, checkpoint and manifest; the checkpoint holds the rows, so the three agree on resuming."""
        if self.run.ranks[0]:
            return
        self._clock()
        state = {
            "stage": self.stage,
            "done": self.done if done is None else done,
            "optimiser": optimiser or self.optimiser,
            "progressed": asdict(self.progressed),
            "rows": self.rows,
            "network": self.network.state_dict(),
            "seconds": {k: v for k, v in self.manifest.items() if k.endswith("_seconds")},
        }
        save(self.path, state)
        records.write(records.table(self.rows), self.run.folder / "records.parquet")
        self.write_manifest()

    def _resume(self) -> None:
        try:
            state = load(self.path)
        except ValueError as damage:
            raise RunError(f"{damage}; delete {self.run.folder} or type out=PATH") from None
        self.network.load_state_dict(state["network"])
        self.stage, self.done, self.optimiser = state["stage"], state["done"], state["optimiser"]
        self.progressed, self.rows = Progressed(**state["progressed"]), state["rows"]
        self.manifest.update(state["seconds"])
        self.console.print(f"resuming {self.run.folder} at step {self.progressed.step}")

    def write_manifest(self) -> None:
        write_bytes(self.run.folder / "manifest.json", json.dumps(self.manifest, indent=1).encode())

    def _clock(self) -> None:
        """Adds the time since the last call to the manifest, seconds."""
        now = time.perf_counter(), time.process_time()
        self.manifest["wall_seconds"] += now[0] - self.clock[0]
        self.manifest["cpu_seconds"] += now[1] - self.clock[1]
        self.manifest["evaluation_seconds"] += self.evaluation_seconds
        self.clock, self.evaluation_seconds = now, 0.0


def probes(run: Run) -> list[Probe]:
    """What a run asks: rule (new, held out), memory (new, seen) and forgetting (general, held out)."""
    budget = run.budget
    everywhere = {"questions": budget.questions, "contexts": budget.contexts}
    sizes = tuple(budget.block_sizes)
    return [
        Probe(Domain.new, Split.test, sizes, **everywhere),
        Probe(Domain.new, Split.train, sizes[:1], **everywhere),
        Probe(Domain.general, Split.test, sizes[:1], **everywhere),
    ]

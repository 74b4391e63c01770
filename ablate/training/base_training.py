"""Training of base models: for the budget's steps, or twice as long again and again until the domain is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from torch import Tensor

from ablate.compute.distributed import from_first
from ablate.compute.execution import whole_weights
from ablate.compute.optimizer import State
from ablate.compute.train_step import StepResult
from ablate.core.corpus import Domain, Split
from ablate.decoding.predictor import Predictor
from ablate.evaluation.probe_rows import ContextSet, knowledge_rows
from ablate.model.transformer import Transformer
from ablate.training.data_feed import DataFeed
from ablate.training.lightning_module import TrainingModule, fit
from ablate.training.networks import build_networks, measured
from ablate.training.probe_plan import probes
from ablate.training.progress import ProgressCallback, TrainingCounters, divergence
from ablate.training.run_config import Run
from ablate.training.run_manifest import RunError

ROUNDS = 7  # of which each but the first doubles the steps before it; what is not known then is given up


@dataclass(frozen=True)
class BaseModel:
    """A base model's weights, whole in the first process. known: its steps and, where it was trained until these were
    few, its excess bits on the general domain by the objective as which it is read."""

    weights: Mapping[str, Tensor]
    known: dict[str, Any] = field(default_factory=dict)


@dataclass
class Candidate:
    """A run's base in training. problem: why it is not to be had."""

    run: Run
    counters: TrainingCounters = field(default_factory=TrainingCounters)
    excess: dict[str, float] = field(default_factory=dict)
    found: BaseModel | None = None
    problem: str = ""

    def __post_init__(self) -> None:
        self.contexts = _general_contexts(self.run) if self.run.base.until else None

    @property
    def open(self) -> bool:
        return self.found is None and not self.problem

    def look(self, network: Transformer) -> None:
        """Takes the weights as they are, if that is what the run asks for."""
        run, step = self.run, self.counters.step
        if self.contexts is not None:
            boundary = run.corpus.vocabulary.boundary
            readings = {part.label: part for part in run.base.objective.parts}  # two may be read alike
            self.excess = {
                label: _excess_bits(Predictor(network, part, boundary), self.contexts)
                for label, part in readings.items()
            }
            if from_first(not all(bits <= run.base.until for bits in self.excess.values())):
                return
        whole = whole_weights(network, run.ranks[0] == 0)
        weights = {name: tensor.clone() for name, tensor in whole.items()} if run.base.until else whole  # others go on
        if from_first(finite(weights)):
            known = {"steps": step, "excess_bits": self.excess} if run.base.until else {"steps": step}
            self.found = BaseModel(weights, known)
        else:  # the last step's loss is of the weights before it
            self.problem = (
                f"base model, step {step}: weights that are no numbers: training diverged; type a smaller base.lr "
                f"than {run.base.lr:g}, and out=PATH"
            )

    def result(self) -> BaseModel | RunError:
        if self.found is not None:
            return self.found
        return RunError(
            self.problem
            or f"base model: wanted {self.run.base.until:g} excess bits or fewer on the general domain, got "
            f"{self.reached}; type a larger base.until or budget.base_tokens, and out=PATH"
        )

    @property
    def reached(self) -> str:
        """Its excess bits when it was looked at last."""
        read = ", ".join(f"{bits:.3f} read as {label}" for label, bits in self.excess.items())
        return f"{read} after {self.counters.step} steps"


class AllDivergedError(Exception):
    """Ends a round that none of its bases needs any more."""


def train_bases(runs: Sequence[Run], console: Console) -> list[BaseModel | RunError]:
    """Trains the bases of runs together; each, or why it is not to be had."""
    run, network = runs[0], build_networks(runs)
    candidates, states = [Candidate(one) for one in runs], list[State]()
    for _ in range(ROUNDS if run.base.until else 1):
        done = candidates[0].counters.step
        try:
            states = _train_round(network, candidates, states, done, max(done, run.base_steps), console)
        except AllDivergedError:
            break
        with measured(network, run):
            for i, one in enumerate(candidates):
                if one.open:
                    one.look(network.member(i))
                    if one.excess:
                        console.print(f"base model of seed {one.run.seed}: {one.reached}", soft_wrap=True)
        if not any(one.open for one in candidates):
            break
    return [one.result() for one in candidates]


def _train_round(
    network: Transformer,
    candidates: Sequence[Candidate],
    states: list[State],
    done: int,
    steps: int,
    console: Console,
) -> list[State]:
    """Trains for so many steps more; returns the optimizer's states."""
    run = candidates[0].run
    corpus = run.corpus_for(Domain.general, Split.train)
    size = run.batch, run.accumulate, done, steps, *run.ranks
    feeds = [DataFeed(corpus, one.run.seed, *size, noise=one.run.base.noise) for one in candidates]
    module = TrainingModule(network, [one.run.base for one in candidates], steps, 0, corpus.vocabulary)
    module.optimizer_states = states

    def look(result: StepResult, trainer: Any) -> None:
        loss_S = trainer.strategy.reduce(result.loss, reduce_op="sum")
        for i, one in enumerate(candidates):
            where, rate = f"base model, step {one.counters.step}", one.run.base.lr
            if one.open:
                one.problem = divergence(where, loss_S[i], result.gradient_norm[i], "base.lr", rate)
        if all(one.problem for one in candidates):
            raise AllDivergedError

    counters, size = [one.counters for one in candidates], run.batch * corpus.length
    watch = ProgressCallback("base model", counters, run.budget.every, frozenset({done + steps}), size, look, console)
    return fit(module, feeds, watch, run)


def _general_contexts(run: Run) -> ContextSet:
    """Those on which a run's rows say what is known of the general domain before it trains."""
    probe = next(p for p in probes(run) if p.domain is Domain.general)
    return probe.prepare(run.corpus_for(probe.domain, probe.split), run.seed).context_sets[0]


def _excess_bits(predict: Predictor, contexts: ContextSet) -> float:
    rows = knowledge_rows(predict, contexts, False, False)
    return next(float(str(row["value"])) for row in rows if row["metric"] == "excess_bits")


def finite(weights: Mapping[str, Tensor]) -> bool:
    """Are all of them numbers?"""
    return all(bool(tensor.isfinite().all()) for tensor in weights.values())

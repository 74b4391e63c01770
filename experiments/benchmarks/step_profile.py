"""What a training step spends its time on: products, attention, optimizer, data, noise, Python.

Shapes: S seeds that train together.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from rich import box
from rich.table import Table
from torch.profiler import ProfilerActivity, profile, record_function

from ablate.compute.device import Precision
from ablate.compute.execution import keep_freed_memory
from ablate.compute.optimizer import AdamW, adamw
from ablate.compute.train_step import autocast, update
from ablate.core.corpus import Domain, Split
from ablate.decoding.predictor import Predictor
from ablate.model.transformer import Transformer
from ablate.objectives.loss import score_all
from ablate.training.data_feed import DataFeed
from ablate.training.networks import build_networks
from ablate.training.probe_plan import probes
from ablate.training.resolution import resolve
from ablate.training.run_config import Run
from experiments.cli.compose import jobs
from experiments.cli.run_command import RUN

WORDS = ["budget=study", "batch=32", "threads=1", "device=cpu", "corpus=trace", "corpus.new_operators=12"]
# What an operator's name tells, the first that fits; what fits none is elementwise work
KINDS = {
    "products": ("mm", "addmm", "bmm", "baddbmm", "_mkl", "mkldnn"),
    "attention": ("_scaled_dot_product",),
    "softmax and loss": ("softmax", "logsumexp", "_Scored"),
    "norm": ("rms_norm", "_fused_rms_norm", "rsqrt", "pow"),
    "optimizer and clipping": ("_fused_adamw_", "linalg_vector_norm", "Optimizer."),
    "compiled operators": ("## Call CompiledFxGraph", "CompiledFunction", "Torch-Compiled"),
}
RANGES = ("data", "noise")  # ranges of the profile that are a kind as a whole


@dataclass
class Loop:
    """A plain training loop of S seeds of one run: data, noise, step. It is what a session does apart from Lightning,
    probes and checkpoints."""

    runs: list[Run]
    network: Transformer = field(init=False)
    optimizer: AdamW = field(init=False)
    taken: int = 0

    def __post_init__(self) -> None:
        run = self.runs[0]
        self.stage, self.precision = run.regime.stages[0], Precision(run.precision)
        self.network = build_networks(self.runs)
        self.optimizer = adamw(self.network, *[self.stage] * len(self.runs))
        corpus, total = run.corpus_for(Domain.new, Split.train), sum(run.stage_steps)
        self.feeds = [DataFeed(corpus, one.seed, run.batch, 1, 0, total) for one in self.runs]

    @classmethod
    def of(cls, operations: int, seeds: int, compiled: bool, regime: str = "ar_to_bidllm") -> Loop:
        """On traces of so many operations."""
        RUN.register()
        words = [*WORDS, f"regime={regime}", f"corpus.operations={operations}"]
        words += [f"compile={'always' if compiled else 'never'}", f"seed={','.join(map(str, range(seeds)))}"]
        return cls([resolve(run) for run in jobs(RUN, [*words, *["-m"] * (seeds > 1)])])

    def step(self) -> None:
        place = self.taken % len(self.feeds[0])
        self.taken += 1
        with record_function("data"):
            batches = [feed[place] for feed in self.feeds]
        with record_function("noise"):
            vocabulary = self.feeds[0].corpus.vocabulary
            problems = [self.stage.objective.pose(b.tokens_BL, b.address, vocabulary) for b in batches]
        counts = [batch.scorable for batch in batches]
        self.optimizer.zero_grad()
        with autocast(self.runs[0].device, self.precision):
            part = score_all(self.network, problems, counts)
        update(part.loss, self.network.parameters(), self.optimizer, *[self.stage.clip_norm] * len(self.runs))

    def probe(self) -> float:
        """CPU seconds of every probe of every seed, once."""
        run = self.runs[0]
        sets = [probe.prepare(run.corpus_for(probe.domain, probe.split), run.seed) for probe in probes(run)]
        objective, boundary = self.stage.objective, run.corpus.vocabulary.boundary
        begun = time.process_time()
        for i in range(len(self.runs)):
            predict = Predictor(self.network.member(i), objective, boundary)
            for one in sets:
                one.measure(predict, objective.left_to_right, objective.reading.size)
        return time.process_time() - begun


def shares(operations: int, seeds: int, compiled: bool, regime: str, steps: int) -> dict[str, Any]:
    """Share of a step's CPU time by kind, and the probes' of a whole run. Call in a fresh process."""
    torch.set_num_threads(1)
    keep_freed_memory()
    loop = Loop.of(operations, seeds, compiled, regime)
    for _ in range(3):
        loop.step()
    begun = time.process_time()
    for _ in range(steps):
        loop.step()
    plain = (time.process_time() - begun) / steps
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(steps):
            loop.step()
    run = loop.runs[0]
    total, pauses, asked = sum(run.stage_steps), len(run.pauses()) + len(run.regime.stages), loop.probe()
    return {
        "regime": regime,
        "seeds": seeds,
        "compiled": compiled,
        "length": run.corpus.length,
        "precision": run.precision,
        "ms_a_step": 1000 * plain,
        "shares": _shares(profiled),
        "probes": pauses * asked / (pauses * asked + total * plain),
    }


def _shares(profiled: profile) -> dict[str, float]:
    """Of the profiled time by kind of operator; what no operator took is Python's."""
    seconds: Counter[str] = Counter()
    within: Counter[str] = Counter()
    events = profiled.events() or []
    for event in events:
        if event.name in RANGES:
            seconds[event.name] += event.cpu_time_total
            continue
        parent = event.cpu_parent
        while parent is not None and parent.name not in RANGES:
            parent = parent.cpu_parent
        if parent is None:
            within[_kind(event.name)] += event.self_cpu_time_total
    seconds += within
    first, last = min(e.time_range.start for e in events), max(e.time_range.end for e in events)
    seconds["Python"] = max(0, last - first - sum(seconds.values()))
    total = sum(seconds.values())
    return {kind: took / total for kind, took in seconds.most_common()}


def _kind(name: str) -> str:
    short = name.removeprefix("aten::")
    for kind, starts in KINDS.items():
        if short.startswith(starts):
            return kind
    return "elementwise"


def table(entries: list[dict[str, Any]]) -> Table:
    """A column for each that was profiled, a line for each kind."""
    lines = Table("share of a step, %", box=box.SIMPLE, title="Where a training step's time goes")
    for e in entries:
        lines.add_column(
            f"{e['regime']}\nL={e['length']}, S={e['seeds']}{', compiled' * e['compiled']}", justify="right"
        )
    kinds = sorted({kind for e in entries for kind in e["shares"]}, key=lambda k: -entries[0]["shares"].get(k, 0))
    for kind in kinds:
        lines.add_row(kind, *(f"{100 * e['shares'].get(kind, 0):.1f}" for e in entries))
    lines.add_section()
    lines.add_row("ms a step", *(f"{e['ms_a_step']:.1f}" for e in entries))
    lines.add_row("probes, % of a run", *(f"{100 * e['probes']:.0f}" for e in entries))
    return lines

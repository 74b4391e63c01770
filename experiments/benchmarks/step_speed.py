"""Whole training steps beside transformers' Llama: the same network, the same problems, and a race in turns.

Shapes: B batch, L positions, V vocabulary.
"""

from __future__ import annotations

import os
import tempfile
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from rich import box
from rich.table import Column, Table
from torch import Tensor, nn

from ablate.compute.device import Device, Precision, attention_form, resolve_precision
from ablate.compute.execution import prepare
from ablate.compute.optimizer import adamw
from ablate.compute.train_step import autocast, update
from ablate.core.corpus import Vocabulary
from ablate.core.rng import generator
from ablate.model.attention import CAUSAL, FULL, Attention, Form, Pattern
from ablate.model.config import ModelConfig
from ablate.model.transformer import Transformer, initialise
from ablate.noise.options import BatchAddress, Clip, Guard
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.loss import loss_of
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.problem import Objective, Problem
from ablate.objectives.regime import Stage
from experiments.benchmarks.llama_peer import llama_forward, llama_loss, llama_of, logit_difference
from experiments.benchmarks.run_speed import parameters
from experiments.benchmarks.timing import middle, spread

SHAPE = ModelConfig(128, 4, 4, 4, hidden=344, vocabulary=512)
MASK = SHAPE.vocabulary - 1
STAGE = Stage(Autoregressive())  # read for AdamW's and clipping's settings
PEER, TWICE = "Llama", "ours, 2 draws"
TOLERANCE = 1e-4  # of logits, fp32: the two sum in different orders
WARMUP = 3  # steps after the first, of every contestant, before any is timed
SIDE = 1024  # of the square matrices whose product is the peak
DTYPES = {Precision.fp32: torch.float32, Precision.bf16: torch.bfloat16}


@dataclass(frozen=True)
class Course:
    """What a race is run on. twice: the same objective with two noisy copies, where it has such."""

    objective: Objective
    batch: int = 32
    length: int = 128
    twice: Objective | None = None

    def problems(self, objective: Objective, steps: int) -> list[Problem]:
        """Problems of the first steps. Posed in advance: data are not part of a step."""
        rows = [BatchAddress(0, step, np.arange(self.batch), self.batch) for step in range(steps)]
        return [objective.pose(tokens(self.batch, self.length), r, Vocabulary.unnamed(MASK + 1)) for r in rows]


BLOCK, BLOCKS = (BlockDiffusion(4, clip=Clip.atom, guard=Guard.force, draws=n) for n in (1, 2))
COURSES = {
    "AR": Course(Autoregressive()),
    "masked": Course(MaskedDiffusion()),
    "block-128": Course(BLOCK, 32, 128, BLOCKS),
    "block-512": Course(BLOCK, 8, 512, BLOCKS),
}


@dataclass
class Contestant:
    """A network with its optimizer and its problems. attention: how its attention is computed."""

    name: str
    network: nn.Module
    loss: Callable[[Problem, int], Tensor]
    precision: Precision
    attention: str
    problems: list[Problem]
    batch: int
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.optimizer = adamw(self.network, STAGE)

    def seconds(self, problems: list[Problem]) -> tuple[float, float]:
        """Wall time of one step on each problem, and the last loss (nats)."""
        loss = torch.zeros(())
        start = time.perf_counter()
        for problem in problems:
            self.optimizer.zero_grad()
            with autocast(Device.cpu, self.precision):
                loss = self.loss(problem, self.batch)
            update(loss, self.network.parameters(), self.optimizer, STAGE.clip_norm)
        return time.perf_counter() - start, float(loss)

    @property
    def scored(self) -> int:
        """Tokens scored by one step on each problem."""
        return sum(int((problem.weight_RL > 0).sum()) for problem in self.problems)


def race(name: str, threads: int, rounds: int, steps: int) -> dict[str, Any]:
    """Times every contestant on one objective, in turns of `steps` steps; call in a fresh process.

    Raises RuntimeError if the peer does not compute what our network computes.
    """
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # empty: the first compiled step pays for compiling
        difference, course = check_equal(), COURSES[name]
        racers = contestants(course, steps)
        first = [c.seconds(c.problems[:1]) for c in racers]
        for c in racers:
            c.seconds((c.problems * WARMUP)[: max(WARMUP, steps)])  # every problem once: each has its own shape
        seconds: dict[str, list[float]] = {c.name: [] for c in racers}
        peaks = {c.precision: 0.0 for c in racers}
        for _ in range(rounds):
            for c in racers:
                c.seconds(c.problems[:1])  # not timed: the one before has the caches
                seconds[c.name].append(c.seconds(c.problems)[0])
            peaks = {p: max(best, _matmul_rate(DTYPES[p])) for p, best in peaks.items()}
    return {
        "objective": name,
        "batch": course.batch,
        "length": course.length,
        "threads": threads,
        "largest_logit_difference_fp32": difference,
        "matmul_peak_flops_per_second": {p.value: rate for p, rate in peaks.items()},
        "contestants": [
            _entry(c, course, seconds[c.name], seconds[PEER], peaks[c.precision])
            | {"first_step_seconds": start, "first_loss_nats": loss}
            for c, (start, loss) in zip(racers, first, strict=True)
        ],
    }


def contestants(course: Course, steps: int) -> list[Contestant]:
    """The peer at its defaults, then ours: as the rules for this machine have it, the same compiled, in fp32, and of
    noisy and clean halves also the dense mask and two draws."""
    precision = resolve_precision(Precision.auto, Device.cpu)
    rule = attention_form(Device.cpu, precision)
    llama = llama_of(ours())
    problems = course.problems(course.objective, steps)
    peer = partial(llama_loss, llama)
    racers = [Contestant(PEER, llama, peer, Precision.fp32, llama.config._attn_implementation, problems, course.batch)]
    choices = [("ours", precision, rule, False), ("ours, compiled", precision, rule, True)]
    if precision is not Precision.fp32:
        choices.append(("ours, fp32", Precision.fp32, attention_form(Device.cpu, Precision.fp32), False))
    if course.twice is not None:
        choices += [("ours, dense mask", precision, Form.dense, False), (TWICE, precision, rule, False)]
    for name, choice, form, compiled in choices:
        network = prepare(ours(form), compiled)
        posed = course.problems(course.twice, steps) if name == TWICE and course.twice else problems
        loss = partial(loss_of, network)
        racers.append(Contestant(name, network, loss, choice, form.value, posed, course.batch))
    return racers


def ours(form: Form = Form.sdpa) -> Transformer:
    """Our network at the benchmark's shape, its weights the same at every call."""
    network = Transformer(SHAPE, SHAPE.vocabulary, MASK, form)
    initialise(network, 0)
    return network


def check_equal() -> float:
    """Largest logit difference in fp32 over all patterns raced. Raises RuntimeError above TOLERANCE."""
    network = ours()
    forward = llama_forward(llama_of(network))
    patterns = (CAUSAL, FULL, Pattern(Attention.block, 4, 1))
    worst = max(logit_difference(network, forward, pattern, tokens(2, 128)) for pattern in patterns)
    if not worst <= TOLERANCE:
        raise RuntimeError(f"{PEER}: wanted our logits within {TOLERANCE}, got {worst:.2g} off: not the same network")
    return worst


def tokens(rows: int, length: int) -> Tensor:
    """(rows, length) random tokens other than MASK: a step's time does not depend on them."""
    return torch.from_numpy(generator(0, "bench").integers(0, MASK, (rows, length)))


def _matmul_rate(dtype: torch.dtype) -> float:
    """Of the fastest of three matrix products, FLOP/s."""
    a, b = torch.randn(2, SIDE, SIDE).to(dtype)
    return 2 * SIDE**3 / min(timeit.repeat(lambda: torch.mm(a, b), number=1, repeat=3))


def _entry(c: Contestant, course: Course, seconds: list[float], peer: list[float], peak: float) -> dict[str, Any]:
    """One contestant's numbers; its ratio is taken within each round, where both met the same machine. Tokens are those
    of the clean sequences; scored ones are counted apart."""
    steps = len(c.problems)
    done = course.batch * course.length * steps
    rate = spread(done / s for s in seconds)
    return {
        "network": c.name,
        "precision": c.precision.value,
        "attention": c.attention,
        "parameters": parameters(c.network),
        "seconds_per_step": [s / steps for s in seconds],
        "tokens_per_second": rate,
        "scored_per_second": spread(c.scored / s for s in seconds),
        "speed_over_peer": spread(p / s for p, s in zip(peer, seconds, strict=True)),
        "share_of_matmul_peak": rate["median"] * SHAPE.flops(course.length, SHAPE.vocabulary) / peak,
    }


def table(races: list[dict[str, Any]]) -> Table:
    """A line per contestant, a section per race."""
    numbers = [
        Column(name, justify="right", no_wrap=True) for name in ("1000 tok/s", f"x {PEER}", "scored/s", "peak", "first")
    ]
    title = "Whole training steps: median (quartiles)"
    lines = Table(Column("network", no_wrap=True), *numbers, box=box.SIMPLE, pad_edge=False, title=title)
    for race in races:
        lines.add_row(f"{race['objective']}, {race['threads']} thread(s)", style="bold")
        for c in race["contestants"]:
            lines.add_row(
                f"{c['network']} ({c['precision']})",
                middle(c["tokens_per_second"], ".1f", 1000),
                "1" if c["network"] == PEER else middle(c["speed_over_peer"], ".2f"),
                f"{c['scored_per_second']['median'] / 1000:.1f}",
                f"{c['share_of_matmul_peak']:.0%}",
                f"{c['first_step_seconds']:.1f}",
            )
        lines.add_section()
    return lines


def notes(races: list[dict[str, Any]]) -> str:
    """How to read the table."""
    field = max((race["contestants"] for race in races), key=len)
    peaks = [
        f"{r['objective']}, {r['threads']} thread(s), {p} {rate / 1e9:.0f}"
        for r in races
        for p, rate in r["matmul_peak_flops_per_second"].items()
    ]
    return f"""networks: {field[0]["parameters"]:,} parameters, {SHAPE.layers} layers, width {SHAPE.width}
tokens: of the sequences as they are, not of their noisy copies; scored: 1000 tokens a second that were scored
largest difference of logits, fp32: {max(r["largest_logit_difference_fp32"] for r in races):.1g}
attention: {"; ".join(f"{c['network']}: {c['attention']}" for c in field)}; {PEER} reads noisy and clean halves as one
sequence under a dense mask
x {PEER}: speed over {PEER}'s in the same round
peak: FLOPs of those sequences, as a share of the best {SIDE}^3 product at this precision, GFLOP/s: {"; ".join(peaks)}
first: seconds of the first step; for compiled networks, with compiling"""

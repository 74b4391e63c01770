"""One real optimisation step of any shape on the CPU, in as little memory as AdamW takes. See --help.

    python experiments/one_step.py model=2.5b

It shows, before a machine is rented, that a shape is built, filled, trained and learns: the same problem is posed
before and after the step. State: weights, gradients and AdamW's two moments in bf16. Each parameter is stepped as soon
as its gradient is there, so that gradients never lie there all at once; clipping would want them all, and is left out.
2.5b takes 20 GB and a minute on two cores.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ablate.core.provenance import peak_memory
from ablate.model.config import ModelConfig
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.regime import Stage
from experiments.cli.command import Command
from experiments.cli.entry import main
from experiments.cli.help_text import groups, keys

if TYPE_CHECKING:
    from torch import Tensor

    from ablate.model.transformer import Transformer
    from ablate.objectives.problem import Problem

VOCABULARY = 512  # of a shape that leaves it to the corpus
MOST = 2**16  # tokens: this is about one step, not about a batch


@dataclass
class OneStep:
    """One step on `batch` sequences of `length` random tokens. stage: its objective and learning rate.

    Raises ValueError for sizes below 1 and 2.
    """

    model: ModelConfig
    stage: Stage = field(default_factory=lambda: Stage(Autoregressive(), lr=1e-4))
    length: int = 64
    batch: int = 1
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        if self.length < 2 or self.batch < 1 or not 0 <= self.threads <= 1024 or self.length * self.batch > MOST:
            raise ValueError(
                f"length={self.length}, batch={self.batch}, threads={self.threads}: wanted at least 2, 1, 0, at most "
                f"{MOST} tokens and 1024 threads; type length=64 batch=1 threads=0"
            )
        if 0 < self.model.vocabulary < 3:
            raise ValueError(
                f"model.vocabulary={self.model.vocabulary}: wanted two tokens and MASK; type model.vocabulary=0"
            )

    @property
    def vocabulary(self) -> int:
        return self.model.vocabulary or VOCABULARY

    @property
    def mask_id(self) -> int:
        return self.vocabulary - 1


def one_step_help() -> str:
    """The same of one step."""
    lines = ["One real optimisation step of any shape on the CPU, in bf16: about 8 bytes a parameter.", ""]
    lines += ["  python experiments/one_step.py model=2.5b [length=N] [key=value ...]", ""]
    lines += [*groups("model"), keys(OneStep)]
    return "\n".join(lines)


def check(asked: list[OneStep]) -> list[OneStep]:
    """Raises ValueError if weights and moments, 6 bytes a parameter, cannot fit into this machine's memory."""
    from ablate.compute.device import Device, require_memory

    for one in asked:
        require_memory(one.model.parameters(one.vocabulary), Device.cpu, 6)
    return asked


def build(one: OneStep) -> tuple[Transformer, float]:
    """The network in bf16, filled from its seed; and the seconds that it took on meta, without memory."""
    import torch

    from ablate.compute.device import Device, Precision, Recompute, attention_form
    from ablate.compute.execution import prepare
    from ablate.model.transformer import Transformer, initialise

    start = time.perf_counter()
    with torch.device("meta"):
        form = attention_form(Device.cpu, Precision.bf16)
        network = Transformer(one.model, one.vocabulary, one.mask_id, form)
    seconds = time.perf_counter() - start
    for parameter in network.parameters():
        parameter.data = parameter.data.bfloat16()  # but not the tables: positions need fp32
    network.to_empty(device="cpu")
    network.fill_tables()
    initialise(network, one.seed)
    return prepare(network, compiled=False, recompute=Recompute.full), seconds


def posed(one: OneStep) -> Problem:
    """The problem of random tokens, whose numbers have nothing to do with what a step takes."""
    import numpy as np
    import torch

    from ablate.core.corpus import Vocabulary
    from ablate.core.rng import generator
    from ablate.noise.options import BatchAddress

    tokens_BL = generator(one.seed, "one step").integers(0, one.mask_id, (one.batch, one.length))
    address = BatchAddress(one.seed, 0, np.arange(one.batch), one.batch)
    return one.stage.objective.pose(torch.from_numpy(tokens_BL), address, Vocabulary.unnamed(one.vocabulary))


def step_early(network: Transformer, stage: Stage) -> None:
    """From now on each parameter is stepped as soon as its gradient is there, which is then dropped."""
    import torch

    from ablate.compute.optimizer import adamw

    for parameter in network.parameters():
        optimizer = adamw(torch.nn.ParameterList([parameter]), stage)

        def update(p: Tensor, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.step()
            p.grad = None

        parameter.register_post_accumulate_grad_hook(update)


def step(one: OneStep) -> dict[str, float]:
    """Nats a scorable token before and after one step, seconds of each part, peak bytes."""
    import torch

    from ablate.objectives.loss import loss_of

    if one.threads:
        torch.set_num_threads(one.threads)
    start = time.perf_counter()
    network, meta = build(one)
    step_early(network, one.stage)
    problem, built = posed(one), time.perf_counter()
    before = loss_of(network, problem, one.batch)
    before.backward()
    stepped = time.perf_counter()
    with torch.no_grad():
        after = loss_of(network, problem, one.batch)
    return {
        "before": float(before.detach()),
        "after": float(after),
        "peak": peak_memory(),
        "meta": meta,
        "weights": built - start - meta,
        "step": stepped - built,
    }


def job(one: OneStep) -> None:
    """Takes the step and prints what it took."""
    found = step(one)
    count = one.model.parameters(one.vocabulary)
    print(f"{count:,} parameters, {one.stage.objective.label}, {one.batch} x {one.length} tokens")
    print("state: weights, gradients and AdamW's two moments in bf16, each parameter stepped in the backward pass")
    print(f"on meta {found['meta']:.2f} s, weights filled {found['weights']:.0f} s, step {found['step']:.0f} s")
    print(
        f"loss {found['before']:.4f} before, {found['after']:.4f} after, nats a token; log V is "
        f"{math.log(one.vocabulary - 1):.4f}"
    )
    print(f"peak memory {found['peak'] / 1e9:.2f} GB, {found['peak'] / count:.2f} bytes a parameter")


COMMAND = Command("one_step.py", lambda: OneStep, ("model",), one_step_help, check)

if __name__ == "__main__":
    main(COMMAND, job)

"""One real optimisation step of any shape on the CPU, in as little memory as AdamW takes. See --help.

    python experiments/one_step.py model=2.5b

It shows, before a machine is rented, that a shape is built, filled, trained and learns: the same problem is posed
before and after the step. State: weights, gradients and AdamW's two moments in bf16. Each parameter is stepped as soon
as its gradient is there, so that gradients never lie there all at once; clipping would want them all, and is left out.
2.5b takes 20 GB and three minutes on two cores.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__" and not sys.path[0].endswith("site-packages"):
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # `experiments` is a package of this folder

from ablate.objective import Autoregressive
from ablate.regime import Stage
from ablate.shape import Shape
from experiments.cli import Command, main
from experiments.help import one_step_help

VOCABULARY = 512  # of a shape that leaves it to the corpus


@dataclass
class OneStep:
    """One step on `batch` sequences of `length` random tokens. stage: its objective and learning rate.

    Raises ValueError for sizes below 1 and 2.
    """

    model: Shape
    stage: Stage = field(default_factory=lambda: Stage(Autoregressive(), lr=1e-4))
    length: int = 64
    batch: int = 1
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        if self.length < 2 or self.batch < 1 or self.threads < 0:
            raise ValueError(f"length={self.length}, batch={self.batch}, threads={self.threads}: wanted at least 2, 1 "
                             "and 0; type length=64 batch=1 threads=0")  # fmt: skip

    @property
    def vocabulary(self) -> int:
        return self.model.vocabulary or VOCABULARY


def check(asked: list[OneStep]) -> list[OneStep]:
    """Raises ValueError if weights and moments, 6 bytes a parameter, cannot fit into this machine's memory."""
    from ablate.machine import Device, require_memory

    for one in asked:
        require_memory(one.model.parameters(one.vocabulary), Device.cpu, 6)
    return asked


def step(one: OneStep) -> dict[str, float]:
    """Builds, fills, poses and steps; nats a scorable token before and after, seconds of each part, peak bytes."""
    import numpy as np
    import torch

    from ablate.engine import prepare
    from ablate.loss import loss_of
    from ablate.machine import Device, Precision, Recompute, attention_form
    from ablate.model import Transformer, initialise
    from ablate.noise import Rows
    from ablate.optimiser import adamw
    from ablate.seeds import generator

    if one.threads:
        torch.set_num_threads(one.threads)
    clock, seconds = time.perf_counter(), {}

    def lap(name: str) -> None:
        nonlocal clock
        seconds[name], clock = time.perf_counter() - clock, time.perf_counter()

    mask_id = one.vocabulary - 1
    with torch.device("meta"):
        form = attention_form(Device.cpu, Precision.bf16)
        network = Transformer(one.model, one.vocabulary, mask_id, form)
    lap("meta")
    for parameter in network.parameters():
        parameter.data = parameter.data.bfloat16()  # but not the tables: positions need fp32
    network.to_empty(device="cpu")
    network.fill_tables()
    initialise(network, one.seed)
    prepare(network, compiled=False, recompute=Recompute.full)
    lap("weights")
    tokens = torch.from_numpy(generator(one.seed, "one step").integers(0, mask_id, (one.batch, one.length)))
    problem = one.stage.objective.pose(tokens, Rows(one.seed, 0, np.arange(one.batch), one.batch), mask_id)
    for parameter in network.parameters():
        optimiser = adamw(torch.nn.ParameterList([parameter]), one.stage)

        def update(p: torch.Tensor, optimiser: torch.optim.Optimizer = optimiser) -> None:
            optimiser.step()
            p.grad = None

        parameter.register_post_accumulate_grad_hook(update)
    before = loss_of(network, problem, one.batch)
    before.backward()
    lap("step")
    with torch.no_grad():
        after = loss_of(network, problem, one.batch)
    lap("again")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"before": float(before.detach()), "after": float(after), "peak": peak, **seconds}


def job(one: OneStep) -> None:
    """Takes the step and prints what it took."""
    found = step(one)
    count = one.model.parameters(one.vocabulary)
    print(f"{count:,} parameters, {one.stage.objective.label}, {one.batch} x {one.length} tokens")
    print("state: weights, gradients and AdamW's two moments in bf16, each parameter stepped in the backward pass")
    print(f"on meta {found['meta']:.2f} s, weights filled {found['weights']:.0f} s, step {found['step']:.0f} s")
    print(f"loss {found['before']:.4f} before, {found['after']:.4f} after, nats a token; log V is "
          f"{math.log(one.vocabulary - 1):.4f}")  # fmt: skip
    print(f"peak memory {found['peak'] / 1e9:.2f} GB, {found['peak'] / count:.2f} bytes a parameter")


COMMAND = Command("one_step.py", lambda: OneStep, ("model",), one_step_help, check)

if __name__ == "__main__":
    main(COMMAND, job)

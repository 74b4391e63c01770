"""One contestant of `bench.py train`: whole training steps of one network on one objective, in a process of its own.

It needs torch and numpy alone. Shapes: B sequences, L positions.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ablate.compute.device import Device, Precision, Recompute, attention_form, resolve_device, resolve_precision
from ablate.compute.execution import prepare
from ablate.compute.memory import Step, memory_of
from ablate.compute.optimizer import adamw
from ablate.compute.train_step import train_step
from ablate.compute.training_plan import Plan, pattern_of
from ablate.core.corpus import Vocabulary
from ablate.core.provenance import peak_memory
from ablate.core.rng import generator
from ablate.model.attention import Form
from ablate.model.config import ModelConfig
from ablate.model.transformer import Transformer
from ablate.noise.options import BatchAddress
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.problem import Objective, Problem
from ablate.objectives.regime import Stage

STAGE = Stage(Autoregressive())  # read for AdamW's and clipping's settings
POSED = 4  # problems, taken in turn: masks of several draws
# Dense bf16 products, FLOP/s, as the makers have it; the first name that a card's own contains
PEAKS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
SIDE = {Device.cuda: 8192, Device.cpu: 1024}  # of the square matrices whose product is the peak of what is not listed
OUT_OF_MEMORY = "out of memory"
# what is said where memory is short, by the CPU's allocator, the driver and cuBLAS, who have no exception for it
SHORT = ("out of memory", "can't allocate memory", "alloc_failed")


@dataclass(frozen=True)
class Case:
    """What is measured. form: of attention; None: as the rules choose. memory: bytes that may be taken."""

    shape: ModelConfig
    objective: Objective
    context: int
    batch: int
    recompute: Recompute
    compiled: bool
    steps: int
    warmup: int
    form: Form | None
    memory: int

    @property
    def device(self) -> Device:
        return resolve_device(Device.auto)

    @property
    def precision(self) -> Precision:
        return resolve_precision(Precision.auto, self.device)

    @property
    def attention(self) -> Form:
        return self.form or attention_form(self.device, self.precision)

    @property
    def vocabulary(self) -> int:
        return self.shape.vocabulary or Plan.vocabulary

    def planned(self) -> int:
        """Bytes that a step is planned to take at most (eager layers; every output scored that can be)."""
        pattern = pattern_of(self.objective)
        scored = self.batch * (self.context - 1) * max(1, pattern.draws)
        return memory_of(
            Step(
                self.shape,
                self.vocabulary,
                pattern,
                self.context,
                self.batch,
                scored,
                self.device,
                self.precision,
                self.attention,
                self.recompute,
            )
        ).peak

    def problems(self) -> list[Problem]:
        """Posed in advance and moved: data are not part of a step."""
        posed = []
        for step in range(POSED):
            rows = BatchAddress(0, step, np.arange(self.batch), self.batch)
            shape = (self.batch, self.context)
            drawn = generator(0, "bench", step).integers(0, self.vocabulary - 1, shape)
            problem = self.objective.pose(torch.from_numpy(drawn), rows, Vocabulary.unnamed(self.vocabulary))
            moved = {
                name: value.to(self.device.value) for name, value in vars(problem).items() if isinstance(value, Tensor)
            }
            posed.append(replace(problem, **moved))
        return posed


def measure(case: Case, fresh: bool = True) -> dict[str, Any]:
    """Seconds of every step and the most memory. fresh: is what was compiled earlier not to be used? Where memory is
    short, `failed` says so."""
    if fresh:
        torch.compiler.config.force_disable_caches = True
    try:
        return _measured(case)
    except torch.OutOfMemoryError:
        return {"failed": OUT_OF_MEMORY}
    except RuntimeError as error:
        if any(words in str(error).lower() for words in SHORT):
            return {"failed": OUT_OF_MEMORY}
        raise


def _measured(case: Case) -> dict[str, Any]:
    on_card = case.device is Device.cuda
    if on_card:
        torch.cuda.set_per_process_memory_fraction(min(1.0, case.memory / memory_here()))
    network = network_of(case)
    optimizer, problems = adamw(network, STAGE), case.problems()
    seconds, losses = [], []
    for i in range(1 + case.warmup + case.steps):
        if on_card and i == 1 + case.warmup:
            torch.cuda.reset_peak_memory_stats()
        start = _now(on_card)
        problem, scorable = problems[i % POSED], case.batch * (case.context - 1)
        result = train_step(network, optimizer, problem, scorable, STAGE.clip_norm, case.device, case.precision)
        losses.append(result.loss)
        seconds.append(_now(on_card) - start)
    peak = torch.cuda.max_memory_allocated() if on_card else peak_memory()
    first, last = (float(losses[i]) for i in (0, -1))
    if not np.isfinite([first, last]).all():
        return {"failed": f"loss {first:g} at first, {last:g} at last: wanted finite numbers"}
    return {
        "precision": case.precision.value,
        "attention": case.attention.value,
        "recompute": case.recompute.value,
        "compiled": case.compiled,
        "batch": case.batch,
        "first_step_seconds": seconds[0],
        "step_seconds": seconds[1 + case.warmup :],
        "peak_bytes": peak,
        "first_loss_nats": first,
        "last_loss_nats": last,
        "threads": torch.get_num_threads(),
    }


def network_of(case: Case) -> Transformer:
    """The network as the run's rules prepare it, random weights made where it is: a step's time does not depend on
    them, and addressed ones would be made by the CPU."""
    with torch.device("meta"):
        network = Transformer(case.shape, case.vocabulary, case.vocabulary - 1, case.attention)
    network.to_empty(device=case.device.value)
    network.fill_tables()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.normal_(0, 0.02) if parameter.dim() > 1 else parameter.fill_(not name.endswith("bias"))
    return prepare(network, case.compiled, case.recompute)


def peak_of() -> dict[str, Any]:
    """FLOP/s of the device at its best, in the precision that the rules choose, and where the number is from."""
    device = resolve_device(Device.auto)
    precision = resolve_precision(Precision.auto, device)
    name = torch.cuda.get_device_name() if device is Device.cuda else ""
    known = next((rate for part, rate in PEAKS.items() if part in name), None)
    if known and precision is Precision.bf16:
        return {"flops_per_second": known, "source": f"the maker's figure for {name}, dense bf16"}
    side = SIDE[device]
    a, b = torch.randn(2, side, side, device=device.value).to(
        torch.bfloat16 if precision is Precision.bf16 else torch.float32
    )
    turns = []
    for _ in range(6):
        start = _now(device is Device.cuda)
        torch.mm(a, b)
        turns.append(_now(device is Device.cuda) - start)
    source = (
        f"the best of {len(turns)} products of {side}^3 measured here, {precision}, {torch.get_num_threads()} threads"
    )
    return {"flops_per_second": 2 * side**3 / min(turns), "source": source}


def memory_here() -> int:
    """Bytes of the device."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _now(on_card: bool) -> float:
    if on_card:
        torch.cuda.synchronize()
    return time.perf_counter()

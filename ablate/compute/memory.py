"""Memory of a training step, found by going through the step itself on tensors that have shapes but no storage.

What the network saves for its backward pass, what the head makes, when gradients appear: nothing of it is stated here.
The step runs under FakeTensorMode, every storage that comes to be is weighed and labelled, and its end is watched.

Shapes: R rows, L positions, N scored outputs, V vocabulary.
"""

from __future__ import annotations

import weakref
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ablate.compute.device import Device, Precision, Recompute
from ablate.compute.execution import prepare
from ablate.compute.fake_cuda import as_on
from ablate.compute.optimizer import adamw
from ablate.compute.train_step import clip_gradients, update
from ablate.model.attention import TABLES, Form, Pattern
from ablate.model.config import ModelConfig
from ablate.model.transformer import Transformer
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.regime import Stage


class Part(StrEnum):
    """What a storage is for. cast: weights in autocast's precision, kept until the backward pass is over. activations:
    made by the layers before the backward pass. logits: what the head makes. other: what the backward pass makes and
    drops, activations recomputed among it."""

    weights = "weights"
    gradients = "gradients"
    optimizer = "optimizer"
    cast = "cast"
    activations = "activations"
    logits = "logits"
    other = "other"


LASTING = (Part.weights, Part.gradients, Part.optimizer)  # what sharding divides


@dataclass(frozen=True)
class Step:
    """What is gone through: one process's training step.

    batch: sequences of a micro-step. scored: its scored outputs. form: of attention on `device`. carried: have earlier
    micro-steps of the same step left gradients? sharded: are weights of layers there only while they are used, in the
    precision of their products (FSDP2), instead of being cast by autocast?
    """

    shape: ModelConfig
    vocabulary: int
    pattern: Pattern
    length: int
    batch: int
    scored: int
    device: Device
    precision: Precision
    form: Form
    recompute: Recompute = Recompute.none
    every: int = 1
    carried: bool = False
    sharded: bool = False


@dataclass(frozen=True)
class Memory:
    """Bytes that torch has handed out: `peak`, the parts it has at that moment, and the most of each part, which need
    not come together."""

    peak: int
    at_peak: dict[Part, int]
    most: dict[Part, int]


def memory_of(step: Step) -> Memory:
    """The most memory that a step takes once its optimizer has its state: of eager layers, so an upper bound for
    compiled ones, which recompute some cheap activations. Of a sharded step, all but `LASTING` (see `Plan`)."""
    tables = [table.cache_clear for table in TABLES]  # what they hold belongs to one mode, fake or real
    for clear in tables:
        clear()
    with torch.device("meta"):
        network = Transformer(step.shape, step.vocabulary, step.vocabulary - 1, step.form)
    prepare(network, False, step.recompute, step.every)
    mixed = torch.bfloat16 if step.precision is Precision.bf16 else torch.float32
    try:
        with FakeTensorMode(), as_on(step.device):
            _allocate(network, mixed if step.sharded else torch.float32)
            scale = _Scale(step.sharded)
            with scale:
                _go(network, step, mixed, scale)
    finally:
        for clear in tables:
            clear()
    return Memory(scale.peak, {part: scale.at_peak[part] for part in Part}, {part: scale.most[part] for part in Part})


def _allocate(network: Transformer, dtype: torch.dtype) -> None:
    """Gives a network on meta fake storages."""
    network._apply(lambda t: torch.empty(t.shape, dtype=dtype if isinstance(t, nn.Parameter) else t.dtype))


def _pass(network: Transformer, step: Step, mixed: torch.dtype) -> Tensor:
    """The forward pass of a micro-step: its loss."""
    rows = step.batch * (step.pattern.draws + 1)
    inputs_RL = torch.zeros(rows, step.length, dtype=torch.long)
    scored_N, targets_N = (torch.zeros(step.scored, dtype=torch.long) for _ in range(2))
    with torch.autocast("cpu", mixed, enabled=mixed is not torch.float32 and not step.sharded):
        return network.score(inputs_RL, step.pattern, scored_N, targets_N, torch.ones(step.scored))[0]


def _go(network: Transformer, step: Step, mixed: torch.dtype, scale: _Scale) -> None:
    """Weights, optimizer's state, then the step that is weighed."""
    stage = Stage(Autoregressive())  # read for AdamW's settings, which memory does not depend on
    for parameter in network.parameters():
        scale.label(parameter, Part.weights)
        parameter.register_post_accumulate_grad_hook(lambda p: scale.label(p.grad, Part.gradients))
        parameter.grad = torch.empty_like(parameter)
        scale.label(parameter.grad, Part.gradients)
    for buffer in network.buffers():
        scale.label(buffer, Part.weights)
    optimizer = adamw(network, stage)
    scale.now = Part.optimizer
    if not step.sharded:
        optimizer.step()
    if not step.carried:
        optimizer.zero_grad()
    network.layers[-1].register_forward_hook(lambda *_: setattr(scale, "now", Part.logits))
    scale.restart()
    scale.now = Part.activations
    loss = _pass(network, step, mixed)
    scale.now = Part.other
    if step.sharded:
        loss.backward()
        clip_gradients(network.parameters(), stage.clip_norm)
    else:
        update(loss, network.parameters(), optimizer, stage.clip_norm)


class _Scale(TorchDispatchMode):
    """Weighs storages by what they are for while they are alive, bytes."""

    def __init__(self, sharded: bool):
        super().__init__()
        self.now, self.ignored = Part.other, LASTING if sharded else ()
        self.alive: dict[int, tuple[Any, Part, int]] = {}
        self.bytes: Counter[Part] = Counter()
        self.restart()

    def restart(self) -> None:
        self.peak, self.at_peak, self.most = 0, Counter[Part](), Counter[Part]()
        self._weigh()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is torch.ops.prim.device.default:  # two calls of three; nothing is made
            return made
        part = self.now
        if func is torch.ops.aten.logsumexp.default:  # its kernel writes all exponentials down before it adds them up
            self._meet(torch.empty_like(args[0]), part)
        if func is torch.ops.aten._to_copy.default and self._part(args[0]) is Part.weights:
            part = Part.cast
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._meet(tensor, part)
        return made

    def label(self, tensor: Tensor | None, part: Part) -> None:
        """Says what a tensor's storage is for from now on."""
        if tensor is None:
            return
        self._meet(tensor, part)
        key = id(tensor.untyped_storage())
        watch, before, size = self.alive[key]
        self.alive[key] = watch, part, size
        self.bytes[before] -= size
        self.bytes[part] += size

    def _part(self, tensor: Tensor) -> Part | None:
        found = self.alive.get(id(tensor.untyped_storage()))
        return found[1] if found else None

    def _meet(self, tensor: Tensor, part: Part) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self.alive:
            return
        self.alive[key] = weakref.ref(storage, lambda _: self._leave(key)), part, storage.nbytes()
        self.bytes[part] += storage.nbytes()
        self._weigh()

    def _leave(self, key: int) -> None:
        _, part, size = self.alive.pop(key)
        self.bytes[part] -= size

    def _weigh(self) -> None:
        total = sum(size for part, size in self.bytes.items() if part not in self.ignored)
        self.most = self.most | self.bytes  # the larger of each
        if total > self.peak:
            self.peak, self.at_peak = total, Counter(self.bytes)

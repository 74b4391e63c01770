"""The parts of gpu_check.py: each asks one thing of a device, and says whether it held and by how much.

Shapes: B sequences, L positions, S stacked networks, N scored outputs, W width, V vocabulary.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.compute.device import Device, Precision, Recompute, attention_form, resolve_precision
from ablate.compute.optimizer import adamw
from ablate.compute.train_step import autocast, train_step, update
from ablate.core.corpus import Vocabulary
from ablate.core.rng import generator
from ablate.model.attention import Form
from ablate.model.chunked_loss import scored_loss
from ablate.model.config import ModelConfig
from ablate.model.transformer import Transformer, initialise
from ablate.noise.options import BatchAddress, Clip, Guard
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.loss import loss_of, score_all
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.problem import Objective, Problem
from ablate.objectives.regime import Stage

SHAPE, TINY = ModelConfig(128, 2, 2, 2), ModelConfig(64, 2, 4, 4)
VOCABULARY = 96
MASK = VOCABULARY - 1
OBJECTIVES = {
    "AR": Autoregressive(),
    "masked": MaskedDiffusion(),
    "block B=4": BlockDiffusion(4, clip=Clip.atom, guard=Guard.force),
    "block B=32, 2 draws": BlockDiffusion(32, draws=2),
}
SMALL_ERROR = 1e-3  # of gradients and losses in fp32, relative to the largest: a GPU sums in another order
SEEDS = 64  # seeds of a pack
SMOKE = ["--quick", "--context", "64", "--batch", "1"]


def network_of(seed: int, device: Device, form: Form | None = None, shape: ModelConfig = SHAPE, gain: float = 1.0):
    """A network at its first step; gain: on weights, so that scores are large."""
    network = Transformer(shape, VOCABULARY, MASK, form or attention_form(device, Precision.fp32))
    initialise(network, seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.mul_(gain)
    return network.to(device.value)


def problem_of(objective: Objective, seed: int, batch: int, length: int, device: Device) -> Problem:
    """The objective's first problem on random tokens."""
    tokens_BL = torch.from_numpy(generator(seed, "gpu check").integers(0, MASK, (batch, length)))
    posed = objective.pose(tokens_BL, BatchAddress(seed, 0, np.arange(batch), batch), Vocabulary.unnamed(VOCABULARY))
    moved = {name: value.to(device.value) for name, value in vars(posed).items() if isinstance(value, Tensor)}
    return replace(posed, **moved)


def gradients(device: Device) -> dict[str, Any]:
    """FlexAttention's loss and gradients against the dense reference's; on a CPU, where it has no backward pass, those
    of the form that the rules choose."""
    found, form = {}, attention_form(device, Precision.fp32)
    for name, objective in OBJECTIVES.items():
        flat = []
        for one in (Form.dense, form):
            network = network_of(0, device, one)
            loss_of(network, problem_of(objective, 1, 4, 192, device), 4).backward()
            flat.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
        found[name] = float((flat[0] - flat[1]).abs().max() / flat[0].abs().max())
    return {"ok": max(found.values()) < SMALL_ERROR, "form": form.value, "largest_difference": found}


def finite(device: Device) -> dict[str, Any]:
    """Gradients where L % 128 == 64 and scores are hundreds: cuDNN's attention under a mask makes NaN there (pytorch
    issue 196678)."""
    found = {}
    for name, objective in OBJECTIVES.items():
        network = network_of(0, device, gain=30.0)
        with autocast(device, resolve_precision(Precision.auto, device)):
            loss = loss_of(network, problem_of(objective, 2, 4, 192, device), 4)
        loss.backward()
        found[name] = all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)
    return {"ok": all(found.values()), "finite": found}


def head(device: Device) -> dict[str, Any]:
    """The fused head and loss against logits written out, fp32."""
    rng = torch.Generator().manual_seed(0)
    outputs_NW, weight_VW = torch.randn(500, 64, generator=rng), torch.randn(VOCABULARY, 64, generator=rng)
    targets_N, coefficient_N = torch.arange(500) % MASK, torch.rand(500, generator=rng)
    allowed_V = torch.zeros(VOCABULARY)
    allowed_V[MASK] = -torch.inf
    parts = [x.to(device.value) for x in (outputs_NW, weight_VW, allowed_V, targets_N, coefficient_N)]
    slopes = []
    for fused in (True, False):
        outputs, weight = (x.clone().requires_grad_() for x in parts[:2])
        if fused:
            loss, _ = scored_loss(outputs, weight, *parts[2:])
        else:
            nats_N = F.cross_entropy(outputs @ weight.T + parts[2], parts[3], reduction="none")
            loss = (nats_N * parts[4]).sum()
        slopes.append([loss.detach(), *torch.autograd.grad(loss, (outputs, weight))])
    worst = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*slopes, strict=True))
    return {"ok": worst < SMALL_ERROR, "largest_difference": worst}


def pack(device: Device) -> dict[str, Any]:
    """Many tiny networks stacked against the first alone: losses of a step, and seed-steps a second."""
    objective, seeds = OBJECTIVES["masked"], SEEDS if device is Device.cuda else 4
    members = [network_of(seed, Device.cpu, attention_form(device, Precision.fp32), TINY) for seed in range(seeds)]
    problems = [problem_of(objective, seed, 32, 33, device) for seed in range(seeds)]
    losses, rates = [], {}
    for network in (members[0].to(device.value), Transformer.stacked(members).to(device.value)):
        count = network.seeds or 1
        optimizer = adamw(network, *[Stage(objective)] * count)
        begun = 0.0
        for step in range(12):
            if step == 2:
                begun = _now(device)
            optimizer.zero_grad()
            part = score_all(network, problems[:count], [32 * 32] * count)
            update(part.loss, network.parameters(), optimizer, *[1.0] * count)
            if step == 0:
                losses.append(float(part.loss.reshape(-1)[0]))
        rates[count] = 10 * count / (_now(device) - begun)
    return {"ok": abs(losses[0] / losses[1] - 1) < SMALL_ERROR, "losses": losses, "seed_steps_a_second": rates}


def memory(device: Device) -> dict[str, Any]:
    """Planned against measured bytes of a step; a CPU's whole process is measured, which is more."""
    from experiments.benchmarks.pass_cost import Case, measure, memory_here

    shape, batch = (ModelConfig(768, 12, 12, 12), 16) if device is Device.cuda else (SHAPE, 2)
    found = {}
    for name in ("AR", "block B=4"):
        room = memory_here()
        case = Case(shape, OBJECTIVES[name], 512, batch, Recompute.none, False, 3, 1, None, room)
        measured = measure(case, fresh=False)["peak_bytes"]
        found[name] = {
            "planned": case.planned(),
            "measured": measured,
            "planned_over_measured": case.planned() / measured,
        }
    near = all(abs(entry["planned_over_measured"] - 1) < 0.1 for entry in found.values())
    return {"ok": near or device is Device.cpu, "bytes": found}


def sharded(device: Device) -> dict[str, Any]:
    """FSDP2 on one card: the loss of a step is that of a plain network."""
    from ablate.compute.distributed import join_processes
    from ablate.compute.execution import load_weights, shard

    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29653"}
    join_processes(device)
    plain, losses = network_of(0, device), []
    with torch.device("meta"):
        empty = Transformer(SHAPE, VOCABULARY, MASK, plain.form)
    whole = shard(empty, device, Precision.fp32)
    load_weights(whole, plain.state_dict())
    for network in (plain, whole):
        optimizer = adamw(network, Stage(OBJECTIVES["masked"]))
        for _ in range(3):
            result = train_step(
                network, optimizer, problem_of(OBJECTIVES["masked"], 1, 4, 64, device), 252, 1.0, device
            )
            losses.append(float(result.loss))
    return {
        "ok": max(abs(a / b - 1) for a, b in zip(losses[:3], losses[3:], strict=True)) < SMALL_ERROR,
        "losses": losses,
    }


def checkpoint(device: Device) -> dict[str, Any]:
    """Written in the background while training goes on, then resumed: the next losses are equal to the bit."""
    from ablate.training.checkpoint import restore, tensors_of
    from ablate.training.checkpoint_writer import Writer

    problem = problem_of(OBJECTIVES["AR"], 1, 4, 64, device)

    def go(network: Transformer, optimizer: Any) -> float:
        return float(train_step(network, optimizer, problem, 252, 1.0, device).loss)

    with tempfile.TemporaryDirectory() as folder:
        network = network_of(0, device)
        optimizer = adamw(network, Stage(OBJECTIVES["AR"]))
        go(network, optimizer)
        writer = Writer(Path(folder), 0, 1)
        begun = _now(device)
        writer.write("000000001-0", tensors_of(network, optimizer.states()[0]), {})
        blocked = _now(device) - begun
        undisturbed = [go(network, optimizer) for _ in range(3)]
        writer.wait()
        again = network_of(9, device)
        state = restore(Path(folder) / "000000001-0", again, True) or {}
        other = adamw(again, Stage(OBJECTIVES["AR"]))
        other.load_states([state])
        resumed = [go(again, other) for _ in range(3)]
    return {"ok": resumed == undisturbed, "undisturbed": undisturbed, "resumed": resumed, "seconds_held_up": blocked}


def train(device: Device) -> dict[str, Any]:
    """`bench.py train model=2.5b`, short; on a CPU a small model. The targets are those of `docs/scale.md`."""
    with tempfile.TemporaryDirectory() as folder:
        out, script = Path(folder) / "train.json", Path(__file__).parent.parent / "bench.py"
        words = ["model=2.5b", "--steps", "5"] if device is Device.cuda else ["model=tiny", *SMOKE]
        command = [sys.executable, "-P", str(script), "train", *words, "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no word"])[-1])
        return {"ok": True, "result": json.loads(out.read_text())}


def _now(device: Device) -> float:
    if device is Device.cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


PARTS: dict[str, tuple[Callable[[Device], dict[str, Any]], int]] = {  # and the seconds that each may take
    "gradients": (gradients, 60),
    "finite": (finite, 40),
    "head": (head, 30),
    "train": (train, 210),
    "pack": (pack, 40),
    "memory": (memory, 40),
    "sharded": (sharded, 30),
    "checkpoint": (checkpoint, 30),
}

"""Where a run computes: device, precision, form of attention, compilation. Chosen by rule, never by a timing."""

from __future__ import annotations

import os
import shutil
from enum import StrEnum

from ablate.model.attention import Form

# Below this many FLOPs a step and thread, further threads wait for each other longer than they compute
STEP_FLOPS = 5e9
# Compiling takes up to half a minute on a CPU; below this many training FLOPs a process ends before it is paid back
COMPILE_FLOPS = {"cpu": 2e12, "cuda": 1e17}
COMPILERS = ("g++", "clang++")


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(StrEnum):
    """fp32, or bf16 autocast with weights and optimizer in fp32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Compile(StrEnum):
    auto = "auto"
    never = "never"
    always = "always"


class Strategy(StrEnum):
    """How several processes share the work: each has the whole network and they average gradients (ddp), or each has a
    part of every weight, gradient and optimizer state (fsdp, FSDP2). auto: ddp, or nothing where there is one."""

    auto = "auto"
    ddp = "ddp"
    fsdp = "fsdp"


class Recompute(StrEnum):
    """Which activations of a layer are recomputed in the backward pass instead of being kept: none; all (full), whose
    price is a third forward pass; all but products of matrices and attention (selective)."""

    none = "none"
    full = "full"
    selective = "selective"


def resolve_device(device: Device) -> Device:
    """Raises ValueError where cuda is asked for and there is none."""
    import torch

    if device is Device.cuda and not torch.cuda.is_available():
        raise ValueError("device=cuda: wanted a CUDA device, found none; type device=cpu")
    if device is Device.auto:
        return Device.cuda if torch.cuda.is_available() else Device.cpu
    return device


def require_memory(parameters: int, device: Device, size: int = 16, shares: int = 1) -> None:
    """Raises ValueError if `size` bytes a parameter cannot fit: 16 are weights, gradients and AdamW's two moments in
    fp32. shares: processes among which they are divided, each with a card of its own."""
    import torch

    if device is Device.cuda:
        memory = torch.cuda.get_device_properties(0).total_memory
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = size * parameters / (shares if device is Device.cuda else 1)
    if needed > memory:
        raise ValueError(
            f"model: {parameters / 1e9:.2f}e9 parameters take {needed / 2**30:.0f} GiB to train, {device} has "
            f"{memory / 2**30:.0f} GiB; type model=base or smaller, or strategy=fsdp under torchrun"
        )


def resolve_precision(precision: Precision, device: Device) -> Precision:
    """bf16 where the processor multiplies it natively; elsewhere it is slower than fp32."""
    import torch

    native = device is Device.cuda or torch.cpu._is_avx512_bf16_supported()
    return (Precision.bf16 if native else Precision.fp32) if precision is Precision.auto else precision


def resolve_threads(threads: int, flops: float, here: int) -> int:
    """As asked, else by a process's FLOPs a step: from one thread for tiny networks up to its share of the cores, which
    `here` processes have together. Raises ValueError for many more threads than there are cores."""
    there = os.cpu_count() or 1
    most, cores = max(16, 4 * there), there // here
    if threads > most:
        raise ValueError(
            f"threads={threads}: wanted at most {most} on the {there} cores here, since more wait for each other; type "
            "threads=0"
        )
    return threads or max(1, min(cores, int(flops / STEP_FLOPS)))


def resolve_compile(compile: Compile, device: Device, flops: float) -> Compile:
    """As asked, else by the FLOPs of all that a process trains. On a CPU it takes a compiler of C++."""
    if compile is not Compile.auto:
        return compile
    able = device is Device.cuda or any(map(shutil.which, filter(None, [os.environ.get("CXX"), *COMPILERS])))
    return Compile.always if able and flops > COMPILE_FLOPS[device] else Compile.never


def attention_form(device: Device, precision: Precision) -> Form:
    """torch's fused CPU kernel has no fast bf16 path, so there the products are written out; CUDA has FlexAttention,
    which skips what a pattern of blocks hides."""
    if device is Device.cuda:
        return Form.flex
    return Form.matmul if precision is Precision.bf16 else Form.sdpa

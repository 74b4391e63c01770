"""How a network is run while it trains: compiled, with activations recomputed, sharded over processes.

None of it changes what is computed, apart from rounding, so none of it is part of a run's fingerprint.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from ablate.compute.device import Device, Precision, Recompute
from ablate.model.flex_attention import allow_kernels
from ablate.model.transformer import Layer, Transformer

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
FREED, BLOCK = 2**28, 2**25  # bytes that are kept, in all, and of a block, where glibc allows no more


def keep_freed_memory() -> None:
    """Lets glibc keep memory that was freed. By itself it gives blocks of megabytes back at once, and the next step of
    a pack pays for a thousand page faults. Does nothing under another C library."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if set_option is not None:
        set_option(TRIM_THRESHOLD, FREED)
        set_option(MMAP_THRESHOLD, BLOCK)


def prepare(network: Transformer, compiled: bool, recompute: Recompute = Recompute.none, every: int = 1) -> Transformer:
    """The network itself; its layers are compiled, and recompute activations in the backward pass, where gradients are
    taken. Layers are compiled one by one: all have the same code, so it is compiled once, and sharding stays outside.

    every: of the layers, each `every`-th recomputes its activations.
    """
    if compiled:
        allow_kernels()
    for i, layer in enumerate(network.layers):
        plain = work = cast(Layer, layer).forward
        if recompute is not Recompute.none and i % every == 0:
            contexts = {} if recompute is Recompute.full else {"context_fn": _keep_products}
            work = partial(checkpoint, work, use_reentrant=False, **contexts)
        if compiled:
            work = torch.compile(work, dynamic=False)
        if work is not plain:
            layer.forward = _while_training(plain, work)
    return network


def _while_training(plain: Callable[..., Tensor], work: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def forward(*arguments: Any) -> Tensor:  # probes would compile a second time, for shapes of their own
        return (work if torch.is_grad_enabled() else plain)(*arguments)

    return forward


def _keep_products() -> Any:
    """Products of matrices and attention are kept, as they are what takes long; all else is recomputed."""
    aten = torch.ops.aten
    kept = {
        aten.mm.default,
        aten.addmm.default,
        aten.bmm.default,
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        aten._scaled_dot_product_cudnn_attention.default,
        aten._scaled_dot_product_efficient_attention.default,
        torch.ops.higher_order.flex_attention,
    }

    def policy(_: Any, operation: Any, *__: Any, **___: Any) -> CheckpointPolicy:
        return CheckpointPolicy.MUST_SAVE if operation in kept else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)


def shard(network: Transformer, device: Device, precision: Precision) -> Transformer:
    """Shards a network on meta over a machine's processes, layer by layer (FSDP2, Zhao et al., 2023), and gives it
    memory. Each machine has a whole copy: between machines only gradients travel.

    Weights, gradients and optimizer are fp32; with bf16 weights travel and are multiplied in bf16 and gradients are
    summed in fp32. The weights are not filled: see `load_weights`.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    here, world = int(os.environ["LOCAL_WORLD_SIZE"]), torch.distributed.get_world_size()
    sizes = (world // here, here) if world > here else (world,)
    mesh = init_device_mesh(device.value, sizes, mesh_dim_names=("machines", "cards")[-len(sizes) :])
    mixed = MixedPrecisionPolicy()
    if precision is Precision.bf16:
        # not what comes in: the embedding is bf16 by itself, and the weights of the loss are not to be rounded
        mixed = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for layer in network.layers:
        fully_shard(layer, mesh=mesh, mp_policy=mixed)
    fully_shard(network, mesh=mesh, mp_policy=mixed)
    register_fsdp_forward_method(network, "score")
    network.to_empty(device=mesh.device_type)
    network.fill_tables()
    return network


def copy_part(own: Tensor, whole: Tensor) -> None:
    """Copies a whole tensor, or of it the part that this process has; no process waits for another."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if isinstance(own, DTensor):  # without a source rank every process cuts its part out of its own copy
        whole = distribute_tensor(whole.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
    own.copy_(whole)


@torch.no_grad()
def load_weights(network: Transformer, weights: Mapping[str, Tensor]) -> None:
    """Fills a network, sharded or not, from whole tensors, one after another. Raises KeyError for a name that is not
    there, RuntimeError for a shape that differs."""
    for name, own in network.state_dict().items():
        copy_part(own, weights[name])


def whole_weights(network: Transformer, first: bool) -> dict[str, Tensor]:
    """A network's weights, whole and on the CPU, in the `first` process; nothing in the others, which take part."""
    from torch.distributed.tensor import DTensor

    whole = {}
    for name, own in network.state_dict().items():
        tensor = own.full_tensor() if isinstance(own, DTensor) else own
        if first:
            whole[name] = tensor.detach().cpu()
    return whole

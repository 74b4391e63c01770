"""Several processes that torchrun started: joining them, and telling all what the first one knows."""

from __future__ import annotations

import atexit
import os
from typing import Any

import torch

from ablate.compute.device import Device


def join_processes(device: Device) -> None:
    """Joins the processes into one group, once."""
    if not torch.distributed.is_initialized():
        if device is Device.cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        # gloo beside NCCL, because checkpoints are written from the CPU's memory
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device is Device.cuda else "gloo")
        atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_initialized():  # Lightning may have left it already
        torch.distributed.destroy_process_group()


def from_first(value: Any) -> Any:
    """The first process's value in every process; each waits for it. Alone: the value itself."""
    if not torch.distributed.is_initialized():
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]

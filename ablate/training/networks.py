"""The network of a run, or of runs that train together; and where it is when it is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ablate.compute.device import Compile, Device, Strategy, attention_form
from ablate.compute.execution import copy_part, prepare, shard
from ablate.model.transformer import Transformer, initialise
from ablate.training.run_config import Run


def build_network(run: Run) -> Transformer:
    """The network of a resolved run, sharded where its strategy says so; weights initialised from its seed, or not at
    all where a checkpoint's follow."""
    network = plain_network(run)
    prepare(network, run.compile is Compile.always, run.recompute, run.recompute_every)
    if run.strategy is Strategy.fsdp:
        shard(network, run.device, run.precision)
    elif run.init:
        network.to_empty(device="cpu")
        network.fill_tables()
    if not run.init:
        initialise(network, run.seed, copy_part)
    return network


def build_networks(runs: Sequence[Run]) -> Transformer:
    """The network of one run, or those of several as one (see `Transformer.stacked`)."""
    if len(runs) == 1:
        return build_network(runs[0])
    members = [plain_network(run) for run in runs]
    for run, member in zip(runs, members, strict=True):
        initialise(member, run.seed)
    run, network = runs[0], Transformer.stacked(members)
    return prepare(network, run.compile is Compile.always, run.recompute, run.recompute_every)


def plain_network(run: Run) -> Transformer:
    """A network of a run's shape, its weights not filled; on meta where its strategy or a checkpoint fills it."""
    form, vocabulary = attention_form(run.device, run.precision), run.corpus.vocabulary
    with torch.device("meta" if run.strategy is Strategy.fsdp or run.init else "cpu"):
        return Transformer(run.model, run.vocabulary, vocabulary.mask_id, form, tokens=len(vocabulary))


@contextmanager
def measured(network: Transformer, run: Run) -> Iterator[None]:
    """Puts it where it is evaluated, this process's own card or the CPU: Lightning leaves it on the CPU."""
    card = f":{os.environ.get('LOCAL_RANK', '0')}" if run.device is Device.cuda else ""
    network.to(torch.device(run.device.value + card)).eval()
    yield
    network.train()

"""Small networks, batches, runs and a full disk, as many tests need them; functions, for parametrisation too."""

import dataclasses
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import synthetic_data
from ablate.core.corpus import Vocabulary
from ablate.model.attention import Form
from ablate.model.config import ModelConfig
from ablate.model.transformer import Transformer, initialise
from ablate.noise.options import BatchAddress
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.regime import Regime, Stage
from ablate.training.budget import Budget
from ablate.training.run_config import Run

MASK = 11
VOCABULARY = Vocabulary.unnamed(MASK + 1)
SHAPE, ONE_LAYER = ModelConfig(16, 2, 2, 1), ModelConfig(16, 1, 2, 2)
BUDGET = Budget(base_tokens=1200, tokens=2400, evaluations=2, questions=2, contexts=4, every=2, block_sizes=[1, 2])


@contextmanager
def full(size: int) -> Iterator[None]:
    """No file of this process becomes larger than so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def network(
    scale: float = 1.0, vocabulary: Vocabulary = VOCABULARY, shape: ModelConfig = SHAPE, form: Form = Form.sdpa
) -> Transformer:
    """Random weights; with a scale of 3 or more every visible token matters to every output that sees it."""
    net = Transformer(shape, len(vocabulary), vocabulary.mask_id, form)
    initialise(net, 0)
    with torch.no_grad():
        for p in net.parameters():
            if p.dim() > 1:
                p.mul_(scale)
    return net


def address(batch: int, step: int = 0, indices: np.ndarray | None = None, seed: int = 0) -> BatchAddress:
    """Where the noise of a whole batch, or of some of its sequences, is drawn."""
    return BatchAddress(seed, step, np.arange(batch) if indices is None else indices, batch)


def tokens(batch: int, length: int, seed: int = 0) -> Tensor:
    """Random tokens of the small vocabulary, none of them the mask."""
    return torch.randint(0, MASK, (batch, length), generator=torch.Generator().manual_seed(seed))


def tiny_run(folder: Path, **changes: object) -> Run:
    """Two stages of a network with one layer in a world of three operations, in about a second."""
    regime = Regime("ar_to_bidllm", [Stage(Autoregressive(), 0.7, warmup=2), Stage(MaskedDiffusion(), 0.3, warmup=2)])
    run = Run(
        corpus=synthetic_data.make("trace", values=4, operations=3, new_operators=4, general_operators=2),
        model=ONE_LAYER,
        regime=regime,
        budget=BUDGET,
        batch=8,
        threads=1,
        device="cpu",
        out=str(folder / "run"),
        cache=str(folder / "base"),
    )
    return dataclasses.replace(run, **changes)

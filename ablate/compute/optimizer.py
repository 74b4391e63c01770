"""AdamW over a network's parameters, and room for its state."""

from __future__ import annotations

import torch
from torch import Tensor

from ablate.model.transformer import Transformer
from ablate.objectives.regime import Stage


def adamw(network: Transformer, stage: Stage) -> torch.optim.AdamW:
    """AdamW with decay on matrices alone (Loshchilov & Hutter, 2019), as one fused kernel."""
    matrices, vectors = _groups(network)
    groups = [{"params": matrices, "weight_decay": stage.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=stage.lr, betas=(0.9, 0.95), fused=True)


def moments(network: Transformer) -> dict[str, dict[str, Tensor]]:
    """Room for AdamW's state of every parameter, by its number in `adamw`, to be filled from a checkpoint."""
    numbered = [p.detach() for group in _groups(network) for p in group]
    return {
        str(i): {"step": torch.zeros(()), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        for i, p in enumerate(numbered)
    }


def _groups(network: Transformer) -> tuple[list[Tensor], list[Tensor]]:
    """Matrices, and vectors: gains of norms and biases."""
    parameters = list(network.parameters())
    return [p for p in parameters if p.dim() >= 2], [p for p in parameters if p.dim() < 2]

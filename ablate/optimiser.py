"""AdamW over a network's parameters."""

from __future__ import annotations

import torch

from ablate.model import Transformer
from ablate.regime import Stage


def adamw(network: Transformer, stage: Stage) -> torch.optim.AdamW:
    """AdamW with decay on matrices alone (Loshchilov & Hutter, 2019), as one fused kernel."""
    matrices = [p for p in network.parameters() if p.dim() >= 2]
    gains = [p for p in network.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": stage.weight_decay}, {"params": gains, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=stage.lr, betas=(0.9, 0.95), fused=True)

"""The law of contexts: what is visible when a token is predicted.

One family holds them all. Cut the scored positions into blocks of `size`; pick a token, hence its block; everything
before the block is visible, everything scored after it is hidden; of the block itself N ~ Uniform{1..length} tokens
are hidden. The mean over the hidden ones is an unbiased estimate of the chain-rule bound per token without schedule
variance (the B/N form of the bound: Ou et al., 2024). Size 1 gives the contexts of AR, size L those of random masks.

Shapes: B contexts, L positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ablate.decode import block_index
from ablate.seeds import generator, uniform


@dataclass(frozen=True)
class Contexts:
    """Drawn contexts: what a model sees, what it is asked, how much each answer counts.

    inputs_BL: int64 with MASK. targets_BL: int64, the truth. weight_BL: float64, sums to 1 in each row, 0 where
    nothing is asked.
    """

    inputs_BL: Tensor
    targets_BL: Tensor
    weight_BL: Tensor

    def mean(self, values_BL: Tensor) -> float:
        """Mean of a value per asked token; values elsewhere are ignored."""
        return float(torch.where(self.weight_BL > 0, values_BL * self.weight_BL, 0.0).sum(1).mean())


def block_contexts(tokens_BL: Tensor, scored_BL: Tensor, size: int, mask_id: int, seed: int) -> Contexts:
    """One context a row, of decoding `scored_BL` in blocks of `size`; the picked tokens are stratified over the rows.

    Raises ValueError if a row has nothing to be scored.
    """
    counts_B = scored_BL.sum(1)
    if int(counts_B.min()) < 1:
        raise ValueError(f"block_contexts: row {int(counts_B.argmin())} has no scored position; wanted at least one")
    rows = len(tokens_BL)
    stream = f"contexts/{size}"
    u_B2 = uniform(seed, stream, range(rows), (2,))
    strata_B = torch.from_numpy(generator(seed, stream).permutation(rows))
    picked_B = ((strata_B + u_B2[:, 0]) / rows * counts_B).long()
    block_BL = block_index(scored_BL, size)
    current_B1 = (picked_B // size)[:, None]
    inside_BL = block_BL == current_B1
    lengths_B = inside_BL.sum(1)
    hidden_B1 = (1 + (u_B2[:, 1] * lengths_B).long())[:, None]
    keys_BL = uniform(seed, f"{stream}/order", range(rows), (tokens_BL.shape[1],))
    rank_BL = keys_BL.masked_fill(~inside_BL, np.inf).argsort(1).argsort(1)
    asked_BL = inside_BL & (rank_BL < hidden_B1)
    inputs_BL = tokens_BL.masked_fill(asked_BL | (block_BL > current_B1), mask_id)
    return Contexts(inputs_BL, tokens_BL, asked_BL.double() / hidden_B1)

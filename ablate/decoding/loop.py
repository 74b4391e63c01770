"""Decoding: what a model predicts, and one loop that reveals an answer.

Shapes: B sequences, L positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ablate.core.corpus import documents, unscored
from ablate.model.transformer import Transformer
from ablate.objectives.problem import Objective, predicting

Predict = Callable[[Tensor], Tensor]
PROTOCOL = "greedy; most confident first; one token a pass; answer as MASK"


@dataclass(frozen=True)
class Predictor:
    """A network read as an objective reads it: predict(tokens_BL) -> logp_BLV, nats, float32.

    Entry (b, i) is log p_theta(x_i | what stands in row b under the objective's attention); MASK has probability 0.
    Where outputs predict other tokens than their own, none predicts what is unscored, position 0: its entry is uniform.

    boundary: the token that ends a document, where attention is limited to documents, else None. These are then told
    from what stands in the row: a boundary that is hidden joins two documents, as far as a reader can know.
    """

    network: Transformer
    objective: Objective
    boundary: int | None = None

    def __call__(self, tokens_BL: Tensor) -> Tensor:
        device = self.network.embedding.weight.device
        with torch.no_grad():
            told_BL = documents(tokens_BL.to(device), self.boundary)
            limit_BL = None if self.boundary is None else told_BL
            logits_BLV = self.network(tokens_BL.to(device), self.objective.reading, documents_BL=limit_BL)
            logp_BLV = logits_BLV[..., : self.network.tokens].float().log_softmax(-1)
            if self.objective.offset:
                rows_B1 = torch.arange(len(logp_BLV), device=device)[:, None]
                logp_BLV = logp_BLV[rows_B1, predicting(told_BL, self.objective.offset)]
                logp_BLV[unscored(tokens_BL, self.boundary).to(device)] = -math.log(logp_BLV.shape[-1])
            return logp_BLV.to(tokens_BL.device)


def block_index(answer_BL: Tensor, size: int) -> Tensor:
    """Which block of `size` answer tokens each position belongs to, counted from 0; -1 in the prompt."""
    index_BL = (answer_BL.cumsum(1) - 1) // size
    return index_BL.masked_fill(~answer_BL, -1)


def reveal(predict: Predict, tokens_BL: Tensor, answer_BL: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Fills the answers in place, step by step (see `decode`).

    Yields before each step (chosen_B1, still_B1): the position that each row reveals next, and whether the row has one
    left in this block.
    """
    if size < 1:
        raise ValueError(f"decode: block size: wanted at least 1, got {size}")
    block_BL = block_index(answer_BL, size)
    for block in range(int(block_BL.max()) + 1):
        open_BL = block_BL == block
        for _ in range(int(open_BL.sum(1).max())):
            confidence_BL, token_BL = predict(tokens_BL).max(-1)
            chosen_B1 = confidence_BL.masked_fill(~open_BL, -math.inf).argmax(1, keepdim=True)
            still_B1 = open_BL.any(1, keepdim=True)
            yield chosen_B1, still_B1
            value_B1 = torch.where(still_B1, token_BL.gather(1, chosen_B1), tokens_BL.gather(1, chosen_B1))
            tokens_BL.scatter_(1, chosen_B1, value_B1)
            open_BL.scatter_(1, chosen_B1, False)


def decode(predict: Predict, prompt_BL: Tensor, answer_BL: Tensor, size: int, mask_id: int) -> Tensor:
    """Fills the answers block by block, left to right; returns (B, L) int64.

    Within a block the most confident open token is revealed first, one a forward pass (LLaDA, Nie et al., 2025).
    Rows do not influence each other. Raises ValueError for a block size below 1.
    """
    tokens_BL = prompt_BL.masked_fill(answer_BL, mask_id)
    for _ in reveal(predict, tokens_BL, answer_BL, size):
        pass
    return tokens_BL

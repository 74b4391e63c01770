"""What a model predicts: all that decoding and probes see of it.

Shapes: B sequences, L positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ablate.core.corpus import Oracle, documents, unscored
from ablate.model.transformer import Transformer
from ablate.objectives.problem import Objective, predicting

Predict = Callable[[Tensor], Tensor]


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
                anything_V = self.network.allowed_V[: logp_BLV.shape[-1]].float().log_softmax(-1)
                logp_BLV[unscored(tokens_BL, self.boundary).to(device)] = anything_V
            return logp_BLV.to(tokens_BL.device)


@dataclass(frozen=True)
class OraclePredictor:
    """The exact oracle as a model: predict(tokens_BL) -> logp_BLV, nats, float64.

    So the errors of a decoder are seen apart from a network's. In a context of probability 0, which only a decoder can
    make, it knows nothing: every symbol but MASK is as likely. Equal contexts are inferred once.
    """

    oracle: Oracle

    def __call__(self, tokens_BL: Tensor) -> Tensor:
        vocabulary = self.oracle.vocabulary
        contexts, number_B = tokens_BL.unique(dim=0, return_inverse=True)
        p_BLV = torch.full((*contexts.shape, len(vocabulary)), 1 / (len(vocabulary) - 1), dtype=torch.float64)
        p_BLV[..., vocabulary.mask_id] = 0
        possible_B = self.oracle.log_evidence(contexts) > -math.inf
        if possible_B.any():
            p_BLV[possible_B] = self.oracle.posterior(contexts[possible_B]).p_BLV
        return p_BLV.log()[number_B]

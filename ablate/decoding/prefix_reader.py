"""Reading with an approximate cache under full attention, where a later token changes all that was read before.

What stands before a row's block is kept as the first pass of that block read it; the block and what is behind it are
read anew in every pass (the prefix cache of Fast-dLLM, Wu et al., 2025).

Shapes: B sequences, R rows of them that are read in a pass, S rows alike among these, L positions, T places read, N
open places, V vocabulary, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ablate.core.corpus import documents
from ablate.decoding.cached_reader import log_probabilities
from ablate.decoding.predictor import Predict, Predictor
from ablate.model.attention import Attention, additive
from ablate.model.kv_cache import KeyValueCache


def approximable(predict: Predict) -> bool:
    """Does it read with full attention?"""
    return isinstance(predict, Predictor) and predict.objective.reading.kind is Attention.full


class PrefixReader:
    """What a `Predictor` with full attention would say of the open places, did the tokens before a block not see what
    the block reveals. The first pass of a block is exact. Raises ValueError for other attention."""

    def __init__(self, predict: Predict, rows: int, length: int):
        if not isinstance(predict, Predictor) or not approximable(predict):
            label = predict.objective.label if isinstance(predict, Predictor) else "something else"
            raise ValueError(
                f"cache=prefix: wanted a network that reads with full attention, got {label}; type cache=exact"
            )
        self.predict, self.network = predict, predict.network
        self.cache = KeyValueCache(self.network.config, rows, length, self.network.embedding.weight)
        self.turns = self.network.turns(length)
        self.start_B = torch.full((rows,), -1)  # of the block that each row is in

    @torch.no_grad()
    def __call__(
        self, row_R: Tensor, tokens_RL: Tensor, open_RL: Tensor, start_R: Tensor, end_R: Tensor | None = None
    ) -> Tensor:
        """(N, V) log-probabilities of the open places, nats, row by row. start_R: where each row's block begins. end_R:
        nothing is read from there on."""
        first_R = (start_R + min(0, self.predict.objective.offset)).clamp_min(0)
        first_R = torch.where(start_R == self.start_B[row_R], first_R, 0)
        self.start_B[row_R] = start_R
        stop_R = torch.full_like(start_R, tokens_RL.shape[1]) if end_R is None else end_R
        logp_NV: Tensor | None = None
        for first, stop in torch.stack([first_R, stop_R], 1).unique(dim=0).tolist():
            same_R = (first_R == first) & (stop_R == stop)
            found_NV = self._read(row_R[same_R], tokens_RL[same_R], open_RL[same_R], first, stop)
            if logp_NV is None:
                logp_NV = found_NV.new_empty(int(open_RL.sum()), found_NV.shape[1])
            logp_NV[same_R[open_RL.nonzero()[:, 0]]] = found_NV
        assert logp_NV is not None, "rows that are full are not read"
        return logp_NV

    def _read(self, row_S: Tensor, tokens_SL: Tensor, open_SL: Tensor, first: int, stop: int) -> Tensor:
        """Of rows that are read from one place to another."""
        device = self.network.embedding.weight.device
        row_S, tokens_SL, open_SL = (x.to(device) for x in (row_S, tokens_SL, open_SL))
        place_ST = torch.arange(first, stop, device=device).expand(len(row_S), -1)
        bias_STL = None
        if self.predict.boundary is not None:
            told_SL = documents(tokens_SL, self.predict.boundary)[:, :stop]
            bias_STL = additive(told_SL[:, first:, None] == told_SL[:, None], self.network.embedding.weight.dtype)
        outputs_STW = self.network.extend(
            tokens_SL[:, first:stop], place_ST, self.cache.pasts(row_S, place_ST, stop), bias_STL, self.turns
        )
        first_S = torch.full_like(row_S, first)
        return log_probabilities(self.predict, outputs_STW, first_S, tokens_SL, open_SL).cpu()

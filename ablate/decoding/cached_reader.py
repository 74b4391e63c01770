"""Reading with a cache: what a pass makes of tokens that no later token can change is made once.

A token's keys and values are final when every token of its block of attention, and of those before, is revealed and has
been read so: under causal attention a block is one token. Under full attention nothing is ever final.

Shapes: B sequences, R rows of them that are read in a pass, L positions, T places read, N open places, V vocabulary,
W width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ablate.core.corpus import documents, unscored
from ablate.decoding.predictor import Predict, Predictor
from ablate.model.attention import Attention, Pattern, additive
from ablate.model.attention_pattern import visible
from ablate.model.kv_cache import KeyValueCache


def final_size(pattern: Pattern) -> int:
    """Tokens that become final together, from left to right; 0 where none ever does."""
    return {Attention.causal: 1, Attention.block: pattern.size}.get(pattern.kind, 0)


def cacheable(predict: Predict) -> bool:
    """Does what it reads become final?"""
    return isinstance(predict, Predictor) and final_size(predict.objective.reading) > 0


def log_probabilities(
    predict: Predictor, outputs_RTW: Tensor, first_R: Tensor, tokens_RL: Tensor, open_RL: Tensor
) -> Tensor:
    """(N, V) of the open places, nats, row by row, by normed outputs of each row from its first place on."""
    network, offset = predict.network, predict.objective.offset
    in_row_N, place_N = open_RL.nonzero(as_tuple=True)
    at_N = place_N + offset - first_R[in_row_N]
    logits_NV = network.logits(outputs_RTW[in_row_N, at_N.clamp_min(0)])[:, : network.tokens]
    if offset:
        unscored_N = place_N == 0
        if predict.boundary is not None:
            unscored_N = unscored(tokens_RL, predict.boundary)[in_row_N, place_N]
        logits_NV[unscored_N] = network.allowed_V[: logits_NV.shape[1]]
    return logits_NV.float().log_softmax(-1)


class CachedReader:
    """What a `Predictor` says of the open places of B rows as they are filled from left to right, pass by pass.

    Equal to its prediction of the whole rows but for rounding. again: may tokens be hidden again? Raises ValueError
    where attention is neither causal nor by blocks.
    """

    def __init__(self, predict: Predict, rows: int, length: int, again: bool = True):
        if not isinstance(predict, Predictor) or not cacheable(predict):
            label = predict.objective.label if isinstance(predict, Predictor) else "something else"
            raise ValueError(
                f"a cache: wanted a network that attends to its left or by blocks, got {label}, of which a later token "
                "changes what was read before; decode without one"
            )
        self.predict, self.network, pattern = predict, predict.network, predict.objective.reading
        self.size = final_size(pattern)
        like = self.network.embedding.weight
        self.bias_LL = additive(visible(pattern, length).to(like.device), like.dtype)
        self.again, self.turns = again, self.network.turns(length)
        self.cache = KeyValueCache(self.network.config, rows, length, like)
        self.final_B = torch.zeros(rows, dtype=torch.int64, device=like.device)  # places whose keys are final
        self.last_BW = like.new_zeros(rows, like.shape[1])  # output of the last of them

    @torch.no_grad()
    def __call__(
        self, row_R: Tensor, tokens_RL: Tensor, open_RL: Tensor, start_R: Tensor, end_R: Tensor | None = None
    ) -> Tensor:
        """(N, V) log-probabilities of the open places, nats, row by row. end_R: nothing is read from there on."""
        device = self.final_B.device
        row_R, tokens_RL, open_RL = (x.to(device) for x in (row_R, tokens_RL, open_RL))
        clean_R = (tokens_RL != self.network.mask_id).int().cumprod(1).sum(1)  # tokens before the first mask
        if self.again:
            self._forget(row_R, clean_R)
        first_R, place_RT = self._places(row_R, open_RL)
        stop = int(place_RT.max()) + 1
        outputs_RTW = self.network.extend(
            tokens_RL.gather(1, place_RT),
            place_RT,
            self.cache.pasts(row_R, place_RT, stop),
            self._bias(tokens_RL, place_RT, stop, None if end_R is None else end_R.to(device)),
            self.turns,
        )
        outputs_RTW = torch.cat([self.last_BW[row_R][:, None], outputs_RTW], 1)  # from the place before the first
        logp_NV = log_probabilities(self.predict, outputs_RTW, first_R - 1, tokens_RL, open_RL)
        self._settle(row_R, clean_R, first_R, outputs_RTW)
        return logp_NV.cpu()

    def _forget(self, row_R: Tensor, clean_R: Tensor) -> None:
        """Blocks in which a token was hidden again are read again, and the one before them for its outputs."""
        block_R, final_R = clean_R // self.size, self.final_B[row_R]
        again_R = (block_R - 1).clamp_min(0) * self.size
        self.final_B[row_R] = torch.where(block_R * self.size < final_R, again_R, final_R)

    def _places(self, row_R: Tensor, open_RL: Tensor) -> tuple[Tensor, Tensor]:
        """The first place that each row reads, and all of them, as many in every row: from what is final to the end of
        the block in which the last open place is predicted."""
        length = open_RL.shape[1]
        last_R = length - 1 - open_RL.int().flip(1).argmax(1) + self.predict.objective.offset
        end_R = ((last_R // self.size + 1) * self.size).clamp_max(length)
        most = max(1, int((end_R - self.final_B[row_R]).max()))
        first_R = self.final_B[row_R].clamp_max(length - most)
        return first_R, first_R[:, None] + torch.arange(most, device=first_R.device)

    def _bias(self, tokens_RL: Tensor, place_RT: Tensor, stop: int, end_R: Tensor | None) -> Tensor | None:
        """(R, T, stop): 0 where a place of a row sees another, -inf elsewhere; None where each sees all."""
        first = int(place_RT[:, 0].min())
        plain = self.predict.boundary is None and end_R is None
        if plain and first // self.size == (stop - 1) // self.size and bool((place_RT[:, 0] == first).all()):
            return None
        bias_RTL = self.bias_LL[:, :stop][place_RT]
        if self.predict.boundary is not None:
            told_RL = documents(tokens_RL, self.predict.boundary)
            other_RTL = told_RL.gather(1, place_RT)[..., None] != told_RL[:, None, :stop]
            bias_RTL = bias_RTL.masked_fill(other_RTL, -math.inf)
        if end_R is not None:  # a place behind the end still sees itself: no query is without a key
            place_L = torch.arange(stop, device=place_RT.device)
            behind_RTL = (place_L >= end_R[:, None, None]) & (place_L != place_RT[..., None])
            bias_RTL = bias_RTL.masked_fill(behind_RTL, -math.inf)
        return bias_RTL

    def _settle(self, row_R: Tensor, clean_R: Tensor, first_R: Tensor, outputs_RTW: Tensor) -> None:
        """Whole blocks of attention that were read without a mask are final now."""
        whole_R = torch.minimum(clean_R, first_R + outputs_RTW.shape[1] - 1)
        final_R = torch.maximum(whole_R // self.size * self.size, self.final_B[row_R])
        moved_R = final_R > self.final_B[row_R]
        rows, at = row_R[moved_R], (final_R - first_R)[moved_R]  # the place before `final` is 1 further here
        self.last_BW[rows] = outputs_RTW[moved_R, at]
        self.final_B[row_R] = final_R

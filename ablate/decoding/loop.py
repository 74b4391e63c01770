"""The decoding loop: passes that reveal answers block by block under a protocol.

Rows do not influence each other, and one that is full is read no more.

Shapes: B sequences, R rows that are not yet full, L positions, N open places, V vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ablate.core.corpus import Oracle
from ablate.decoding.answers import Answers, Decoded
from ablate.decoding.cached_reader import CachedReader
from ablate.decoding.predictor import Predict
from ablate.decoding.prefix_reader import PrefixReader
from ablate.decoding.protocol import Cache, Order, Protocol, SuffixRead


def decode(
    predict: Predict,
    prompt_BL: Tensor,
    answer_BL: Tensor,
    protocol: Protocol,
    mask_id: int,
    *,
    seed: int = 0,
    oracle: Oracle | None = None,
    attention_size: int = 0,
    cached: bool = False,
    watch: Callable[[Answers], object] = lambda _: None,
) -> Decoded:
    """Fills the answers. Its tensors are on the CPU, wherever the prompt is.

    seed: of random orders and drawn tokens; row i has its own noise. oracle: for the order oracle_k. attention_size:
    blocks in which the model attends, 0 for none: on the grid of the sequence none of them is begun before those to its
    left are full, as in training. cached: what no later token can change is read once; equal but for rounding. watch:
    sees the answers after each pass. Raises ValueError for an order without its oracle, for suffix=cut where a prompt
    stands behind an answer, and for a cache, exact or of a prefix, of what has none.
    """
    start = time.perf_counter()
    prompt_BL, answer_BL = prompt_BL.cpu(), answer_BL.cpu()
    _require(answer_BL, protocol, oracle)
    rows, length = prompt_BL.shape
    read: Callable[..., Tensor] = partial(_read, predict)
    if protocol.cache is Cache.prefix:
        read = PrefixReader(predict, rows, length)
    elif cached:
        read = CachedReader(predict, rows, length, protocol.remask > 0)
    answers = Answers(prompt_BL, answer_BL, protocol, mask_id, seed, attention_size)
    while answers.hidden_BL.any():
        row_R = answers.hidden_BL.any(1).nonzero()[:, 0]
        block_RL, tokens_RL = answers.block(row_R), answers.tokens_BL[row_R]
        open_RL = block_RL & answers.hidden_BL[row_R]
        end_R = _ends(block_RL) if protocol.suffix is SuffixRead.cut else None
        logp_NV = read(row_R, tokens_RL, open_RL, block_RL.int().argmax(1), end_R)
        answers.reveal(row_R, open_RL, logp_NV, _candidates(oracle, tokens_RL, open_RL, protocol))
        watch(answers)
    return replace(answers.decoded(), seconds=time.perf_counter() - start)


def _require(answer_BL: Tensor, protocol: Protocol, oracle: Oracle | None) -> None:
    if protocol.order is Order.oracle_k and oracle is None:
        raise ValueError("order=oracle_k: wanted a world, whose oracle knows K(c), got none; type order=confidence")
    if protocol.suffix is SuffixRead.cut and bool((answer_BL[:, :-1] & ~answer_BL[:, 1:]).any()):
        raise ValueError("suffix=cut: wanted answers that end the sequence, got prompts behind them; type suffix=mask")


def _ends(block_RL: Tensor) -> Tensor:
    """(R,) the place behind each row's block."""
    return block_RL.shape[1] - block_RL.int().flip(1).argmax(1)


def _read(predict: Predict, _: Tensor, tokens_RL: Tensor, open_RL: Tensor, __: Tensor, end_R: Tensor | None) -> Tensor:
    """(N, V) log-probabilities of the open places, row by row; of rows cut at their ends, if these are given."""
    if end_R is None:
        logp_RLV = predict(tokens_RL)
        return logp_RLV[open_RL.to(logp_RLV.device)].cpu()
    found: dict[int, Tensor] = {}
    for end in end_R.unique().tolist():
        same_R = (end_R == end).nonzero()[:, 0]
        logp_SLV, open_SL = predict(tokens_RL[same_R, :end]).cpu(), open_RL[same_R, :end]
        found |= {int(row): logp_SLV[i, open_SL[i]] for i, row in enumerate(same_R)}
    return torch.cat([found[row] for row in range(len(tokens_RL))])


def _candidates(oracle: Oracle | None, tokens_RL: Tensor, open_RL: Tensor, protocol: Protocol) -> Tensor | None:
    """(N,) K(c) of open places, for the order that asks; inf in rows that the oracle holds impossible."""
    if protocol.order is not Order.oracle_k or oracle is None:
        return None
    k_RL = torch.full(tokens_RL.shape, math.inf, dtype=torch.float64)
    possible_R = oracle.log_evidence(tokens_RL) > -math.inf
    if possible_R.any():
        p_RLV = oracle.posterior(tokens_RL[possible_R]).p_BLV
        k_RL[possible_R] = torch.special.entr(p_RLV).sum(-1).exp()
    return k_RL[open_RL]

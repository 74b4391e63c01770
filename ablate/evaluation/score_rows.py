"""What decoded answers come to: scores, how they were revealed, and how often that became impossible.

Shapes: B questions, M questions of all protocols, L positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ablate.core.blocks import offset_of
from ablate.core.corpus import Oracle, Query
from ablate.decoding.answers import Decoded
from ablate.decoding.protocol import Protocol

Row = dict[str, object]


def score_rows(found: Sequence[Decoded], query: Query, mask_id: int, oracle: Oracle | None) -> list[Row]:
    """Metrics of each protocol, each a mean over questions or tokens.

    score: share of answer items that are right; exact: of answers right as a whole. tokens_a_pass: answer tokens over
    forward passes. left_to_right: see `left_to_right`. inconsistent: share of questions in which the decoder met a
    state that the oracle holds impossible, where there is an oracle. The last two without remasking alone.
    """
    rows: list[Row] = []
    judged = [decoded for decoded in found if oracle is not None and not decoded.protocol.remask]
    impossible = dict(zip(map(id, judged), inconsistent(judged, mask_id, oracle), strict=True)) if oracle else {}
    for decoded in found:
        p, right_B = decoded.protocol, query.verify(decoded.tokens_BL)
        values = {
            "score": float(right_B.mean()),
            "exact": float((right_B == 1).double().mean()),
            "tokens_a_pass": decoded.tokens_a_pass,
        }
        if not p.remask:
            values["left_to_right"] = left_to_right(decoded.order_BL)
        if id(decoded) in impossible:
            values["inconsistent"] = impossible[id(decoded)]
        where = {"contexts": "decode", **named(p), "offset": offset_of(query.answer_BL, p.block_size, p.grid)}
        rows += [{"metric": metric, **where, "value": value} for metric, value in values.items()]
    return rows


def named(protocol: Protocol) -> Row:
    """A protocol as columns of records."""
    return {
        "block_size": protocol.block_size,
        "grid": str(protocol.grid),
        "order": str(protocol.order),
        "pace": protocol.pace,
        "protocol": protocol.rest,
    }


def left_to_right(order_BL: Tensor) -> float:
    """Share of answer tokens that come after all answer tokens on their left in the order of revealing, within a pass
    the order of priority."""
    answer_BL = order_BL >= 0
    return float((order_BL == order_BL.cummax(1).values)[answer_BL].double().mean())


def inconsistent(found: Sequence[Decoded], mask_id: int, oracle: Oracle) -> list[float]:
    """Of each protocol, the share of questions whose state before the last pass has probability 0.

    Tokens are only ever added, so these are the questions in which any state was impossible.
    """
    before = [decoded.before(decoded.passes_B[:, None] - 1, mask_id) for decoded in found]
    if not before:
        return []
    impossible_M = oracle.log_evidence(torch.cat(before)).isneginf()
    return [float(part_B.double().mean()) for part_B in impossible_M.split([len(x_BL) for x_BL in before])]

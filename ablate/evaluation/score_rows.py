"""What decoded answers come to: scores, how they were revealed, and how often that became impossible.

Shapes: B questions, L positions.
"""

from __future__ import annotations

from torch import Tensor

from ablate.core.blocks import offset_of
from ablate.core.corpus import Oracle, Query
from ablate.decoding.answers import Decoded
from ablate.decoding.protocol import Protocol

Row = dict[str, object]


def score_rows(decoded: Decoded, query: Query, mask_id: int, oracle: Oracle | None) -> list[Row]:
    """Metrics of one protocol, each a mean over questions or tokens.

    score: share of answer items that are right; exact: of answers right as a whole. tokens_a_pass: answer tokens over
    forward passes. left_to_right: see `left_to_right`. inconsistent: see there, where there is an oracle. The last two
    without remasking alone.
    """
    p, right_B = decoded.protocol, query.verify(decoded.tokens_BL)
    values = {
        "score": float(right_B.mean()),
        "exact": float((right_B == 1).double().mean()),
        "tokens_a_pass": decoded.tokens_a_pass,
    }
    if not p.remask:
        values["left_to_right"] = left_to_right(decoded.order_BL)
        if oracle is not None:
            values["inconsistent"] = inconsistent(decoded, mask_id, oracle)
    where = {"contexts": "decode", **named(p), "offset": offset_of(query.answer_BL, p.block_size, p.grid)}
    return [{"metric": metric, **where, "value": value} for metric, value in values.items()]


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


def inconsistent(decoded: Decoded, mask_id: int, oracle: Oracle) -> float:
    """Share of questions in which the decoder met a state that the oracle holds impossible.

    Tokens are only ever added, so these are the ones whose state before the last pass has probability 0.
    """
    before_BL = decoded.before(decoded.passes_B[:, None] - 1, mask_id)
    return float(oracle.log_evidence(before_BL).isneginf().double().mean())

"""Answers as they are revealed: for a terminal, and as rows of a figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

import pandas as pd
from rich.text import Text
from torch import Tensor

from ablate.core.terminal import terminal
from ablate.decoding.answers import Answers, Decoded

HIDDEN, NEXT = "\u00b7", "\u2591"  # a place that is to be filled, and one of the block at work
STYLES = {"prompt": "dim", "old": "", "new": "bold green", HIDDEN: "dim", NEXT: "yellow"}

T = TypeVar("T")


def tracked(steps: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The steps, and a bar of them where a terminal reads the errors."""
    from rich.progress import track

    console = terminal(stderr=True)
    yield from track(steps, what, total, console=console, transient=True, disable=not console.is_terminal)


def shown(answers: Answers, answer_BL: Tensor, text: Callable[[Sequence[int]], str]) -> Text:
    """Every row: prompt, what is revealed, what this pass has revealed, the block at work and the rest."""
    lines, behind_BL = [], answers.decoded().behind_BL.tolist()
    for row in range(len(answer_BL)):
        hidden_L, pass_L = answers.hidden_BL[row].tolist(), answers.pass_BL[row].tolist()
        blocks_L = answers.block_BL[row].tolist()
        now = min((block for block, hidden in zip(blocks_L, hidden_L, strict=True) if hidden), default=None)
        last, line = int(answers.passes_B[row]) - 1, Text()
        places = [
            (_state(asked, hidden, block == now, number == last), token)
            for asked, hidden, block, number, token, behind in zip(
                answer_BL[row].tolist(),
                hidden_L,
                blocks_L,
                pass_L,
                answers.tokens_BL[row].tolist(),
                behind_BL[row],
                strict=True,
            )
            if not behind
        ]
        for state, part in groupby(places, lambda place: place[0]):
            ids = [token for _, token in part]
            line.append(state * len(ids) if state in (HIDDEN, NEXT) else text(ids), STYLES[state])
        lines.append(line)
    return Text("\n").join(lines)


def _state(asked: bool, hidden: bool, in_block: bool, fresh: bool) -> str:
    if not asked:
        return "prompt"
    if hidden:
        return NEXT if in_block else HIDDEN
    return "new" if fresh else "old"


def reveal_rows(found: Decoded, text: Callable[[Sequence[int]], str]) -> pd.DataFrame:
    """A row per token up to the end of each answer, as `figures.learning.reveal_order` draws them."""
    tokens_BL, pass_BL, behind_BL = found.tokens_BL.tolist(), found.pass_BL.tolist(), found.behind_BL.tolist()
    return pd.DataFrame(
        [
            {"row": row, "place": place, "text": text([token]), "pass": pass_BL[row][place]}
            for row, tokens_L in enumerate(tokens_BL)
            for place, token in enumerate(tokens_L)
            if not behind_BL[row][place]
        ]
    )

"""What a network writes: `python experiments/generate.py RUN [prompt="..."] [block_size=4 order=confidence pace=...]`

RUN is the folder of a finished run, or hf:FOLDER with config.json, model.safetensors and tokenizer.json. Without a
prompt a run answers the first questions of its own corpus (questions=4), and its world says what is right. A prompt of
a world is written in its symbols, and the rest of the sequence is filled; of text new_tokens=64 are added.

  block_size=0             tokens a block; 0: as many as the network attends to in a block, else 1
  order=confidence         also left_to_right, random, confidence_of_sample, margin, entropy, oracle_k (worlds)
  pace=tokens:1            tokens of a pass; also passes:N, threshold:P, dynamic:F, all
  grid=                    where blocks are counted from, answer or sequence; default: as in training
  temperature=0 top_p=1    greedy, or drawn; seed=1000 says which questions and which noise
  cache=exact              prefix: keeps what is before a block; approximate, for full attention alone
  stop=true                what follows a prompt ends at its end token; false: goes on
  live=true                shows the blocks as they are revealed, where a terminal reads
  trace=FILE.png           draws in which pass each token was revealed, and FILE.pdf

Networks that attend to their left or by blocks are read with a cache. docs/decoding.md says what the words mean.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

from pathlib import Path
from typing import TYPE_CHECKING

from ablate.core.terminal import terminal
from ablate.core.validation import UsageError
from experiments.cli.guard import guarded
from experiments.finished_runs.generation import Generation, read

if TYPE_CHECKING:
    from torch import Tensor

    from ablate.core.corpus import Query
    from ablate.decoding.answers import Decoded
    from experiments.finished_runs.loaded_model import LoadedModel


def main(words: list[str] | None = None) -> int:
    """Exit code 0 where it has written. Raises UsageError for what cannot be."""
    words = sys.argv[1:] if words is None else words
    if {"--help", "-h"} & {*words}:
        print(__doc__)
        return 0
    try:
        asked = read(words)
        _generate(asked)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return 0


def _generate(asked: Generation) -> None:
    from experiments.finished_runs.loaded_model import load_model

    known = load_model(asked.run)
    query = None
    if asked.prompt is not None:
        tokens_BL, answer_BL = known.prompted(asked.prompt, asked.new_tokens)
    elif known.corpus is None:
        raise UsageError(f"{asked.run}: it has no questions of its own; type prompt=TEXT")
    else:
        query = known.corpus.queries(asked.questions, asked.seed)
        tokens_BL, answer_BL = query.prompt(known.vocabulary.mask_id), query.answer_BL
    found = _decoded(known, asked, tokens_BL, answer_BL)
    console, judged = terminal(), _judged(known, query, found.tokens_BL)
    console.print(f"{known.name}: {found.protocol.words}", style="dim", highlight=False, markup=False, soft_wrap=True)
    for row in range(len(tokens_BL)):
        ids, asked_L = found.tokens_BL[row].tolist(), answer_BL[row].tolist()
        first = asked_L.index(True) if True in asked_L else len(ids)
        console.print(known.text(ids[:first]), style="dim", end="", highlight=False, markup=False, soft_wrap=True)
        ids = [id for id, behind in zip(ids, found.behind_BL[row].tolist(), strict=True) if not behind]
        console.print(known.text(ids[first:]), highlight=False, markup=False, soft_wrap=True, end="")
        console.print(f"   [{judged[row]}]", style="bold", markup=False, highlight=False)
    written = int((found.order_BL >= 0).sum())
    console.print(f"{found.tokens_a_pass:.2f} tokens a pass, {written} tokens in {found.seconds:.2f} s", style="dim")
    if asked.trace:
        from experiments.finished_runs.live_view import reveal_rows
        from figures.drawing import style
        from figures.learning import reveal_order

        figure = reveal_order.draw(reveal_rows(found, known.text), f"{known.name}: {found.protocol.words}.")
        for path in style.save(figure, Path(asked.trace).with_suffix("")):
            console.print(f"  {path}", markup=False, highlight=False, soft_wrap=True)


def _decoded(known: LoadedModel, asked: Generation, tokens_BL: Tensor, answer_BL: Tensor) -> Decoded:
    from rich.live import Live

    from ablate.decoding.cached_reader import cacheable
    from ablate.decoding.loop import decode
    from experiments.finished_runs.live_view import shown

    size, console = known.predict.objective.reading.size, terminal()
    ends = () if asked.prompt is None else known.ends  # a question is answered to its length
    protocol = asked.protocol(size, known.grid, ends)
    with Live(console=console, transient=True, auto_refresh=False) as live:
        watched = console.is_terminal and asked.live
        return decode(
            known.predict,
            tokens_BL,
            answer_BL,
            protocol,
            known.vocabulary.mask_id,
            seed=asked.seed,
            oracle=None if known.corpus is None else known.corpus.oracle,
            attention_size=size,
            cached=cacheable(known.predict),
            watch=lambda answers: watched and live.update(shown(answers, answer_BL, known.text), refresh=True),
        )


def _judged(known: LoadedModel, query: Query | None, tokens_BL: Tensor) -> list[str]:
    """What the corpus says of each answer: right or wrong where it knows, else how much is as it stands there."""
    if query is not None:
        shares = query.verify(tokens_BL).tolist()
        if not known.world:
            return [f"{share:.0%} of the tokens as in the text" for share in shares]
        return ["right" if share == 1 else f"wrong: {share:.0%} right" for share in shares]
    if not known.world:
        return ["no verifier"] * len(tokens_BL)
    return ["breaks no rule" if possible else "breaks a rule" for possible in known.possible(tokens_BL)]


if __name__ == "__main__":
    guarded(main)

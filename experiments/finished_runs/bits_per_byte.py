"""Real text scored by a checkpoint's folder, without training: bits a byte of held-out windows.

A network that reads from left to right is scored by the chain of its predictions, which is exact; any other by the
unclipped bound of masked diffusion in the blocks that it attends to, on the grid of its training.

Shapes: B windows, L positions, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ablate.core.blocks import Grid
from ablate.core.corpus import Domain, Split, unscored
from ablate.core.records import NO_BLOCKS
from ablate.core.validation import UsageError, path_of, require_ranges
from ablate.decoding.predictor import Predictor
from experiments.cli.compose import jobs
from experiments.cli.places import require_place
from experiments.cli.run_command import RUN
from experiments.cli.words import places_and_values
from experiments.finished_runs.loaded_model import load_model
from experiments.finished_runs.measure import bits_of, block_bits, error_of

TASK = "bits_per_byte"
NUMBERS = {"contexts": (2, 10**6), "seed": (0, 2**63 - 1)}


@dataclass
class Scoring:
    """What is asked of a folder: the words of the corpus, how many windows, and where the row goes, if anywhere.
    Raises ValueError for values out of range."""

    folder: str
    corpus: list[str]
    task: str = TASK
    contexts: int = 256
    seed: int = 1000
    out: str = ""

    def __post_init__(self) -> None:
        require_ranges(self, NUMBERS)
        if self.task != TASK:
            raise UsageError(f"task={self.task}: wanted {TASK}, which is all that a folder is scored by")


def read(words: list[str]) -> Scoring:
    """What was typed. Raises UsageError for what cannot be scored."""
    corpus = [word for word in words if word.startswith(("corpus=", "corpus."))]
    names = [f.name for f in fields(Scoring) if f.name not in ("folder", "corpus")]
    others = [word for word in words if word not in corpus]
    places, values = places_and_values(
        others, "hf:FOLDER, corpus=text corpus.folder=PATH", names, as_typed=("out", "task")
    )
    if len(places) != 1:
        raise UsageError(f"evaluate: wanted one hf:FOLDER at a time, got {', '.join(places)}; type them one by one")
    if values.get("out"):
        require_place(path_of("out", values["out"]), "out")
    return Scoring(places[0], corpus, **values)


def scored(asked: Scoring) -> dict[str, Any]:
    """The row, columns of `records.EVALUATION`. Raises UsageError or ValueError for what cannot be measured."""
    known, corpus = load_model(asked.folder), corpus_of(asked)
    v = corpus.vocabulary
    if corpus.oracle is not None or v.bytes_V is None:
        raise UsageError(f"corpus={corpus.name}: wanted real text; type corpus=text corpus.folder=PATH")
    if v.symbols != known.vocabulary.symbols:
        raise UsageError(
            f"corpus.tokenizer: wanted that of {asked.folder}, whose network knows no other tokens; leave it out"
        )
    predict = dataclasses.replace(known.predict, boundary=v.boundary)
    tokens_BL = corpus.batch(range(asked.contexts), asked.seed)
    scored_BL = ~unscored(tokens_BL, v.boundary)
    if predict.objective.left_to_right:
        bits_B, where = _chain(predict, tokens_BL, scored_BL), {"contexts": "ar"}
    elif v.boundary is not None:
        raise UsageError("corpus.document_mask: no bound within documents; type corpus.document_mask=false")
    else:
        size = predict.objective.reading.size or corpus.length
        bits_B = block_bits(predict, size, 0, tokens_BL, v, asked.seed)
        where = {"contexts": "bound", "block_size": size, "grid": str(Grid.sequence), "offset": 0}
    tokens_a_byte = float(scored_BL.sum() / torch.tensor(v.bytes_V)[tokens_BL][scored_BL].sum())
    return {
        **{"run": known.name, "corpus": corpus.name, "regime": "", "seed": 0, "stage": 0, "step": 0, "tokens": 0},
        **{"loss_tokens": 0, "flops": 0.0, "domain": str(corpus.domain), "split": str(corpus.split), "question": None},
        **NO_BLOCKS,
        **where,
        **{"objective": predict.objective.label, "metric": TASK, "question_seed": asked.seed, "n": asked.contexts},
        **{"value": float(bits_B.mean()) * tokens_a_byte, "error": error_of(bits_B) * tokens_a_byte},
        **{"passes": None, "seconds": None},
    }


def corpus_of(asked: Scoring) -> Any:
    """The held-out part of the corpus that the words describe, in the tokens of the folder."""
    RUN.register()
    (run,) = jobs(RUN, [f"init={asked.folder}", *asked.corpus])
    return dataclasses.replace(run.corpus, domain=Domain.new, split=Split.test)


def _chain(predict: Predictor, tokens_BL: Tensor, scored_BL: Tensor) -> Tensor:
    """(B,) bits a scored token, each given all on its left."""
    return (bits_of(predict, tokens_BL, tokens_BL, predict.network.tokens) * scored_BL).sum(1) / scored_BL.sum(1)


def told(row: dict[str, Any]) -> str:
    """The row in a line."""
    chain = row["contexts"] == "ar"
    how = "read from left to right, exact" if chain else f"unclipped bound, blocks of {row['block_size']}"
    value = f"{row['value']:.4f} ± {row['error']:.4f} bits a byte"
    return f"{row['run']}: {value} of {row['corpus']} ({how}; {row['n']} windows)"

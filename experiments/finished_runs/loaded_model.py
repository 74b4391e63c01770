"""A network and its vocabulary, loaded from a finished run or a checkpoint's folder, to be given a prompt."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ablate.compute.device import Device, Precision, attention_form
from ablate.compute.execution import load_weights
from ablate.core.blocks import Grid
from ablate.core.corpus import Corpus, Split, Vocabulary
from ablate.core.foreign_files import printable, read_json, require_id
from ablate.core.validation import UsageError, path_of
from ablate.decoding.predictor import Predictor
from ablate.model.attention import Attention
from ablate.model.hf_config import read_config, shape_of
from ablate.model.hf_weights import TOKENIZER, VOCABULARY, folder_of, read_weights, symbols_of
from ablate.model.transformer import Transformer
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.problem import Objective
from ablate.text.tokenizer import TextTokenizer, checkpoint_tokenizer
from experiments.finished_runs import run_folder
from experiments.finished_runs.measure import predictor

Encode: TypeAlias = Callable[[str], list[int]]
Text: TypeAlias = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class LoadedModel:
    """encode: ids of a prompt. exact_text: what ids say. most: tokens of prompt and answer together. corpus: of
    questions, where there is one; a world's sequences have just `most` tokens. begin: ids that every prompt begins
    with. ends: ids that end a text; a world's sequence has none."""

    name: str
    predict: Predictor
    vocabulary: Vocabulary
    encode: Encode
    exact_text: Text
    most: int
    begin: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    corpus: Corpus | None = None

    def text(self, ids: Sequence[int]) -> str:
        """What ids say, fit for a terminal."""
        return printable(self.exact_text(ids), keep="\n\t")

    @property
    def world(self) -> bool:
        return self.corpus is not None and self.corpus.oracle is not None

    def possible(self, tokens_BL: Tensor) -> list[bool]:
        """Of a world: which rows break none of its rules, whatever it holds out."""
        corpus: Any = self.corpus
        law = dataclasses.replace(corpus, split=Split.whole) if Split.whole in corpus.splits else corpus
        return (law.oracle.log_evidence(tokens_BL) > -math.inf).tolist()

    @property
    def grid(self) -> Grid:
        return self.predict.objective.grid

    def prompted(self, prompt: str, new_tokens: int) -> tuple[Tensor, Tensor]:
        """One row, the prompt and MASK behind it, and where the answer is. Raises UsageError for a prompt that cannot
        be read or leaves no room."""
        ids = self.encode(prompt)
        ids = [*([] if tuple(ids[: len(self.begin)]) == self.begin else self.begin), *ids]
        length = self.most if self.world else len(ids) + new_tokens
        if len(ids) >= self.most or length > self.most:
            asked = "at least one" if self.world else str(new_tokens)
            raise UsageError(
                f"prompt: wanted room for {asked} more tokens of at most {self.most} in all, got a prompt of {len(ids)}"
                f"; type a shorter prompt{'' if self.world else ' or new_tokens=N'}"
            )
        if not ids:
            raise UsageError("prompt: wanted at least one token, since the first is never predicted, got none")
        tokens_1L = torch.tensor([[*ids, *[self.vocabulary.mask_id] * (length - len(ids))]])
        return tokens_1L, torch.arange(length)[None] >= len(ids)


def load_model(run: str) -> LoadedModel:
    """Raises UsageError, RunError or ValueError for what cannot be read."""
    return _of_folder(run) if run.startswith("hf:") else _of_run(run_folder.read(path_of("RUN", run)))


def _of_run(run: run_folder.Finished) -> LoadedModel:
    predict, corpus, v = predictor(run), run.of(Split.test), run.corpus.vocabulary
    if corpus.oracle is None:
        tokenizer = run.corpus.built_tokenizer
        ends = (tokenizer.separator[1],)
        return LoadedModel(run.folder.name, predict, v, *_symbols(tokenizer), corpus.length, ends=ends, corpus=corpus)
    first = tuple(i for i, symbol in enumerate(v.symbols) if symbol == "<bos>")
    return LoadedModel(run.folder.name, predict, v, partial(_world_ids, v), v.text, corpus.length, first, corpus=corpus)


def _of_folder(init: str) -> LoadedModel:
    folder = folder_of(init)
    config, shape = read_config(folder), shape_of(folder)
    v, encode, text, begin = _vocabulary(folder, config)
    rows = max(shape.vocabulary, v.mask_id + 1)  # a checkpoint that knows no MASK gets a row for it
    network = Transformer(shape, rows, v.mask_id, attention_form(Device.cpu, Precision.fp32), tokens=min(rows, len(v)))
    load_weights(network, dict(read_weights(folder, shape, rows)))
    most = config.get("max_position_embeddings")
    return LoadedModel(
        folder.name,
        Predictor(network.eval(), _objective(folder, config.get("ablate"))),
        v,
        encode,
        text,
        most if isinstance(most, int) else 2**20,
        begin,
        _ends(folder, config),
    )


def _ends(folder: Path, config: dict[str, Any]) -> tuple[int, ...]:
    """What generation_config.json calls the end of a text, else config.json: an id or several."""
    beside = folder / "generation_config.json"
    said = read_json(beside) if beside.exists() else {}
    found = said.get("eos_token_id") if isinstance(said, dict) else None
    found = config.get("eos_token_id") if found is None else found
    ids = found if isinstance(found, list) else [] if found is None else [found]
    for id in ids:
        require_id(id, f"{folder}: eos_token_id")
    return tuple(ids)


def _objective(folder: Path, said: Any) -> Objective:
    """As which an export of ours says that it is read; any other is read from left to right."""
    if not isinstance(said, dict):
        return Autoregressive()
    try:
        kind, size, shift = Attention(said["attention"]), int(said["size"]), int(said["offset"]) != 0
        if kind is Attention.block:
            return BlockDiffusion(size, shift=shift)
        if shift and kind is not Attention.full:
            return Autoregressive(kind)
        return MaskedDiffusion(kind, shift=shift)
    except (KeyError, TypeError, ValueError):
        raise UsageError(
            f"{folder}: wanted in config.json what export.py writes under ablate, got {json.dumps(said)[:80]}; export "
            "the run again"
        ) from None


def _vocabulary(folder: Path, config: dict[str, Any]) -> tuple[Vocabulary, Encode, Text, tuple[int, ...]]:
    """Of a tokenizer, or of a world's symbols, which export.py has listed; and with which ids a text begins."""
    if (folder / TOKENIZER).exists() or not (folder / VOCABULARY).exists():
        tokenizer = checkpoint_tokenizer(str(folder))
        return tokenizer.vocabulary, *_symbols(tokenizer), tokenizer.opening
    symbols, mask_id = symbols_of(folder), config.get("mask_token_id")
    if mask_id not in symbols:
        raise UsageError(f"{folder}: wanted the id of MASK in config.json, got {mask_id!r}; export the run again")
    v = Vocabulary(tuple(symbols.get(i, "") for i in range(max(symbols) + 1)), mask_id)
    begin = config.get("bos_token_id")
    return v, partial(_world_ids, v), v.text, (begin,) if isinstance(begin, int) else ()


def _symbols(tokenizer: TextTokenizer) -> tuple[Encode, Text]:
    return lambda prompt: tokenizer.encode([prompt])[0], tokenizer.decode


def _world_ids(vocabulary: Vocabulary, prompt: str) -> list[int]:
    """The longest symbol first, blanks at will. Raises UsageError at the first place where none stands."""
    by_text = {s.strip(): i for i, s in enumerate(vocabulary.symbols) if s.strip() and i != vocabulary.mask_id}
    longest, ids, place = max(map(len, by_text)), [], 0
    while place < len(prompt):
        if prompt[place].isspace():
            place += 1
            continue
        size = next((n for n in range(longest, 0, -1) if prompt[place : place + n] in by_text), 0)
        if not size:
            raise UsageError(
                f"prompt: wanted symbols of the world, such as {' '.join(list(by_text)[:8])}, got "
                f"{prompt[place:][:8]!r} at place {place}; leave prompt= out to see the world's own questions"
            )
        ids.append(by_text[prompt[place : place + size]])
        place += size
    return ids

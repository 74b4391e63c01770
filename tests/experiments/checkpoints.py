"""Folders of checkpoints that tests write: a Llama with a tokenizer of its own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from ablate.model.hf_config import config_of, names
from ablate.model.transformer import Transformer
from ablate.text.tokenizer import TextTokenizer, trained
from experiments import export
from experiments.hf_export.tokenizer_files import tokenizer_files
from tests.builders import network

TEXT = "words and more words, "


def plain_llama(folder: Path, **config: Any) -> tuple[Transformer, TextTokenizer]:
    """Writes it; random weights. config: further keys of its config.json."""
    own = trained([TEXT * 20], 300)
    net = network(3.0, vocabulary=own.vocabulary)
    write(folder, net, own, **config)
    return net, own


def write(
    folder: Path, net: Transformer, own: TextTokenizer, mask: bool = True, opening: str = "", **config: Any
) -> None:
    """mask: do the files know of MASK? opening: a token that the tokenizer's template puts before every text."""
    rows, weights = len(own.vocabulary) - (not mask), net.state_dict()
    sized = {
        theirs: weights[ours][:rows] if "embed" in theirs or "head" in theirs else weights[ours]
        for ours, theirs in names(net.config).items()
    }
    export.write_weights(folder, sized, "float32")
    known = own if mask else dataclasses.replace(own, mask=(own.mask[0], 10**6))  # so far that it is left out
    files = {"config.json": config_of(net.config, rows, 24) | config, **tokenizer_files(known, 24)}
    if opening:
        files["tokenizer.json"]["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": opening, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {opening: {"id": opening, "ids": [own.separator[1]], "tokens": [opening]}},
        }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))

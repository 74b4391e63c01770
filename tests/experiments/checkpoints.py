"""Folders of checkpoints that tests write: a Llama with a tokenizer of its own."""

from __future__ import annotations

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


def write(folder: Path, net: Transformer, own: TextTokenizer, **config: Any) -> None:
    weights = net.state_dict()
    export.write_weights(folder, {theirs: weights[ours] for ours, theirs in names(net.config).items()}, "float32")
    files = {"config.json": config_of(net.config, len(own.vocabulary), 24) | config, **tokenizer_files(own, 24)}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))

"""A tokenizer as transformers reads it: tokenizer.json and tokenizer_config.json, with separator and MASK in them."""

from __future__ import annotations

import json
from typing import Any

from ablate.model.hf_weights import TOKENIZER
from ablate.text.tokenizer import TextTokenizer

GAP = 1000  # ids without a token, up to MASK's, that are given placeholders


def tokenizer_files(tokenizer: TextTokenizer, context: int) -> dict[str, Any]:
    """Content of the two files; context: tokens that the network may read.

    A tokenizer.json numbers its added tokens in order, so ids that no token has get placeholders up to MASK's. Where
    there are more than GAP, MASK is left out; config.json says its id in any case.
    """
    parts = json.loads(tokenizer.content)
    added = parts.setdefault("added_tokens", None) or []
    entries = parts["model"]["vocab"]
    ids = set(range(len(entries)) if isinstance(entries, list) else entries.values()) | {t["id"] for t in added}
    special = [token for token in (tokenizer.separator, tokenizer.mask) if token[1] not in ids]
    for name, id in sorted(special, key=lambda token: token[1]):
        free = list(range(max(ids) + 1, id))
        if len(free) > GAP:
            continue
        for i, symbol in [*((i, f"<|unused_{i}|>") for i in free), (id, name)]:
            added.append(
                {
                    "id": i,
                    "content": symbol,
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
            )
            ids.add(i)
    parts["added_tokens"] = added
    said = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "eos_token": tokenizer.separator[0],
    }
    if tokenizer.mask[1] in ids:
        said["mask_token"] = tokenizer.mask[0]
    return {TOKENIZER: parts, "tokenizer_config.json": said}

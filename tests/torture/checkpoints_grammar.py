"""Hostile checkpoints: what may stand in a file of one, sound pieces among them, so that every reader is reached."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import save

from ablate.model.config import ModelConfig
from ablate.model.hf_config import config_of, names
from ablate.model.transformer import Transformer
from tests.text.test_foreign_tokenizers import HOSTILE, PLAIN
from tests.torture.foreign_folders import (
    as_json,
    changed,
    damaged,
    no_json,
    scalars,
    special,
    values,
)

SHAPE = ModelConfig(16, 1, 2, 1, hidden=24, vocabulary=6, tied=True)
CONFIG = config_of(SHAPE, 6, 64) | {"eos_token_id": 2, "mask_token_id": 3, "bos_token_id": 0}
STRETCHED = CONFIG | {
    "rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32, "beta_slow": 1.0}
}
STATE = Transformer(SHAPE, 6, mask_id=0).state_dict()
WEIGHTS = {theirs: STATE[ours].clone() for ours, theirs in names(SHAPE).items()}
SAFE = save(WEIGHTS)
HEAD = json.loads(SAFE[8 : 8 + struct.unpack("<Q", SAFE[:8])[0]])
DATA = SAFE[8 + struct.unpack("<Q", SAFE[:8])[0] :]
TOKENIZER = PLAIN | {
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}]},
    "normalizer": {"type": "NFC"},
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "added_tokens": [
        {
            **{"id": 3, "content": "<x>", "special": True},
            **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
        }
    ],
}
INDEX = {"metadata": {"total_size": 9}, "weight_map": dict.fromkeys(WEIGHTS, "model-1.safetensors")}
BESIDE = {"eos_token_id": 2, "eos_token": {"content": "</s>"}}


def pickled(content: Any) -> bytes:
    file = io.BytesIO()
    try:
        torch.save(content, file)
    except Exception:  # what torch does not write is no file
        return b"none"
    return file.getvalue()


def safetensors(header: bytes, length: int | None, data: bytes) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def with_pickle(raw: bytes) -> bytes:
    """The file that torch.save wrote, with another pickle in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(PICKLE)) as parts, zipfile.ZipFile(file, "w") as made:
        for name in parts.namelist():
            made.writestr(name, raw if name.endswith("data.pkl") else parts.read(name))
    return file.getvalue()


PICKLE = pickled(WEIGHTS)
with zipfile.ZipFile(io.BytesIO(PICKLE)) as _parts:
    INNER = next(_parts.read(name) for name in _parts.namelist() if name.endswith("data.pkl"))
NORM = "model.norm.weight"
tensors = st.sampled_from(
    [
        torch.ones(16),
        torch.ones(16).to_sparse(),
        torch.ones(16, device="meta"),
        torch.ones(1).expand(16),
        torch.ones(1).expand(10**6, 10**6),
        torch.quantize_per_tensor(torch.ones(16), 0.1, 0, torch.qint8),
        torch.ones(16, dtype=torch.complex64),
        torch.ones(16, dtype=torch.int64),
        torch.ones(16).bool(),
        torch.ones(16).to(torch.float8_e5m2),
        torch.ones(16, 0),
        torch.tensor(1.0),
        torch.ones(16).double().requires_grad_(),
        torch.nn.Parameter(torch.ones(16)),
        torch.ones(6, 16).half(),
        torch.ones(32)[::2],
    ]
)
keys = st.one_of(
    st.sampled_from([*WEIGHTS, "lm_head.weight", "rotary_emb.inv_freq", "x"]),
    st.integers(),
    st.none(),
    st.tuples(scalars),
)
states = st.dictionaries(keys, st.one_of(tensors, values), max_size=3).map(lambda more: {**WEIGHTS, **more})
configs = st.one_of(
    *[st.just(json.dumps(CONFIG).encode())] * 4,
    as_json(changed(CONFIG, 2)),
    as_json(changed(STRETCHED, 2)),
    as_json(values),
    no_json,
)
weights = st.one_of(
    *[st.just({"model.safetensors": SAFE})] * 3,
    damaged(SAFE).map(lambda raw: {"model.safetensors": raw}),
    st.builds(
        safetensors,
        st.one_of(as_json(changed(HEAD)), no_json),
        st.sampled_from([None, None, 0, 2**31, 2**63]),
        st.just(DATA),
    ).map(lambda raw: {"model.safetensors": raw}),
    st.builds(
        lambda index, raw: {"model.safetensors.index.json": index, "model-1.safetensors": raw},
        st.one_of(as_json(changed(INDEX)), as_json(values), no_json),
        st.sampled_from([SAFE, SAFE[:-9], b""]),
    ),
    states.map(pickled).map(lambda raw: {"pytorch_model.bin": raw}),
    st.one_of(values, tensors, st.lists(tensors, max_size=2)).map(pickled).map(lambda raw: {"pytorch_model.bin": raw}),
    damaged(PICKLE).map(lambda raw: {"pytorch_model.bin": raw}),
    damaged(INNER).map(with_pickle).map(lambda raw: {"pytorch_model.bin": raw}),
    values.map(pickle.dumps).map(with_pickle).map(lambda raw: {"pytorch_model.bin": raw}),
    special.map(lambda word: {"model.safetensors": word}),
    special.map(lambda word: {"pytorch_model.bin": word}),
    st.just({}),
)
tokenizers = st.one_of(
    *[st.just({"tokenizer.json": json.dumps(TOKENIZER).encode()})] * 4,
    as_json(changed(TOKENIZER)).map(lambda raw: {"tokenizer.json": raw}),
    as_json(changed(PLAIN, 2)).map(lambda raw: {"tokenizer.json": raw}),
    st.sampled_from([change for change, _ in HOSTILE.values()]).map(
        lambda change: {"tokenizer.json": json.dumps(PLAIN | change).encode()}
    ),
    st.one_of(no_json, as_json(values)).map(lambda raw: {"tokenizer.json": raw}),
    st.one_of(as_json(values), as_json(st.lists(scalars, max_size=6)), no_json).map(
        lambda raw: {"vocabulary.json": raw}
    ),
    special.map(lambda word: {"tokenizer.json": word}),
)
beside = st.dictionaries(
    st.sampled_from(["generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "vocabulary.json"]),
    st.one_of(as_json(changed(BESIDE, 2)), as_json(values), no_json, special),
    max_size=2,
)
folders = st.builds(
    lambda config, *parts: {"config.json": config, **{name: raw for one in parts for name, raw in one.items()}},
    st.one_of(configs, configs, configs, configs, special),
    st.one_of(st.just({}), st.just({}), beside),
    weights,
    tokenizers,
)

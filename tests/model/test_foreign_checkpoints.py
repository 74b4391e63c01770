"""Checkpoints of strangers: hostile pickles, headers, indices and settings are refused in one line that names them."""

import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from ablate.model.config import ModelConfig
from ablate.model.hf_config import config_of, names, read_config, shape_of
from ablate.model.hf_weights import content_hash, read_weights
from ablate.model.tensor_files import contents, tensor
from ablate.model.transformer import Transformer

ROWS = 20
NORM = "model.norm.weight"


@pytest.fixture
def folder(tmp_path):
    shape = ModelConfig(16, 1, 2, 1, hidden=24, vocabulary=ROWS, tied=True)
    (tmp_path / "config.json").write_text(json.dumps(config_of(shape, ROWS, 64)))
    return tmp_path


@pytest.fixture
def state(folder):
    network = Transformer(shape_of(folder), ROWS, mask_id=0).state_dict()
    return {theirs: network[ours].clone() for ours, theirs in names(shape_of(folder)).items()}


def read(folder):
    """Every weight of it, after what a run looks at before it begins."""
    content_hash(f"hf:{folder}", pickle=True)
    return dict(read_weights(folder, shape_of(folder), ROWS, pickle=True).items())


def refused(folder):
    with pytest.raises(ValueError, match=r"^init: [^\n]*$") as error:
        read(folder)
    return str(error.value)


def nested(depth):
    """A tuple of twice a tuple, so many times: a few hundred bytes, whose hash takes 2 ** depth steps."""
    made = (1,)
    for _ in range(depth):
        made = (made, made)
    return made


ODD = {
    "number as a name": lambda s: s | {1: torch.ones(1)},
    "nothing as a name": lambda s: s | {None: torch.ones(1)},
    "bytes as a name": lambda s: s | {b"x": 1},
    "tuple as a name": lambda s: s | {("a", 1): torch.ones(1)},
    "list": lambda s: list(s.values()),
    "tensor": lambda s: s[NORM],
    "sparse": lambda s: s | {NORM: s[NORM].to_sparse()},
    "sparse rows": lambda s: s | {"model.embed_tokens.weight": s["model.embed_tokens.weight"].to_sparse_csr()},
    "meta": lambda s: s | {NORM: s[NORM].to("meta")},
    "quantised": lambda s: s | {NORM: torch.quantize_per_tensor(s[NORM], 0.1, 0, torch.qint8)},
    "nested": lambda s: s | {NORM: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])},
    "expanded": lambda s: s | {NORM: torch.ones(1).expand(16)},
    "expanded without end": lambda s: s | {"x": torch.ones(1).expand(10**9, 10**9)},
    "complex": lambda s: s | {NORM: s[NORM].to(torch.complex64)},
    "bool": lambda s: s | {NORM: s[NORM] > 0},
    "float8": lambda s: s | {NORM: s[NORM].to(torch.float8_e4m3fn)},
    "other shape": lambda s: s | {NORM: torch.ones(16, 1)},
    "no dimension": lambda s: s | {NORM: torch.tensor(1.0)},
    "head in float8": lambda s: s | {"lm_head.weight": torch.ones(ROWS, 16).to(torch.float8_e4m3fn)},
    "deep key": lambda s: s | {nested(3): 1},
    "large integer": lambda s: s | {2**61: 1},
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.filterwarnings("ignore")
def test_odd_pickles_are_refused(name, folder, state):
    torch.save(ODD[name](state), folder / "pytorch_model.bin")
    refused(folder)


def test_aliases_are_read_where_they_are_whole(folder, state):
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    torch.save(OrderedDict(state) | {"step": 3}, folder / "pytorch_model.bin")
    assert torch.equal(read(folder)["embedding.weight"], state["lm_head.weight"])


def test_keys_that_take_for_ever_to_hash_are_refused_before_they_are_made(folder):
    torch.save({}, folder / "x.bin")
    with zipfile.ZipFile(folder / "x.bin") as parts:
        content = {part: parts.read(part) for part in parts.namelist()}
    for protocol in (2, 4):
        hostile = pickle.dumps([nested(60)], protocol)
        with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as parts:
            for part, raw in content.items():
                parts.writestr(part, hostile if part.endswith("data.pkl") else raw)
        assert "a tuple is used twice" in refused(folder)


def test_compressed_parts_of_a_pickle_are_refused(folder, state):
    torch.save(state, folder / "x.bin")
    with zipfile.ZipFile(folder / "x.bin") as parts, zipfile.ZipFile(folder / "pytorch_model.bin", "w", 8) as packed:
        for part in parts.namelist():
            packed.writestr(part, parts.read(part))
    assert "is compressed" in refused(folder)


def safetensors(header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(kind="F32", shape=(16,), first=0, last=64):
    return {"dtype": kind, "shape": shape, "data_offsets": [first, last]}


HEADERS = {
    "nothing": b"",
    "short": b"\0" * 7,
    "length without end": safetensors({}, length=2**63),
    "length of gigabytes": safetensors({}, length=2**34),
    "no JSON": safetensors(b"{" * 50),
    "deep": safetensors(b'{"a":' * 100_000),
    "list": safetensors([]),
    "unknown type": safetensors({NORM: entry("F31")}, bytes(64)),
    "negative shape": safetensors({NORM: entry(shape=[-16])}, bytes(64)),
    "shape without end": safetensors({NORM: entry(shape=[2**62, 2**62])}, bytes(64)),
    "overlapping": safetensors({NORM: entry(), "b": entry()}, bytes(64)),
    "beyond the file": safetensors({NORM: entry(last=128, shape=(32,))}, bytes(64)),
    "backwards": safetensors({NORM: entry(first=64, last=0)}, bytes(64)),
    "holes": safetensors({NORM: entry(first=4, last=68)}, bytes(68)),
    "strings": safetensors({NORM: "x"}, bytes(64)),
    "integers": safetensors({NORM: entry("I32")}, bytes(64)),
    "empty": safetensors({}),
}


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_headers_are_refused(name, folder):
    (folder / "model.safetensors").write_bytes(HEADERS[name])
    refused(folder)


INDICES = [
    "[" * 100_000,
    "[]",
    '{"weight_map": []}',
    '{"weight_map": 3}',
    '{"weight_map": {"a": 3}}',
    '{"weight_map": {"a": "../../x.safetensors"}}',
    '{"weight_map": {"a": "/etc/passwd"}}',
    '{"weight_map": {"a": "evil.bin"}}',
    '{"weight_map": {"a": "a\\u0000.safetensors"}}',
    '{"weight_map": {"a": "absent.safetensors"}}',
    '{"weight_map": {}}',
]


@pytest.mark.parametrize("content", INDICES)
def test_hostile_indices_are_refused(content, folder, state):
    torch.save(state, folder / "evil.bin")  # a pickle is not read unless asked for, whatever an index says
    (folder / "model.safetensors.index.json").write_text(content)
    refused(folder)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "config.json"]
)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_named(name, make, folder):
    path = folder / name
    path.unlink(missing_ok=True)
    make(path)
    kind = "a pipe" if make is os.mkfifo else "a folder"
    with pytest.raises(ValueError, match=rf"{name}.*{kind}, wanted a file") as error:
        read(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocabulary.json"])
def test_nor_is_a_pipe_hashed(name, folder, state):
    save_file(state, folder / "model.safetensors")
    read(folder)
    os.mkfifo(folder / name)
    assert "a pipe, wanted a file" in refused(folder)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mask_token_id": 10**15}, "mask_token_id: wanted an id from 0 to"),
        ({"hidden_size": 10**400}, "hidden_size: wanted a whole number"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps: wanted a number"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps: wanted a number"),
        ({"rope_theta": 1}, "rope_theta: wanted more than 1"),
        ({"rope_scaling": [1]}, "rope_scaling: wanted one set"),
        ({"layer_types": 5}, "layer_types: wanted full_attention alone, got 5"),
        ({"layer_types": [[]]}, "layer_types"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings: wanted true or false, got 'no'"),
        ({"architectures": [{"a": 1}]}, "unknown architecture"),
        ({"model_type": ["llama"]}, "unknown architecture"),
        ({"rope_scaling": {"rope_type": ["yarn"]}}, "rope_type"),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 2, "beta_slow": 1e-300}, "max_position_embeddings": 9},
            "beta_slow",
        ),
    ],
)
def test_settings_of_other_types_and_sizes_are_named(settings, said, folder):
    (folder / "config.json").write_text(json.dumps(read_config(folder) | settings))
    with pytest.raises(ValueError, match=rf"^[^\n]*config.json: [^\n]*{said}[^\n]*$"):
        shape_of(folder)


def test_a_file_that_changes_is_looked_at_again(folder, state):
    torch.save(state, folder / "x.bin")
    assert contents(folder / "x.bin")[NORM] == ((16,), "F32")
    assert torch.equal(tensor(folder / "x.bin", NORM), state[NORM])
    (folder / "x.bin").write_bytes(b"no")
    with pytest.raises(ValueError, match="wanted a file of tensors"):
        contents(folder / "x.bin")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "tokenizer.json"])
def test_a_file_without_end_is_not_hashed(name, folder, state):
    save_file(state, folder / "model.safetensors")
    if name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
    with (folder / name).open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=rf"^init: [^\n]*{name}: [^\n]*$"):
        content_hash(f"hf:{folder}", pickle=True)

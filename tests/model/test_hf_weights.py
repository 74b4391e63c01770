"""Checkpoints made by transformers give the same logits here; what cannot be read is named."""

import copy
import dataclasses
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from ablate.compute.execution import load_weights
from ablate.core.corpus import Vocabulary
from ablate.model.attention import CAUSAL
from ablate.model.config import ModelConfig
from ablate.model.hf_config import config_of, names, read_config, shape_of
from ablate.model.hf_weights import content_hash, read_weights, require_fit
from ablate.model.rope import RopeScaling, Stretch
from ablate.model.transformer import Transformer
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.regime import Regime, Stage
from ablate.training.budget import Budget
from ablate.training.resolution import resolve
from ablate.training.run_config import Run
from experiments.presets.model_sizes import MODELS
from tests import ROOT

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason='needs transformers: pip install -e ".[hf]"'
)
ROWS, TOLERANCE = 50, 1e-5
SIZES = {
    "vocab_size": ROWS,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rope_theta": 500.0,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "original_max_position_embeddings": 32,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
QWEN2 = {"model_type": "qwen2", "architectures": None}
KINDS = {
    "llama": ("llama", {}),
    "llama tied, all heads": ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "llama, wide heads": ("llama", {"head_dim": 12}),
    "llama, linear": ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.5}}),
    "llama, llama3": ("llama", {"rope_scaling": LLAMA3}),
    "llama, yarn": ("llama", {"rope_scaling": YARN}),
    "qwen2": ("qwen2", {}),
    "qwen2, yarn": ("qwen2", {"rope_scaling": {**YARN, "beta_fast": 8.0, "beta_slow": 2.0, "attention_factor": 1.3}}),
    "qwen3": ("qwen3", {"head_dim": 12}),
    "qwen3 tied": ("qwen3", {"head_dim": 8, "tie_word_embeddings": True}),
}


def made(folder, kind, settings, **saving):
    """A random checkpoint by transformers, biases and gains included, and its network."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **copy.deepcopy({**SIZES, **settings}))  # it writes into what it gets
    theirs = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            p.copy_(torch.rand(p.shape) + 0.5 if "norm" in name else 0.15 * torch.randn(p.shape))
    theirs.save_pretrained(folder, **saving)
    return theirs


def loaded(folder, rows=ROWS, **how):
    """Our network with a checkpoint's weights, by way of meta."""
    shape = shape_of(folder)
    with torch.device("meta"):
        network = Transformer(shape, rows, mask_id=rows - 1)
    network.to_empty(device="cpu")
    network.fill_tables()
    load_weights(network, read_weights(folder, shape, rows, **how))
    return network.eval()


def same(network, theirs, mask=ROWS - 1):
    tokens = torch.randint(mask, (2, 48), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        difference = network(tokens, CAUSAL)[..., :mask] - theirs(tokens).logits[..., :mask]
    return float(difference.abs().max()) < TOLERANCE


@needs_transformers
@pytest.mark.parametrize("name", KINDS)
def test_logits_are_those_of_transformers(name, tmp_path):
    theirs = made(tmp_path, *KINDS[name])
    network = loaded(tmp_path)
    assert same(network, theirs)
    assert (network.head.weight is network.embedding.weight) == ("tied" in name)
    with torch.no_grad():  # and a difference would be seen
        network.layers[1].v.weight.mul_(1.01)
    assert not same(network, theirs)


@needs_transformers
@pytest.mark.parametrize("name", KINDS)
def test_settings_of_both_generations_are_one_shape(name, tmp_path):
    made(tmp_path, *KINDS[name])
    shape = shape_of(tmp_path)
    new = read_config(tmp_path)
    written = config_of(shape, ROWS, 64)
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert shape_of(tmp_path) == shape
    assert {"rope_theta", "rope_scaling"} <= written.keys()
    rope = dict(new.get("rope_parameters") or {"rope_theta": new["rope_theta"], **(new.get("rope_scaling") or {})})
    assert rope.pop("rope_theta") == shape.rope_theta == 500
    assert rope.get("rope_type", "default") == (str(shape.rope_scaling.kind)).replace("none", "default")


@needs_transformers
def test_shards_and_pickles(tmp_path):
    theirs = made(tmp_path, "llama", {}, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert same(loaded(tmp_path), theirs)
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    whole = content_hash(f"hf:{tmp_path}")
    for path in [*shards, tmp_path / "model.safetensors.index.json"]:
        path.unlink()
    with pytest.raises(ValueError, match=r"pytorch_model.bin, a pickle.*init_pickle=true"):
        loaded(tmp_path)
    assert same(loaded(tmp_path, pickle=True), theirs)
    assert content_hash(f"hf:{tmp_path}", pickle=True) != whole
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch x'\ntR.")
    with pytest.raises(ValueError, match=r"pytorch_model.bin: wanted a file of tensors"):
        loaded(tmp_path, pickle=True)


@pytest.fixture
def folder(tmp_path):
    """A checkpoint without transformers: our names are theirs."""
    shape = ModelConfig(16, 2, 2, 1, hidden=24, vocabulary=ROWS, tied=True)
    (tmp_path / "config.json").write_text(json.dumps(config_of(shape, ROWS, 64)))
    network = Transformer(shape, ROWS, mask_id=0).state_dict()
    save_file({theirs: network[ours].clone() for ours, theirs in names(shape).items()}, tmp_path / "model.safetensors")
    return tmp_path


def change(folder, **tensors):
    path = folder / "model.safetensors"
    kept = load_file(path) | {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    save_file({name: t.clone() for name, t in kept.items() if t is not None}, path)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"model__norm__weight": None}, "model.norm.weight"),
        ({"model__layers__1__mlp__up_proj__weight": None}, "no tensor model.layers.1.mlp.up_proj.weight"),
        ({"model__layers__0__self_attn__q_proj__bias": torch.zeros(16)}, r"a tensor model.layers.0.self_attn.q_proj.b"),
        ({"lm_head__weight": torch.ones(ROWS, 16)}, "a tensor lm_head.weight, in model.safetensors"),
        ({"model__norm__weight": torch.ones(15)}, r"tensor model.norm.weight: wanted the shape \(16,\).*\(15,\)"),
        ({"model__norm__weight": torch.ones(16, dtype=torch.int8)}, r"model.norm.weight.*floating point.*I8"),
    ],
)
def test_wrong_tensors_are_named(folder, tensors, said):
    change(folder, **tensors)
    with pytest.raises(ValueError, match=said) as error:
        loaded(folder)
    assert "type init=hf: and the folder" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_changes_nothing_is_passed_over(folder):
    head = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].clone()  # of a file that changes
    change(folder, lm_head__weight=head, model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(4))
    network = loaded(folder)
    assert torch.equal(network.head.weight, head)
    assert network.head.weight is network.embedding.weight


def test_damaged_and_missing_files_are_named(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-10], b"x" * 100):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model.safetensors: wanted a safetensors file, got a damaged one"):
            loaded(folder)
    path.rename(folder / "model-00001-of-00002.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}))
    with pytest.raises(ValueError, match=r"wanted the shard model-00002-of-00002.safetensors"):
        loaded(folder)
    index.write_text("{")
    with pytest.raises(ValueError, match=r"index.json: wanted the index of a sharded"):
        loaded(folder)
    index.unlink()
    with pytest.raises(ValueError, match=r"wanted model.safetensors or model.safetensors.index.json, got neither"):
        loaded(folder)
    with pytest.raises(ValueError, match=r"nowhere: wanted the folder of a checkpoint, got"):
        loaded(folder / "nowhere")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_type": "mamba", "architectures": ["MambaForCausalLM"]}, "unknown architecture.*'mamba'.*MambaForC"),
        ({"architectures": 3}, "architectures: wanted a list of names, got 3"),
        ({"mask_token_id": "x"}, "mask_token_id: wanted an id from 0 to 4194303, got 'x'"),
        ({"hidden_size": 10**15}, "model.width: wanted 1..1048576, got 1000000000000000"),
        ({"max_position_embeddings": "128"}, "max_position_embeddings: wanted a whole number of 1 or more, got '128'"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "unknown architecture.*SequenceClassification"),
        ({"hidden_act": "gelu"}, 'hidden_act: wanted "silu".*"gelu"'),
        ({"attention_bias": True}, "attention_bias: wanted false"),
        ({"mlp_bias": True}, "mlp_bias"),
        (QWEN2 | {"use_sliding_window": True, "max_window_layers": 1}, "use_sliding_window: wanted false"),
        (QWEN2 | {"use_sliding_window": True, "num_hidden_layers": 29}, "use_sliding_window: wanted false"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types.*sliding_attention"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor: wanted 1.0"),
        ({"quantization_config": {"bits": 4}}, "quantization_config: wanted nothing"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type.*'dynamic'"),
        ({"rope_scaling": {**YARN, "mscale": 0.7}}, "rope_parameters.mscale"),
        ({"rope_scaling": {**YARN, "truncate": False}}, "rope_parameters.truncate: wanted true"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "low_freq_factor: wanted a number, got None"),
        ({"rope_scaling": None, "rope_parameters": {"full_attention": {}}}, "one set for all layers"),
        (
            {"rope_theta": None, "rope_scaling": LLAMA3, "rope_parameters": {"rope_theta": 5e5}},
            "rope_theta: wanted the same in both places, got 500000.0 in rope_parameters and nothing in rope_scaling",
        ),
        (
            {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}},
            "got 10000.0 in config.json and 500000.0 in rope_p",
        ),
        (
            {"rope_scaling": {**LLAMA3, "type": "linear"}},
            "got 'linear' in rope_scaling.type and 'llama3' in rope_scaling",
        ),
        (
            {"rope_scaling": LLAMA3, "original_max_position_embeddings": 64},
            "original_max_position_embeddings: wanted the same in both places, got 64 in config.json and 32 in rope",
        ),
        (
            {"rope_scaling": LLAMA3, "rope_parameters": {**LLAMA3, "factor": 3.0}},
            "factor: wanted the same in both places",
        ),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": YARN},
            "rope_type: wanted the same in both",
        ),
        ({"hidden_size": None}, "hidden_size: wanted a whole number"),
        ({"vocab_size": "many"}, "vocab_size.*'many'"),
        ({"num_attention_heads": 3, "head_dim": 5}, "model.head: wanted an even width"),
        ({"model_type": "qwen2", "architectures": None, "num_key_value_heads": None}, "num_key_value_heads"),
    ],
)
def test_settings_that_are_not_computed_are_refused_by_name(folder, settings, said):
    path = folder / "config.json"
    path.write_text(json.dumps(read_config(folder) | settings))
    with pytest.raises(ValueError, match=said) as error:
        shape_of(folder)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    "settings",
    [
        QWEN2 | {"use_sliding_window": True},  # transformers' max_window_layers is 28
        QWEN2 | {"use_sliding_window": True, "max_window_layers": 2},
        QWEN2 | {"use_sliding_window": True, "max_window_layers": 0, "sliding_window": None},
        QWEN2 | {"use_sliding_window": True, "max_window_layers": 0, "layer_types": ["full_attention"] * 2},
        {"architectures": ["DiffusionForCausalLM"]},  # an export that transformers has saved
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000}},
    ],
)
def test_settings_that_change_nothing_are_read(folder, settings):
    path = folder / "config.json"
    before = shape_of(folder)
    path.write_text(json.dumps(read_config(folder) | settings))
    assert dataclasses.replace(shape_of(folder), qkv_bias=before.qkv_bias) == before


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(folder, odd):
    state = load_file(folder / "model.safetensors")
    state["model.layers.1.mlp.up_proj.weight"][2, 3] = odd
    save_file(state, folder / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"^init: .*model.safetensors: tensor model.layers.1.mlp.up_proj.weight: wanted"
    ):
        loaded(folder)


def test_shapes_that_no_architecture_has_are_not_written():
    with pytest.raises(ValueError, match="no architecture with both"):
        config_of(ModelConfig(16, 1, 2, 2, qkv_bias=True, qk_norm=True), 10, 64)
    stretched = ModelConfig(16, 1, 2, 2, rope_scaling=RopeScaling(Stretch.yarn, 4.0, 100))
    assert config_of(stretched, 10, 64)["max_position_embeddings"] == 400


def test_rows_beyond_the_checkpoint_are_the_mean_of_it(folder):
    plain, wider = loaded(folder), loaded(folder, ROWS + 2)
    assert torch.equal(plain.embedding.weight, wider.embedding.weight[:ROWS])
    for row in wider.embedding.weight[ROWS:]:
        torch.testing.assert_close(row, plain.embedding.weight.mean(0))
    assert torch.isinf(wider.allowed_V[ROWS + 1])


def test_a_run_must_fit_its_checkpoint(folder):
    symbols = (*(f"s{i}" for i in range(ROWS)), "<mask>")
    (folder / "vocabulary.json").write_text(json.dumps(symbols[:-1]))
    shape, init = shape_of(folder), f"hf:{folder}"
    require_fit(init, shape, Vocabulary(symbols, ROWS))
    require_fit("", shape, Vocabulary(("a", "b"), 1))
    other = ModelConfig(**{**vars(shape), "layers": 3})
    fewer = ModelConfig(**{**vars(shape), "vocabulary": 0})
    for said, shape_, vocabulary, where in (
        ("model.layers: wanted 2.*got 3; leave out model=", other, Vocabulary(symbols, ROWS), init),
        (f"type model.vocabulary={ROWS}", fewer, Vocabulary(symbols, ROWS), init),
        ("corpus=python_source.*corpus.tokenizer=", shape, Vocabulary(("a", "b", "M"), 2), init),
        ("a row for every token", shape, Vocabulary((*symbols[:-1], "more", "<mask>"), ROWS + 1), init),
        ("init=llama: wanted hf:", shape, Vocabulary(symbols, ROWS), "llama"),
        (
            "model.mask_id: wanted 1.*type model.mask_id=-1",
            ModelConfig(**{**vars(shape), "mask_id": 3}),
            Vocabulary(("a", "b"), 1),
            "",
        ),
    ):
        if "row for every" in said:
            (folder / "vocabulary.json").write_text(json.dumps([*symbols[:-1], "more"]))
        with pytest.raises(ValueError, match=said):
            require_fit(where, shape_, vocabulary)


def test_a_run_from_a_damaged_checkpoint_is_refused_before_anything_is_written(folder):
    """When it is resolved, which the command line does before it makes a folder."""
    symbols = (*(f"s{i}" for i in range(ROWS)), "<mask>")
    (folder / "vocabulary.json").write_text(json.dumps(symbols[:-1]))
    vocabulary = Vocabulary(symbols, ROWS)
    corpus = SimpleNamespace(name="text", vocabulary=vocabulary, length=8, domain="new", split="train")
    regime = Regime("ar", [Stage(Autoregressive())])
    run = Run(corpus, shape_of(folder), regime, Budget(), init=f"hf:{folder}", device="cpu")
    assert resolve(run).base_steps == 0
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"wanted model.safetensors or .*, got neither; type init=hf: and the folder"):
        resolve(run)


def test_content_counts_and_place_does_not(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("copy") / "b"
    shutil.copytree(folder, elsewhere)
    assert content_hash(f"hf:{folder}") == content_hash(f"hf:{elsewhere}")
    change(elsewhere, model__norm__weight=torch.zeros(16))
    assert content_hash(f"hf:{folder}") != content_hash(f"hf:{elsewhere}")


def test_the_largest_preset_is_made_on_meta_in_no_time():
    shape = MODELS["2.5b"]
    start = time.perf_counter()
    with torch.device("meta"):
        network = Transformer(shape, shape.vocabulary, mask_id=0)
    assert time.perf_counter() - start < 5
    assert sum(p.numel() for p in network.parameters()) == shape.parameters(shape.vocabulary) > 2.4e9
    sizes = {name: s.parameters(s.vocabulary or 32_000) for name, s in MODELS.items()}
    assert (109e6 < sizes["110m"] < 111e6, 345e6 < sizes["350m"] < 355e6, 1e9 < sizes["1b"] < 1.1e9) == (True,) * 3


LOAD = """
import sys
from pathlib import Path
import safetensors.torch, torch, torch.distributed.tensor
from tests.model.test_hf_weights import loaded
loaded(Path(sys.argv[1]) / "small", 64)  # torch loads modules when first used: they are no part of the peak
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here

def peak():
    status = Path("/proc/self/status").read_text()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in status.splitlines() if "kB" in line}

before = peak()["VmRSS"]
if sys.argv[2] == "whole":
    from safetensors.torch import load_file
    kept = load_file(Path(sys.argv[1]) / "model.safetensors")
    rows = sum(float(t.sum()) for t in kept.values())
network = loaded(Path(sys.argv[1]), 4000)
print((peak()["VmHWM"] - before) / sum(p.numel() * 4 for p in network.parameters()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak of memory from Linux's /proc")
def test_loading_takes_one_copy_and_a_tensor(tmp_path):
    def save(folder, shape):
        (folder / "config.json").write_text(json.dumps(config_of(shape, shape.vocabulary, 64)))
        network = Transformer(shape, shape.vocabulary, mask_id=0).state_dict()
        save_file(
            {theirs: network[ours].clone() for ours, theirs in names(shape).items()}, folder / "model.safetensors"
        )
        return sum(t.numel() * 4 for t in network.values())

    (tmp_path / "small").mkdir()
    save(tmp_path / "small", ModelConfig(16, 1, 1, 1, vocabulary=64))
    assert save(tmp_path, ModelConfig(640, 8, 8, 8, vocabulary=4000)) > 100e6

    def peak(how):
        done = subprocess.run(
            [sys.executable, "-c", LOAD, str(tmp_path), how], capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
        return float(re.findall(r"[\d.]+", done.stdout)[-1])

    assert peak("lazily") < 1.3
    assert peak("whole") > 1.7  # and more would be seen

"""An exported run, loaded by transformers, is the network that was trained; the documented way from end to end."""

import functools
import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.console import Console
from scipy import stats

import synthetic_data
from ablate.compute.execution import load_weights
from ablate.core.blocks import Grid
from ablate.core.corpus import Domain, Split
from ablate.core.manifest import write_manifest
from ablate.core.storage import describe
from ablate.decoding.loop import decode
from ablate.decoding.predictor import Predictor
from ablate.decoding.protocol import Protocol
from ablate.model.attention import CAUSAL, Attention
from ablate.model.config import ModelConfig
from ablate.model.hf_config import read_config, shape_of
from ablate.model.rope import RopeScaling, Stretch
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.regime import Regime, Stage
from ablate.text.tokenizer import TextTokenizer, trained
from ablate.training.announcement import announcement
from ablate.training.base_model import base_key, base_weights
from ablate.training.budget import Budget
from ablate.training.checkpoint import final_weights
from ablate.training.networks import build_network
from ablate.training.resolution import resolve
from ablate.training.train import train
from experiments import export
from experiments import run as run_script
from experiments.cli import compose, run_command
from experiments.finished_runs import run_folder
from experiments.hf_export.tokenizer_files import tokenizer_files
from experiments.presets.registry import CORPORA, MODELS, REGIMES
from tests import ROOT
from tests.builders import tiny_run

QUIET = Console(quiet=True)
TOLERANCE = 1e-5
BUDGET = Budget(base_tokens=1200, tokens=2400, evaluations=1, questions=2, contexts=4, block_sizes=[1])
LLAMA, QWEN2 = ModelConfig(16, 2, 4, 2), ModelConfig(16, 2, 2, 2, tied=True, qkv_bias=True)
QWEN3 = ModelConfig(16, 1, 2, 1, qk_norm=True, head=12, rope_scaling=RopeScaling(Stretch.yarn, 2.0, 8))
LAST = {
    "AR": (Autoregressive(), LLAMA),
    "masked": (MaskedDiffusion(), QWEN2),
    "masked, causal": (MaskedDiffusion(Attention.causal), LLAMA),
    "blocks": (BlockDiffusion(4), QWEN3),
    "right to left": (Autoregressive(Attention.anticausal), LLAMA),
}
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason='needs transformers: pip install -e ".[hf]"'
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A function that gives the finished run of a name in LAST, which is trained once."""

    @functools.cache
    def trained_once(name):
        last, shape = LAST[name]
        regime = Regime("two", [Stage(Autoregressive(), 0.5, warmup=2), Stage(last, 0.5, warmup=2)])
        folder = tmp_path_factory.mktemp("ran")
        run = resolve(tiny_run(folder, model=shape, regime=regime, budget=BUDGET))
        train(run, QUIET)
        return run

    return trained_once


@pytest.fixture(scope="module", params=LAST)
def exported(request, ran, tmp_path_factory):
    """A run, its network, and the folder that it was exported to."""
    run, out = ran(request.param), tmp_path_factory.mktemp("exported") / "out"
    assert export.main([str(run.folder), f"out={out}"]) == 0
    network = build_network(run)
    load_weights(network, final_weights(run.folder))
    with torch.no_grad():
        assert float(network.layers[0].norm_mlp.std()) > 0  # it has been trained
    return run, network.eval(), out


@pytest.fixture
def load(tmp_path, monkeypatch):
    """from_pretrained, whose copies of modelling files go to a folder of the test."""
    import transformers

    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    return lambda *a, **k: transformers.AutoModelForCausalLM.from_pretrained(*a, **k).eval()


def tokens_of(run):
    tokens = run.corpus_for(Domain.new, Split.test).batch(range(4), seed=5)
    noise = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    return tokens.masked_fill(noise, run.corpus.vocabulary.mask_id)


@pytest.mark.slow
@needs_transformers
def test_plain_logits_are_those_of_the_network_read_from_left_to_right(exported, load):
    run, network, out = exported
    plain, tokens = load(out), tokens_of(run)
    assert type(plain).__module__.startswith("transformers.models.")
    assert plain.dtype == torch.float32
    with torch.no_grad():
        ours, theirs = network(tokens, CAUSAL), plain(tokens).logits
    real = torch.isfinite(network.allowed_V)
    torch.testing.assert_close(ours[..., real], theirs[..., real], rtol=0, atol=TOLERANCE)
    assert (out / "modeling_ablate.py").exists() == (run.regime.stages[-1].objective != Autoregressive())


@needs_transformers
def test_own_logits_and_decoding_are_those_of_the_last_stage(exported, load):
    run, network, out = exported
    objective = run.regime.stages[-1].objective
    if objective == Autoregressive():
        assert "auto_map" not in json.loads((out / "config.json").read_text())
        return
    model, predict = load(out, trust_remote_code=True), Predictor(network, objective)
    assert "ablate" not in {n.split(".")[0] for n in re.findall(r"^(?:import|from) (\S+)", MODELLING, re.M)}
    tokens, mask = tokens_of(run), run.corpus.vocabulary.mask_id
    with torch.no_grad():
        found = model(tokens, attention_mask=torch.ones_like(tokens)).logits.log_softmax(-1)
    wanted = predict(tokens).clone()
    assert bool(torch.isinf(found[:, 1:, mask]).all())
    for logp in (found, wanted):
        logp[..., mask] = 0
    torch.testing.assert_close(found[..., : wanted.shape[-1]], wanted, rtol=0, atol=TOLERANCE)
    answer = torch.zeros_like(tokens, dtype=torch.bool)
    answer[:, -7:] = True
    size_of = objective.reading.size
    for size, grid, cached in itertools.product((1, 3, 8), (None, *Grid), (True, False)):
        protocol = Protocol(size, grid=grid or objective.grid)
        decoded = decode(predict, tokens, answer, protocol, mask, attention_size=size_of)
        found = model.generate_blocks(tokens[:, :-7], 7, size, grid, use_cache=cached)
        assert torch.equal(found, decoded.tokens_BL)


PACES = ["tokens:2", "passes:3", "threshold:0.3", "dynamic:1.5", "all"]


@pytest.mark.slow
@needs_transformers
@pytest.mark.parametrize("order", ["left_to_right", "confidence", "margin", "entropy"])
def test_every_order_and_pace_is_ours_token_for_token(exported, load, order):
    """With and without an end token, and with the cache and without."""
    run, network, out = exported
    objective, mask = run.regime.stages[-1].objective, run.corpus.vocabulary.mask_id
    if objective == Autoregressive():
        return
    model, predict, tokens = load(out, trust_remote_code=True), Predictor(network, objective), tokens_of(run)
    answer = torch.arange(tokens.shape[1]).expand_as(tokens) >= tokens.shape[1] - 7
    for pace, ends, cached in itertools.product(PACES, ((), (5, 6)), (True, False)):
        protocol = Protocol(4, order, pace, objective.grid, stop_at=ends)
        wanted = decode(predict, tokens, answer, protocol, mask, attention_size=objective.reading.size)
        found = model.generate_blocks(tokens[:, :-7], 7, 4, order=order, pace=pace, stop_at=ends, use_cache=cached)
        assert torch.equal(found, wanted.tokens_BL), (pace, ends, cached)


@needs_transformers
def test_padding_on_the_left_changes_no_row(exported, load):
    """Prompts of unequal length together write what each writes alone, whatever stands in the padding."""
    run, _, out = exported
    if run.regime.stages[-1].objective == Autoregressive():
        return
    model, tokens = load(out, trust_remote_code=True), tokens_of(run)[:, :8]
    real = torch.arange(8) >= torch.tensor([[0], [1], [3], [6]])
    padded = torch.where(real, tokens, torch.tensor([[0], [3], [run.corpus.vocabulary.mask_id], [5]]))
    with torch.no_grad():
        together = model(padded, attention_mask=real.long()).logits
    for grid, cached in itertools.product((None, *Grid), (True, False)):
        options = {"max_new_tokens": 6, "block_size": 4, "grid": grid, "pace": "threshold:0.3", "use_cache": cached}
        found = model.generate_blocks(padded, attention_mask=real.long(), **options)
        for row in range(4):
            alone = padded[[row]][:, real[row]]
            assert torch.equal(found[[row]][:, -6:], model.generate_blocks(alone, **options)[:, -6:]), (row, grid)
            with torch.no_grad():
                torch.testing.assert_close(model(alone).logits[0], together[row][real[row]], rtol=0, atol=TOLERANCE)


@needs_transformers
def test_drawn_tokens_have_the_probabilities_of_the_network(exported, load):
    """At temperature 2, of one new token: chi-square against p^(1/2), and one seed draws one text."""
    run, _, out = exported
    if run.regime.stages[-1].objective == Autoregressive():
        return
    model, prompt, n = load(out, trust_remote_code=True), tokens_of(run)[:1, :7], 4000
    with torch.no_grad():
        row = torch.cat([prompt, torch.full((1, 1), run.corpus.vocabulary.mask_id)], 1)
        p_V = (model(row).logits[0, -1].double() / 2).softmax(-1)
    draw = partial(model.generate_blocks, prompt.expand(n, -1), 1, 1, temperature=2.0)
    drawn = [draw(generator=torch.Generator().manual_seed(seed))[:, -1] for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    often = p_V * n > 5
    counts = torch.bincount(drawn[0], minlength=len(p_V)).double()
    observed = [*counts[often].tolist(), float(counts[~often].sum())]
    expected = [*(p_V[often] * n).tolist(), float(p_V[~often].sum() * n)]
    if expected[-1] < 1e-9:
        assert observed.pop() == 0
        expected.pop()
    assert stats.chisquare(observed, expected).pvalue > 1e-4


MODELLING = (ROOT / "experiments" / "hf_export" / "modeling_ablate.py").read_text()


NO_PACES = ("tokens", "tokens:0", "tokens:1.5", "tokens:x", "threshold:2", "dynamic:inf", "dynamic:nan", "all:1", "x")


@needs_transformers
def test_own_modelling_refuses_what_it_does_not_do(ran, tmp_path, load):
    run = ran("masked")
    assert export.main([str(run.folder), f"out={tmp_path / 'out'}"]) == 0
    model, tokens = load(tmp_path / "out", trust_remote_code=True), torch.ones(2, 6, dtype=torch.int64)
    for said, call in (
        ("labels: wanted none", lambda: model(tokens, labels=tokens)),
        ("of the tokens, got", lambda: model(tokens, attention_mask=torch.ones(2, 5))),
        ("generate: wanted generate_blocks", lambda: model.generate(tokens, max_new_tokens=4)),
        (r"or more of each, got \(6, 4, 0\)", lambda: model.generate_blocks(tokens, 4, 0)),
        (r"or more of each, got \(0, 4, 2\)", lambda: model.generate_blocks(tokens[:, :0], 4, 2)),
        ("wanted sequence or answer, got 'prompt'", lambda: model.generate_blocks(tokens, 4, 2, "prompt")),
        ("padding on the left", lambda: model.generate_blocks(tokens, 4, 2, attention_mask=tokens.tril())),
        ("padding on the left", lambda: model.generate_blocks(tokens, 4, 2, attention_mask=1 - tokens)),
        ("order: wanted one of", lambda: model.generate_blocks(tokens, 4, 2, order="oracle_k")),
        ("temperature: wanted 0", lambda: model.generate_blocks(tokens, 4, 2, temperature=-1.0)),
        *(("pace: wanted", partial(model.generate_blocks, tokens, 4, 2, pace=p)) for p in NO_PACES),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_a_run_begins_where_an_earlier_one_ended(ran, tmp_path):
    first = ran("blocks")
    assert export.main([str(first.folder), f"out={tmp_path / 'out'}"]) == 0
    assert replace(shape_of(tmp_path / "out"), mask_id=-1, vocabulary=0) == QWEN3
    second = replace(first, init=f"hf:{tmp_path / 'out'}", model=shape_of(tmp_path / "out"), out=str(tmp_path / "two"))
    second = resolve(second)
    weights = base_weights(second, QUIET)
    before = final_weights(first.folder)
    assert set(weights) == set(before)
    assert all(torch.equal(weights[name], before[name]) for name in before)
    assert second.base_steps == 0
    assert base_key(second) == base_key(replace(second, seed=3))
    assert second.fingerprint() != first.fingerprint()
    mark, moved = second.fingerprint(), tmp_path / "moved"
    (tmp_path / "out").rename(moved)
    assert replace(second, init=f"hf:{moved}").fingerprint() == mark
    assert any(
        "a rate for a network from scratch" in line for line in announcement([replace(second, init=f"hf:{moved}")])
    )
    train(replace(second, init=f"hf:{moved}"), QUIET)
    manifest = json.loads((tmp_path / "two" / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    other = replace(second, init=f"hf:{moved}", corpus=replace(second.corpus, values=5))
    with pytest.raises(ValueError, match="tokens are not the"):
        resolve(other)


@needs_transformers
@pytest.mark.parametrize("place", ["chat_template.jinja", "tokenizer_config.json", "a list"])
def test_an_export_that_transformers_saved_is_begun_at_and_its_chat_template_kept(place, ran, tmp_path, load):
    first, saved = ran("blocks"), tmp_path / "saved"
    assert export.main([str(first.folder), f"out={tmp_path / 'out'}"]) == 0
    load(tmp_path / "out", trust_remote_code=True).save_pretrained(saved)
    shutil.copy(tmp_path / "out" / "vocabulary.json", saved)
    assert json.loads((saved / "config.json").read_text())["architectures"] == ["DiffusionForCausalLM"]
    template = "{{ messages }} ü"
    if "jinja" in place:
        (saved / place).write_text(template, encoding="utf-8")
    else:
        listed = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": template}]
        said = {"chat_template": listed if place == "a list" else template}
        (saved / "tokenizer_config.json").write_text(json.dumps(said))
    init, model = f"hf:{saved}", shape_of(saved)
    second = resolve(replace(first, init=init, model=model, out=str(tmp_path / "two")))
    before, after = final_weights(first.folder), base_weights(second, QUIET)
    assert all(torch.equal(after[name], before[name]) for name in before)
    train(second, QUIET)
    assert export.main([str(second.folder), f"out={tmp_path / 'again'}"]) == 0
    assert (tmp_path / "again" / "chat_template.jinja").read_text(encoding="utf-8") == template


@needs_transformers
def test_shards_and_other_numbers(ran, tmp_path, load, monkeypatch):
    run = ran("AR")
    monkeypatch.setattr(export, "SHARD", 4000)
    for dtype, tolerance in (("float32", TOLERANCE), ("bfloat16", 0.05)):
        out = tmp_path / dtype
        assert export.main([str(run.folder), f"out={out}", f"dtype={dtype}"]) == 0
        assert len(list(out.glob("model-*.safetensors"))) > 1
        model, tokens = load(out, dtype="auto"), tokens_of(run)
        assert model.dtype == getattr(torch, dtype)
        network = build_network(run)
        load_weights(network, final_weights(run.folder))
        with torch.no_grad():
            difference = (network(tokens, CAUSAL) - model(tokens).logits.float())[
                ..., torch.isfinite(network.allowed_V)
            ]
        assert float(difference.abs().max()) < tolerance


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(ran, tmp_path, capsys):
    run = replace(ran("masked"), out=str(tmp_path / "lr=1e-3,[a] #ü"))  # a folder may have any name
    shutil.copytree(ran("masked").folder, run.folder)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text("{}")
    before = {path: path.read_bytes() for path in foreign.iterdir()}
    for said, words in (
        ("wanted a new folder", [str(run.folder), f"out={foreign}"]),
        ("wanted a new folder", [str(run.folder), f"out={run.folder}"]),
        ("export.py runs/NAME out=FOLDER", [str(run.folder)]),
        ("stage=1: wanted one run's folder and out, dtype", [str(run.folder), "out=x", "stage=1"]),
        ("type dtype=float32", [str(run.folder), "out=x", "dtype=int8"]),
        ("wanted the folder of a run", [str(foreign), f"out={tmp_path / 'x'}"]),
        ("wanted a folder that can be written", [str(run.folder), "out=/proc/x"]),
    ):
        assert export.main(words) == 2
        message = capsys.readouterr().err
        assert said in message
        assert len(message.splitlines()) == 1
    assert {path: path.read_bytes() for path in foreign.iterdir()} == before
    assert not (tmp_path / "x").exists()
    assert export.main([str(run.folder), f"out={tmp_path / 'x'}"]) == 0
    assert export.main([str(run.folder), f"out={tmp_path / 'x'}"]) == 0  # its own earlier export
    manifest = json.loads((run.folder / "manifest.json").read_text())
    write_manifest(run.folder, manifest | {"data": {"new/train": "other"}})
    assert export.main([str(run.folder), f"out={tmp_path / 'x'}"]) == 2
    assert "the data that it was trained on" in capsys.readouterr().err
    write_manifest(run.folder, manifest | {"status": "interrupted"})
    assert export.main([str(run.folder), f"out={tmp_path / 'x'}"]) == 2
    assert "wanted a finished run" in capsys.readouterr().err
    assert export.main(["--help"]) == 0


def test_nouns_come_back_from_plain_values():
    corpora = {name: corpus for name, corpus in CORPORA.items() if name not in ("noisy", "permuted")}
    for group in (REGIMES, corpora, MODELS, {"yarn": QWEN3}):
        for one in group.values():
            assert run_folder.config_of(json.loads(json.dumps(describe(one)))) == one
    for wrapped in (synthetic_data.make("noisy", q=0.1), synthetic_data.make("permuted", swaps=3)):
        assert run_folder.config_of(describe(wrapped)) == wrapped


@needs_transformers
@pytest.mark.parametrize("gap", [0, 5])
def test_tokenizers_are_read_as_ours_encode(gap, tmp_path):
    from transformers import AutoTokenizer

    text = (ROOT / "ablate" / "core" / "rng.py").read_text()
    own = trained([text], 300)
    own = TextTokenizer(own.content, own.separator, (own.mask[0], own.mask[1] + gap))
    for name, content in tokenizer_files(own, 64).items():
        (tmp_path / name).write_text(json.dumps(content))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(text).input_ids == own.encode([text])[0]
    assert (theirs.eos_token_id, theirs.mask_token_id) == (own.separator[1], own.mask[1])
    assert len(theirs) == len(own.vocabulary)
    assert theirs.decode(own.encode([text])[0]) == text
    far = TextTokenizer(own.content, own.separator, (own.mask[0], 10**6))
    assert "mask_token" not in tokenizer_files(far, 64)["tokenizer_config.json"]


def test_places_on_the_command_line(ran, typed, tmp_path):
    run = ran("blocks")
    assert export.main([str(run.folder), f"out={tmp_path / 'out'}"]) == 0
    run_command.RUN.register()
    init, config = f"init=hf:{tmp_path / 'out'}", tmp_path / "out" / "config.json"
    shape = shape_of(config)
    for words in ([init], [f"model={config}"], [f"model=hf:{tmp_path / 'out'}"]):
        (made,) = compose.jobs(run_command.RUN, words)
        assert made.model == shape
        assert made.init == (init.removeprefix("init=") if words == [init] else "")
    swept = compose.jobs(run_command.RUN, ["-m", init, "regime=ar,bidllm", "model.layers=3", "corpus=python_source"])
    assert [(r.regime.name, r.model.layers) for r in swept] == [("ar", 3), ("bidllm", 3)]
    assert swept[0].corpus.tokenizer == str(tmp_path / "out")
    (own,) = compose.jobs(run_command.RUN, [init, "model=tiny", "corpus=python_source", "corpus.tokenizer=other.json"])
    assert (own.model, own.corpus.tokenizer) == (MODELS["tiny"], "other.json")
    _, shown, _ = typed(run_command.RUN, run_script.job, "--cfg", "job", init, "corpus=python_source")
    assert f"tokenizer: {tmp_path / 'out'}" in shown
    assert "qk_norm: true" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("init=hf:nowhere", ["nowhere: wanted the folder of a checkpoint", "type ls "]),
        ("init=llama", ["init=llama: wanted hf: and the folder"]),
        ("model=hf:nowhere", ["nowhere: wanted the folder of a checkpoint"]),
        ("model=nowhere.json", ["nowhere.json: wanted a checkpoint's config.json"]),
        ("-m model=hf:nowhere,tiny", ["nowhere: wanted the folder of a checkpoint"]),
    ],
)
def test_wrong_places_are_one_message(words, said, typed, tmp_path):
    code, out, error = typed(run_command.RUN, run_script.job, *words.split())
    assert (code, out) == (2, "")
    assert len(error.splitlines()) == 1
    assert all(part in error for part in said), error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@needs_transformers
def test_the_documented_way_from_a_llama_to_diffusion_and_back(tmp_path):
    """The commands of docs/checkpoints.md, as they stand there."""
    block = re.search(r"```bash\n(.*?)```", (ROOT / "docs" / "checkpoints.md").read_text(), re.S)
    assert block is not None
    commands = block[1].replace("python experiments/", f"python {ROOT}/experiments/")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PATH": path,
            "ABLATE_CACHE": str(tmp_path / "cache"),
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "1",
        },
    )
    assert done.returncode == 0, done.stderr
    assert "after a base model from hf:tiny-llama" in done.stdout
    assert "def area(width, height):" in done.stdout
    before, config = (read_config(tmp_path / name) for name in ("tiny-llama", "tiny-diffusion"))
    assert config["vocab_size"] == config["mask_token_id"] + 1 == before["vocab_size"] + 1

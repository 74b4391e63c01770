"""Real text scored by a checkpoint's folder: the chain against a plain loop, the bound where its value is known."""

import math

import numpy as np
import pytest
import torch

from ablate.core import records
from ablate.core.validation import UsageError
from ablate.model.attention import CAUSAL
from ablate.noise.options import BatchAddress
from ablate.objectives.block_diffusion import BlockDiffusion
from experiments import evaluate
from experiments.finished_runs import bits_per_byte
from tests.experiments.checkpoints import plain_llama, write
from tests.text.prose import fill

BLOCKS = {"attention": "block", "size": 4, "offset": 0}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with text, and one to write a checkpoint into."""
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "new", 0, 8), fill(tmp_path / "general", 100, 6)
    (tmp_path / "llama").mkdir()
    return tmp_path


def words(place, *more):
    corpus = ["corpus=text", f"corpus.folder={place / 'new'}", f"corpus.general={place / 'general'}"]
    return [f"hf:{place / 'llama'}", *corpus, "corpus.length=16", "corpus.answer=4", "contexts=8", *more]


def test_the_chain_is_that_of_a_plain_loop(place, capsys):
    net, own = plain_llama(place / "llama")
    assert evaluate.main([*words(place), "task=bits_per_byte", f"out={place / 'rows'}"]) == 0
    said = capsys.readouterr().out
    (row,) = records.read(place / "rows" / "evaluation.parquet", records.EVALUATION).to_dict("records")
    assert f"{row['value']:.4f} ± {row['error']:.4f} bits a byte" in said
    assert "read from left to right, exact; 8 windows" in said
    tokens = bits_per_byte.corpus_of(bits_per_byte.read(words(place))).batch(range(8), 1000)
    bits = 0.0
    for window in tokens:
        for i in range(1, 16):
            logp = net(window[None, :i], CAUSAL)[0, -1, : net.tokens].log_softmax(-1)
            bits -= float(logp[window[i]]) / math.log(2)
    size = sum(own.vocabulary.bytes_V[int(t)] for t in tokens[:, 1:].flatten())
    assert row["value"] == pytest.approx(bits / size, rel=1e-5)
    assert (row["contexts"], row["n"]) == ("ar", 8)


@pytest.mark.parametrize("said", [None, BLOCKS, {"attention": "full", "size": 0, "offset": -1}])
def test_who_knows_nothing_needs_the_logarithm_of_the_vocabulary(place, said):
    """Chain and bound alike: as many bits a token, times tokens a byte; no window differs."""
    net, own = plain_llama(place / "llama")
    with torch.no_grad():
        net.head.weight.zero_()
    write(place / "llama", net, own, **({} if said is None else {"ablate": said}))
    asked = bits_per_byte.read(words(place))
    row, tokens = bits_per_byte.scored(asked), bits_per_byte.corpus_of(asked).batch(range(8), 1000)[:, 1:]
    size = sum(own.vocabulary.bytes_V[int(t)] for t in tokens.flatten())
    bits = math.log2(net.tokens - 1)  # MASK is never predicted
    assert row["value"] == pytest.approx(bits * tokens.numel() / size, rel=1e-6)
    assert row["error"] == pytest.approx(0, abs=1e-6)
    assert row["contexts"] == ("ar" if said is None else "bound")
    if said is not None:
        assert row["block_size"] == (said["size"] or 16)


def test_a_bound_is_the_loss_of_its_training(place):
    """Masks by count in the same blocks, of the same windows, in training's own pass."""
    net, own = plain_llama(place / "llama")
    write(place / "llama", net, own, ablate=BLOCKS)
    asked = bits_per_byte.read([*words(place), "contexts=4000"])
    row, tokens = bits_per_byte.scored(asked), bits_per_byte.corpus_of(asked).batch(range(4000), 1000)
    objective = BlockDiffusion(4, mask_sampling="count")
    problem = objective.pose(tokens, BatchAddress(5, 0, np.arange(4000), 4000), own.vocabulary)
    with torch.no_grad():
        logits = net(problem.inputs_RL, problem.pattern)
    nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), problem.targets_RL[:4000], reduction="none")
    weight = problem.weight_RL[:4000]
    bits = torch.where(weight > 0, nats * weight, 0.0).double().sum(1) / 15 / math.log(2)
    size = sum(own.vocabulary.bytes_V[int(t)] for t in tokens[:, 1:].flatten())
    a_byte = tokens[:, 1:].numel() / size
    error = float(bits.std()) / math.sqrt(4000) * a_byte
    assert abs(row["value"] - float(bits.mean()) * a_byte) < 4.5 * math.hypot(row["error"], error)
    assert 0 < row["error"] < 0.01 * row["value"], "or the comparison says nothing"


def test_rows_of_other_folders_stay(place):
    plain_llama(place / "llama")
    for _ in range(2):
        assert evaluate.main([*words(place), f"out={place / 'rows'}"]) == 0
    assert len(records.read(place / "rows" / "evaluation.parquet", records.EVALUATION)) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["task=score"], "task=score: wanted bits_per_byte"),
        (["contexts=1"], "contexts: wanted 2"),
        (["order=random"], "order=random: wanted hf:FOLDER"),
        (["hf:other"], "wanted one hf:FOLDER at a time"),
        (["corpus=trace"], "corpus"),
    ],
)
def test_other_words_are_refused(place, change, message):
    plain_llama(place / "llama")
    with pytest.raises(UsageError, match=message):
        evaluate.main([*words(place), *change])

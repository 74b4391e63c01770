"""Reading with a cache equals a full pass over the whole rows at every step, which shares no code with it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from rich.console import Console

from ablate.core.blocks import Grid
from ablate.core.corpus import Split
from ablate.decoding import loop
from ablate.decoding.cached_reader import CachedReader
from ablate.decoding.predictor import Predictor
from ablate.decoding.protocol import Order, Protocol
from ablate.model.attention import Attention, Form
from ablate.model.config import ModelConfig
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.regime import Regime, Stage
from ablate.training.train import train
from experiments.finished_runs import measure, run_folder
from tests.builders import BUDGET, MASK, network, tiny_run

LENGTH = 24
BOUNDARY = 3
READ = {
    "ar": Autoregressive(),
    "causal": MaskedDiffusion(Attention.causal),
    "causal, no shift": MaskedDiffusion(Attention.causal, shift=False),
    **{f"blocks of {b}": BlockDiffusion(b) for b in (2, 4, 8)},
    **{f"blocks of {b}, shift": BlockDiffusion(b, shift=True) for b in (2, 4, 8)},
}
SHAPE = ModelConfig(16, 2, 4, 2)


def ragged(remainders, generator):
    """Prompts of a length each, then answers."""
    tokens_BL = torch.randint(4, MASK, (len(remainders), LENGTH), generator=generator)
    start_B1 = torch.tensor(remainders)[:, None]
    return tokens_BL, torch.arange(LENGTH) >= start_B1


def compare(monkeypatch, predict, tokens_BL, answer_BL, protocol, size=0):
    """Decodes by full passes, and asks the cache the same at every pass."""
    cached, passes = CachedReader(predict, *tokens_BL.shape), []

    def read(*asked):
        plain_NV, cached_NV = loop._read(predict, *asked), cached(*asked)
        torch.testing.assert_close(cached_NV.exp(), plain_NV.exp(), rtol=0, atol=1e-5)
        passes.append(len(plain_NV))
        return plain_NV

    with monkeypatch.context() as patch:
        patch.setattr(loop, "CachedReader", lambda *_: read)
        loop.decode(predict, tokens_BL, answer_BL, protocol, MASK, attention_size=size, cached=True)
    assert sum(passes) >= answer_BL.sum()


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("factor", [0.5, 1, 2])
@pytest.mark.parametrize("pace", ["tokens:1", "threshold:0.02", "all"])
def test_cached_is_uncached_for_prompts_of_all_remainders(monkeypatch, name, factor, pace):
    """Decoding blocks of half, the same and double the size of attention's, rows with prompts of eight lengths."""
    objective, net = READ[name], network(3.0, shape=SHAPE)
    tokens_BL, answer_BL = ragged(range(5, 13), torch.Generator().manual_seed(1))
    size = objective.reading.size
    for grid in Grid:
        protocol = Protocol(max(1, int(factor * (size or 4))), Order.confidence, pace, grid)
        compare(monkeypatch, Predictor(net, objective), tokens_BL, answer_BL, protocol, size)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("change", [{"remask": 2}, {"suffix": "cut"}, {"order": "random"}, {"order": "left_to_right"}])
def test_whatever_else_the_protocol_says(monkeypatch, name, change):
    objective, net = READ[name], network(3.0, shape=SHAPE)
    tokens_BL, answer_BL = ragged([3, 8, 9, 20, 24, 1], torch.Generator().manual_seed(2))  # one has no answer
    size = objective.reading.size
    protocol = Protocol(8, pace="tokens:2", **change)
    compare(monkeypatch, Predictor(net, objective), tokens_BL, answer_BL, protocol, size)


@pytest.mark.parametrize("name", READ)
def test_within_documents(monkeypatch, name):
    """Boundaries in the prompt, and ones that are decoded."""
    objective, net = READ[name], network(3.0, shape=SHAPE)
    with torch.no_grad():
        net.head.weight[BOUNDARY] *= 3  # so that answers hold some
    tokens_BL, answer_BL = ragged([6, 7, 8, 11], torch.Generator().manual_seed(3))
    tokens_BL[0, 2], tokens_BL[1, 6], tokens_BL[3, 4:9:2] = BOUNDARY, BOUNDARY, BOUNDARY
    compare(monkeypatch, Predictor(net, objective, BOUNDARY), tokens_BL, answer_BL, Protocol(4))


def test_answers_in_pieces(monkeypatch):
    """A prompt behind an answer is read by blocks that it belongs to."""
    net, objective = network(3.0, shape=SHAPE), READ["blocks of 8"]
    tokens_BL, _ = ragged([1, 1], torch.Generator().manual_seed(4))
    answer_BL = torch.zeros_like(tokens_BL, dtype=torch.bool)
    answer_BL[0, 3:6], answer_BL[0, 18:20], answer_BL[1, 9:12] = True, True, True
    compare(monkeypatch, Predictor(net, objective), tokens_BL, answer_BL, Protocol(2, pace="all"))


def test_a_row_alone_is_as_in_a_batch():
    net, objective = network(3.0, shape=SHAPE), READ["blocks of 4, shift"]
    tokens_BL, answer_BL = ragged([5, 9, 2, 14], torch.Generator().manual_seed(5))
    predict, protocol = Predictor(net, objective), Protocol(4, pace="threshold:0.02")
    together = loop.decode(predict, tokens_BL, answer_BL, protocol, MASK, cached=True)
    for i in range(4):
        alone = loop.decode(predict, tokens_BL[[i]], answer_BL[[i]], protocol, MASK, cached=True)
        assert torch.equal(alone.tokens_BL[0], together.tokens_BL[i])
        assert torch.equal(alone.pass_BL[0], together.pass_BL[i])


@pytest.mark.parametrize("form", [Form.sdpa, Form.matmul])
def test_each_token_is_read_clean_once(monkeypatch, form):
    """Blocks of 4, one token a pass: the first pass of a block reads the block before it too, the others it alone."""
    net, objective = network(3.0, shape=SHAPE, form=form), READ["blocks of 4"]
    tokens_BL, answer_BL = ragged([8], torch.Generator().manual_seed(6))
    read, extend = [], net.extend
    monkeypatch.setattr(
        net, "extend", lambda tokens_RT, *rest: read.append(tokens_RT.shape[1]) or extend(tokens_RT, *rest)
    )
    loop.decode(Predictor(net, objective), tokens_BL, answer_BL, Protocol(4), MASK, cached=True)
    assert read == [12, 4, 4, 4, *[8, 4, 4, 4] * 3]


@pytest.mark.slow
@pytest.mark.parametrize("name", READ)
def test_trained_networks_say_the_same_tokens(name, tmp_path):
    """Token for token where no choice was closer than 1e-4: there are always some such, and rounding may turn them."""
    regime = Regime("one", [Stage(READ[name], 1.0, lr=1e-2, warmup=2)])
    run = tiny_run(tmp_path, regime=regime, budget=dataclasses.replace(BUDGET, tokens=24000))
    train(run, Console(quiet=True))
    finished = run_folder.read(run.folder)
    predict, corpus = measure.predictor(finished), finished.of(Split.test)
    query, mask_id = corpus.queries(200, 1), corpus.vocabulary.mask_id
    size = predict.objective.reading.size
    for block in (1, 2, 8):
        plain, cached = (
            loop.decode(
                predict,
                query.prompt(mask_id),
                query.answer_BL,
                Protocol(block, Order.left_to_right),
                mask_id,
                attention_size=size,
                cached=way,
            )
            for way in (False, True)
        )
        close_B = torch.zeros(len(query.tokens_BL), dtype=torch.bool)
        for number in range(int(plain.passes_B.max())):
            now_BL = plain.pass_BL == number
            top_BL2 = predict(plain.before(torch.full((len(now_BL), 1), number), mask_id)).exp().topk(2).values
            close_B |= ((top_BL2[..., 0] - top_BL2[..., 1] < 1e-4) & now_BL).any(1)
        assert close_B.float().mean() < 0.1, "few are set apart"
        assert torch.equal(plain.tokens_BL[~close_B], cached.tokens_BL[~close_B])


def test_autoregression_is_a_greedy_loop():
    """One new token a pass, the most probable after the prompt so far."""
    net, objective = network(3.0, shape=SHAPE), READ["ar"]
    tokens_BL, answer_BL = ragged([6], torch.Generator().manual_seed(7))
    wanted = tokens_BL[:, :6]
    while wanted.shape[1] < LENGTH:
        logits = net(wanted, objective.reading)[:, -1]
        wanted = torch.cat([wanted, logits[:, : net.tokens].argmax(-1, keepdim=True)], 1)
    found = loop.decode(Predictor(net, objective), tokens_BL, answer_BL, Protocol(1), MASK, cached=True)
    assert torch.equal(found.tokens_BL, wanted)


@pytest.mark.parametrize("objective", [MaskedDiffusion(), Autoregressive(Attention.anticausal)], ids=lambda o: o.label)
def test_what_a_later_token_changes_has_no_cache(objective):
    net = network()
    tokens_BL, answer_BL = ragged([6], torch.Generator())
    with pytest.raises(
        ValueError, match=r"wanted a network that attends to its left or by blocks, got .*; decode without"
    ):
        loop.decode(Predictor(net, objective), tokens_BL, answer_BL, Protocol(4), MASK, cached=True)
    with pytest.raises(ValueError, match="got something else"):
        loop.decode(lambda x: x, tokens_BL, answer_BL, Protocol(4), MASK, cached=True)


@pytest.mark.slow
def test_every_contestant_of_the_race_fills_the_row(monkeypatch):
    """AR with a cache says what transformers' generate says, token for token."""
    pytest.importorskip("transformers", "5", exc_type=ImportError)
    from experiments.benchmarks import decode_speed

    monkeypatch.setattr(decode_speed, "LENGTH", 40)
    monkeypatch.setattr(decode_speed, "PROMPT", 12)
    net = network(3.0, shape=ModelConfig(16, 2, 4, 2))
    tokens_BL, _ = ragged([12], torch.Generator().manual_seed(8))
    tokens_BL = torch.cat([tokens_BL, tokens_BL], 1)[:, :40]
    with torch.no_grad():
        net.head.weight[MASK] = 0  # the peer knows no mask that is never predicted
    contestants = decode_speed._contestants(net, tokens_BL)
    ours, theirs = contestants["AR, cached"](), contestants["AR, transformers' generate"]()
    assert torch.equal(ours.tokens_BL, theirs)
    full, cached = (contestants[f"blocks of 4, {way}"]() for way in ("full passes", "cached"))
    assert torch.equal(full.tokens_BL, cached.tokens_BL)
    contestants[decode_speed.BARE]()

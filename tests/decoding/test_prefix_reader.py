"""The prefix cache under full attention: where it is exact, where it is not, and what it spares."""

from __future__ import annotations

import pytest
import torch

from ablate.decoding import loop
from ablate.decoding.predictor import Predictor
from ablate.decoding.prefix_reader import PrefixReader
from ablate.decoding.protocol import Protocol
from ablate.model.attention import Attention
from ablate.model.config import ModelConfig
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.masked_diffusion import MaskedDiffusion
from tests.builders import MASK, network
from tests.decoding.test_cached_reader import BOUNDARY, ragged

READ = {"no shift": MaskedDiffusion(shift=False), "shift": MaskedDiffusion(shift=True)}
ONE, TWO = ModelConfig(16, 1, 4, 2), ModelConfig(16, 2, 4, 2)


def differences(monkeypatch, predict, tokens_BL, answer_BL, protocol):
    """Largest difference of a probability from a full pass, pass by pass; the first of a block apart."""
    reader, first, later = PrefixReader(predict, *tokens_BL.shape), [], []

    def read(row_R, tokens_RL, open_RL, start_R, end_R):
        fresh_R = start_R != reader.start_B[row_R]
        plain_NV = loop._read(predict, row_R, tokens_RL, open_RL, start_R, end_R)
        apart_N = (reader(row_R, tokens_RL, open_RL, start_R, end_R).exp() - plain_NV.exp()).abs().amax(1)
        fresh_N = fresh_R[open_RL.nonzero()[:, 0]]
        first.extend(apart_N[fresh_N].tolist())
        later.extend(apart_N[~fresh_N].tolist())
        return plain_NV

    with monkeypatch.context() as patch:
        patch.setattr(loop, "PrefixReader", lambda *_: read)
        loop.decode(predict, tokens_BL, answer_BL, protocol, MASK)
    return max(first), max(later, default=0.0)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize(
    "change", [{}, {"remask": 2}, {"suffix": "cut"}, {"grid": "sequence"}, {"pace": "threshold:0.5"}]
)
@pytest.mark.parametrize("boundary", [None, BOUNDARY])
def test_keys_of_one_layer_depend_on_no_other_token(monkeypatch, name, change, boundary):
    """So with one layer the prefix cache is exact, and with two it is in the first pass of a block alone."""
    tokens_BL, answer_BL = ragged(range(3, 11), torch.Generator().manual_seed(1))
    tokens_BL[1, 1] = tokens_BL[4, 3] = BOUNDARY
    protocol = Protocol(6, cache="prefix", **{"pace": "tokens:2", **change})
    for shape, later_is_exact in ((ONE, True), (TWO, False)):
        predict = Predictor(network(3.0, shape=shape), READ[name], boundary)
        first, later = differences(monkeypatch, predict, tokens_BL, answer_BL, protocol)
        assert first < 1e-5
        assert (later < 1e-5) == later_is_exact, later


@pytest.mark.parametrize("name", READ)
def test_a_pass_a_block_is_exact(name):
    predict = Predictor(network(3.0, shape=TWO), READ[name])
    tokens_BL, answer_BL = ragged(range(3, 11), torch.Generator().manual_seed(2))
    plain, cached = (
        loop.decode(predict, tokens_BL, answer_BL, Protocol(4, pace="all", cache=cache), MASK)
        for cache in ("exact", "prefix")
    )
    assert torch.equal(plain.tokens_BL, cached.tokens_BL)
    assert "approximate" in cached.protocol.rest


def test_a_row_alone_is_as_in_a_batch():
    """Whatever blocks the others are in."""
    predict = Predictor(network(3.0, shape=TWO), READ["shift"])
    tokens_BL, answer_BL = ragged([5, 9, 2, 14, 9], torch.Generator().manual_seed(5))
    protocol = Protocol(4, pace="threshold:0.02", cache="prefix")
    together = loop.decode(predict, tokens_BL, answer_BL, protocol, MASK)
    assert len(together.passes_B.unique()) > 1
    for i in range(5):
        alone = loop.decode(predict, tokens_BL[[i]], answer_BL[[i]], protocol, MASK)
        assert torch.equal(alone.tokens_BL[0], together.tokens_BL[i])
        assert torch.equal(alone.pass_BL[0], together.pass_BL[i])


@pytest.mark.parametrize(("name", "more"), [("no shift", 0), ("shift", 1)])
def test_what_is_before_the_block_is_read_once(monkeypatch, name, more):
    """24 tokens, a prompt of 8, blocks of 8: then the block and what is behind it, and the token that predicts it."""
    net = network(3.0, shape=TWO)
    tokens_BL, answer_BL = ragged([8], torch.Generator().manual_seed(6))
    read, extend = [], net.extend
    monkeypatch.setattr(
        net, "extend", lambda tokens_RT, *rest: read.append(tokens_RT.shape[1]) or extend(tokens_RT, *rest)
    )
    loop.decode(Predictor(net, READ[name]), tokens_BL, answer_BL, Protocol(8, pace="passes:4", cache="prefix"), MASK)
    assert read == [24, *[16 + more] * 3, 24, *[8 + more] * 3]


@pytest.mark.parametrize(
    "objective", [Autoregressive(), BlockDiffusion(4), Autoregressive(Attention.anticausal)], ids=lambda o: o.label
)
def test_other_attention_is_refused(objective):
    tokens_BL, answer_BL = ragged([6], torch.Generator())
    with pytest.raises(ValueError, match="cache=prefix: wanted a network that reads with full attention, got "):
        loop.decode(Predictor(network(), objective), tokens_BL, answer_BL, Protocol(4, cache="prefix"), MASK)

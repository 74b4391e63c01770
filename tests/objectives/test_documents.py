"""Attention limited to documents: every form sees the same, and nothing of one document reaches another."""

import functools
import itertools
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import flex_attention

from ablate.core.corpus import Vocabulary, documents, unscored
from ablate.decoding.predictor import Predictor
from ablate.model import flex_attention as flex_module
from ablate.model.attention import CAUSAL, FULL, Attention, Form, Pattern, attend, sight, visible, visible_within
from ablate.model.config import ModelConfig
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.loss import loss_of
from ablate.objectives.masked_diffusion import MaskedDiffusion
from tests.builders import MASK, address, network

END = 7
ANTICAUSAL = Pattern(Attention.anticausal)
PLAIN = [CAUSAL, FULL, ANTICAUSAL, Pattern(Attention.block, 1), Pattern(Attention.block, 4)]
PAIRS = [Pattern(Attention.block, size, draws, True) for size in (1, 4, 100) for draws in (1, 2)]
OBJECTIVES = [
    Autoregressive(),
    Autoregressive(Attention.anticausal),
    *(MaskedDiffusion(attention, shift) for attention in ("causal", "full", "anticausal") for shift in (True, False)),
    *(BlockDiffusion(4, shift=shift, draws=draws) for shift in (True, False) for draws in (1, 2)),
]


def windows(length, seed=0):
    """Five windows: of random documents, short ones, boundaries first, last and in a row, and of one document."""
    tokens_BL = torch.randint(0, 11, (5, length), generator=torch.Generator().manual_seed(seed))
    tokens_BL[1, ::3] = END
    tokens_BL[2, [0, -1]] = END
    tokens_BL[3, length // 2 :] = END
    tokens_BL[4, tokens_BL[4] == END] = 3
    return tokens_BL


def posed(objective, tokens_BL, step=1):
    return objective.pose(tokens_BL, address(len(tokens_BL), step), Vocabulary.unnamed(MASK + 1, boundary=END))


def name(o):
    return f"{o.label}, {'shift' if o.offset else 'plain'}, {o.rows_read} rows"


def logits_of(net, problem):
    return net(problem.inputs_RL, problem.pattern, documents_BL=problem.documents_BL)[..., :-1]


@pytest.mark.parametrize("pattern", [*PLAIN, *PAIRS], ids=str)
def test_a_token_sees_its_own_document_alone(pattern):
    length, tokens_BL = 12, windows(12)
    numbers_BL = documents(tokens_BL, END)
    table_BMM, alone = visible_within(pattern, numbers_BL), visible(pattern, length)
    for b, (q, k) in itertools.product(range(5), itertools.product(range(table_BMM.shape[1]), repeat=2)):
        number, i, j = numbers_BL[b].tolist(), q % length, k % length
        wanted = number[i] == number[j] and bool(alone[q, k])
        if pattern == ANTICAUSAL:
            first = number.index(number[i])
            wanted = number[i] == number[j] and (j == first or (j >= i > first))
        assert table_BMM[b, q, k] == wanted
    assert table_BMM.diagonal(dim1=1, dim2=2).all(), "no query is without a key"


def test_windows_of_one_document_are_seen_as_ever():
    for pattern in [*PLAIN, *PAIRS]:
        assert torch.equal(visible_within(pattern, torch.zeros(1, 10).long())[0], visible(pattern, 10))


def reference(q, k, v, pattern, numbers_BL):
    """softmax(q k^T) v of copies and clean sequence in one row, masked by `visible_within`."""
    rows, length = len(numbers_BL), numbers_BL.shape[1]
    q, k, v = (torch.cat(x.split(rows), 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    scores = scores.masked_fill(~visible_within(pattern, numbers_BL)[:, None, : q.shape[2]], -torch.inf)
    return torch.cat((scores.softmax(-1) @ v).split(length, 2))


@pytest.mark.parametrize("spared", [False, True])
@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("pattern", [*PLAIN, *PAIRS], ids=str)
def test_every_form_equals_the_reference(pattern, form, spared):
    if spared and not pattern.draws:
        return
    for length in (13, 150):
        numbers_BL = documents(windows(length), END)
        rng = torch.Generator().manual_seed(length)
        q, k, v = (torch.randn(5 * (pattern.draws + 1), 2, length, 8, generator=rng) for _ in range(3))
        q = q[:-5] if spared else q
        seen = sight(pattern, form, length, q.device, numbers_BL, spared)
        found = attend(q, k, v, pattern, form, seen)
        assert (found - reference(q, k, v, pattern, numbers_BL)).abs().max() < 1e-5


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name)
@pytest.mark.parametrize("length", [18, 150])
def test_forms_train_alike(objective, length):
    found = []
    for form in (Form.dense, Form.sdpa, Form.matmul):
        net = network(3.0, form=form)
        loss_of(net, posed(objective, windows(length)), 5).backward()
        found.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert found[0].abs().max() > 0.01
    assert all((gradient - found[0]).abs().max() < 1e-5 for gradient in found[1:])


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name)
def test_flex_reads_documents_as_the_dense_reference(objective):
    """Forward only: it has no backward pass on a CPU."""
    problem = posed(objective, windows(150))
    with torch.no_grad():
        dense, flex = (logits_of(network(3.0, form=form), problem) for form in (Form.dense, Form.flex))
    assert (dense - flex).abs().max() < 1e-5


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name)
@pytest.mark.parametrize("form", list(Form))
def test_nothing_of_another_document_is_read(objective, form):
    """Other documents' tokens change: no logit of this one moves. Positive control: without documents many do."""
    tokens_BL, net = windows(24), network(3.0, form=form)
    numbers_BL, control = documents(tokens_BL, END), []
    for number in range(3):
        own_BL = numbers_BL == number
        others_BL = torch.where(own_BL | (tokens_BL == END), tokens_BL, (tokens_BL + 1) % 5)
        one, other = posed(objective, tokens_BL), posed(objective, others_BL)
        assert torch.equal(documents(others_BL, END), numbers_BL)
        with torch.no_grad():
            moved_RL = (logits_of(net, one) - logits_of(net, other)).abs().amax(-1)
            limitless = [net(p.inputs_RL, p.pattern)[..., :-1] for p in (one, other)]
        own_RL = own_BL.repeat(len(moved_RL) // 5, 1)
        assert moved_RL[own_RL].max() < 1e-5
        assert moved_RL[~own_RL].max() > 1e-2
        control.append((limitless[0] - limitless[1]).abs().amax(-1)[own_RL].max())
    assert max(control) > 1e-2


@pytest.mark.parametrize("pattern", [CAUSAL, FULL, ANTICAUSAL, Pattern(Attention.block, 4)], ids=str)
def test_a_document_reads_the_same_wherever_it_stands(pattern):
    """Positions are relative; blocks are cut from the window's start, so there it stands at a block's."""
    tokens_BL = windows(40)[4:].clone()
    tokens_BL[:, [15, 26]] = END
    net = network(3.0)
    with torch.no_grad():
        among = net(tokens_BL, pattern, documents_BL=documents(tokens_BL, END))[:, 16:27, :-1]
        alone = net(tokens_BL[:, 16:27], pattern)[..., :-1]
        joined = net(tokens_BL, pattern)[:, 16:27, :-1]
    assert (among - alone).abs().max() < 1e-5
    assert (joined - alone).abs().max() > 1e-2


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name)
def test_predict_reads_a_window_document_by_document(objective):
    """As it reads each alone, where these begin at a block's start; what is given has a uniform entry under a shift."""
    tokens_BL = windows(24)[4:].clone()
    tokens_BL[:, [3, 15]] = END
    seen_BL = tokens_BL.clone()
    seen_BL[:, [6, 9, 18]] = MASK
    predict = Predictor(network(3.0), objective, END)
    whole = predict(seen_BL)[..., :-1]
    for part in (slice(0, 4), slice(4, 16), slice(16, 24)):
        assert (whole[:, part] - predict(seen_BL[:, part])[..., :-1]).abs().max() < 1e-5
        assert (whole[:, part] - Predictor(predict.network, objective)(seen_BL[:, part])[..., :-1]).abs().max() < 1e-5
    if objective.offset:
        assert (whole[:, [0, 4, 16]] + torch.tensor(11.0).log()).abs().max() < 1e-6  # every token but MASK
    seen_BL[:, 3] = MASK  # a boundary that is hidden joins two documents
    assert (predict(seen_BL)[:, 4:16, :-1] - whole[:, 4:16]).abs().max() > 1e-2
    assert (predict(seen_BL)[:, 16:, :-1] - whole[:, 16:]).abs().max() < 1e-5


def masks_of_the_fused_kernel(form, pattern, documents_BL):
    """What F.scaled_dot_product_attention gets as attn_mask in one pass."""
    got, fused = [], F.scaled_dot_product_attention

    def watched(*arguments, **options):
        got.append(options.get("attn_mask", arguments[3] if len(arguments) > 3 else None))
        return fused(*arguments, **options)

    tokens_RL = windows(24).repeat(pattern.draws + 1, 1)
    with mock.patch.object(F, "scaled_dot_product_attention", watched), torch.no_grad():
        network(3.0, form=form)(tokens_RL, pattern, documents_BL=documents_BL)
    return got


@pytest.mark.parametrize("pattern", [*PLAIN, *PAIRS, Pattern(Attention.block, 4, 2)], ids=str)
def test_under_flex_the_fused_kernel_gets_no_mask(pattern):
    numbers_BL = documents(windows(24), END)
    for documents_BL in (None, numbers_BL):
        assert all(mask is None for mask in masks_of_the_fused_kernel(Form.flex, pattern, documents_BL))
    assert any(mask is not None for mask in masks_of_the_fused_kernel(Form.sdpa, pattern, numbers_BL))


def test_masks_of_documents_are_made_once_a_pass():
    numbers_BL, made = documents(windows(24), END), []

    def counted(*arguments, **options):
        made.append(arguments)
        return sight(*arguments, **options)

    net = network(3.0, shape=ModelConfig(16, 5, 2, 1))
    with mock.patch("ablate.model.transformer.sight", counted), torch.no_grad():
        net(windows(24), CAUSAL, documents_BL=numbers_BL)
    assert len(made) == 1


@pytest.mark.parametrize("pattern", [ANTICAUSAL, Pattern(Attention.block, 4), Pattern(Attention.block, 4, 1)], ids=str)
@pytest.mark.parametrize("form", [Form.sdpa, Form.matmul])
def test_what_a_probe_was_first_to_need_can_be_trained_with(pattern, form):
    net, tokens_RL = network(3.0, form=form), windows(21).repeat(pattern.draws + 1, 1)
    with torch.inference_mode():
        net(tokens_RL, pattern)
    net(tokens_RL, pattern)[..., :-1].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.slow
@torch._dynamo.config.patch(recompile_limit=8)
def test_flex_stays_compiled_for_every_kind_of_mask():
    """torch gives up after 8 kinds by default, and would then write out all scores. Positive control: so it does."""
    counters, reset = torch._dynamo.utils.counters, torch._dynamo.reset
    for raised in (False, True):
        reset()
        counters.clear()
        kernel = torch.compile(flex_attention, backend="eager")
        if raised:
            with mock.patch.object(torch, "compile", functools.partial(torch.compile, backend="eager")):
                kernel = flex_module.compiled_flex.__wrapped__()
        for pattern, batch, frozen in itertools.product([*PLAIN, *PAIRS], (5, 4), (False, True)):
            q = torch.randn(batch, 2, 13 * (pattern.draws + 1), 8)
            seen = sight(pattern, Form.flex, 13, q.device, documents(windows(13), END)[:batch])
            with torch.inference_mode(frozen), torch.no_grad():
                kernel(q.clone(), q, q, block_mask=seen)
            if counters["unimplemented"]:
                break
        assert bool(counters["unimplemented"]) is not raised
    reset()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=name)
def test_gradients_are_finite_on_cuda(objective, limited):
    """L % 128 == 64 and scores of hundreds: where cuDNN's attention under a mask makes NaN (pytorch issue 196678)."""
    net = network(30.0, shape=ModelConfig(128, 2, 2, 2), form=Form.flex).cuda()
    tokens_BL = windows(192).cuda()
    vocabulary = Vocabulary.unnamed(MASK + 1, boundary=END if limited else None)
    problem = objective.pose(tokens_BL, address(5, 1), vocabulary)
    with torch.autocast("cuda", torch.bfloat16):
        loss = loss_of(net, problem, 5)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())
    if limited:
        assert int((problem.weight_RL.roll(-objective.offset, 1)[:5][unscored(tokens_BL, END)] > 0).sum()) == 0

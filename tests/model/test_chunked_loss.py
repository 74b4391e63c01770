"""The head's loss a stretch at a time is torch's own cross-entropy, gradients included."""

import math

import pytest
import torch
import torch.nn.functional as F

from ablate.core.corpus import Vocabulary
from ablate.model import chunked_loss
from ablate.model.attention import CAUSAL
from tests.builders import network

N, W, V = 37, 12, 19


def inputs(dtype=torch.float64):
    rng = torch.Generator().manual_seed(0)
    outputs, weight = (torch.randn(n, W, generator=rng, dtype=dtype).requires_grad_() for n in (N, V))
    allowed = torch.zeros(V, dtype=dtype)
    allowed[V - 1] = -math.inf
    targets = torch.randint(V - 1, (N,), generator=rng)
    return outputs, weight, allowed, targets, torch.rand(N, generator=rng, dtype=dtype)


def reference(outputs, weight, allowed, targets, coefficient):
    nats = F.cross_entropy(F.linear(outputs, weight, allowed), targets, reduction="none")
    return (nats * coefficient).sum(), nats


@pytest.mark.parametrize("stretch", [1, 5 * V, 10**9])
def test_equals_cross_entropy_of_whole_logits(stretch, monkeypatch):
    monkeypatch.setattr(chunked_loss, "STRETCH", stretch)
    found = []
    for function in (chunked_loss.scored_loss, reference):
        outputs, weight, *rest = inputs()
        loss, nats = function(outputs, weight, *rest)
        (3 * loss).backward()  # the slope that comes from above counts
        found.append((loss.detach(), nats.detach(), outputs.grad, weight.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_differences():
    outputs, weight, *rest = inputs()
    assert torch.autograd.gradcheck(lambda x, w: chunked_loss.scored_loss(x, w, *rest)[0], (outputs, weight))


def test_mixed_precision_sums_in_fp32(monkeypatch):
    """Products are bf16, but many stretches lose no more than one: a sum kept in bf16 would."""
    outputs, weight, *rest = inputs(torch.float32)
    exact = torch.autograd.grad(reference(outputs, weight, *rest)[0], weight)[0]
    errors = {}
    for stretch in (V, 10**9):
        monkeypatch.setattr(chunked_loss, "STRETCH", stretch)
        with torch.autocast("cpu", torch.bfloat16):
            loss, nats = chunked_loss.scored_loss(outputs, weight, *rest)
        assert loss.dtype == nats.dtype == torch.float32
        errors[stretch] = float((torch.autograd.grad(loss, weight)[0] - exact).norm() / exact.norm())
    assert max(errors.values()) < 2**-7, "two roundings to 8 bits of each factor"


def test_logits_of_one_stretch_are_all_that_ever_exist(monkeypatch):
    """The largest tensor that the loss makes has a stretch of logits, not all of them."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        most = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, tuple | list) else [out]:
                if isinstance(x, torch.Tensor) and x.shape and x.shape[-1] == 512:
                    self.most = max(self.most, x.shape[0])
            return out

    monkeypatch.setattr(chunked_loss, "STRETCH", 32 * 512)
    net = network(vocabulary=Vocabulary.unnamed(512))
    tokens, scored = torch.arange(128)[None], torch.arange(100)
    with Largest() as seen:
        loss, _ = net.score(tokens, CAUSAL, scored, scored, torch.ones(100))
        loss.backward()
    assert seen.most == 32


def test_compiled_it_is_the_same(monkeypatch):
    """As a GPU runs it, but not turned into machine code; where outputs differ in number nothing is compiled anew."""
    from torch._dynamo.testing import CompileCounterWithBackend

    backend = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(chunked_loss.cross_entropy, dynamic=True, backend=backend)
    outputs, weight, allowed, targets, coefficient = inputs(torch.float32)
    for count in (N, 5, 23, 11, 30):
        raw = (outputs[:count] @ weight.T).detach()
        given = allowed, targets[:count, None], coefficient[:count, None]
        for ours, theirs in zip(
            compiled(raw.clone(), *given), chunked_loss.cross_entropy(raw.clone(), *given), strict=True
        ):
            torch.testing.assert_close(ours, theirs)
    assert backend.frame_count == 2, "once for all outputs at once, once for every part of them"


def test_nothing_scored_costs_nothing():
    outputs, weight, allowed, *_ = inputs()
    loss, nats = chunked_loss.scored_loss(
        outputs[:0], weight, allowed, torch.zeros(0, dtype=torch.long), torch.zeros(0)
    )
    assert float(loss) == 0
    assert nats.shape == (0,)
    assert torch.autograd.grad(loss, weight)[0].abs().sum() == 0

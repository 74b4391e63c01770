"""Laws of attention: who sees whom, and that every form computes the same."""

import itertools

import pytest
import torch

from ablate.model.attention import CAUSAL, FULL, Attention, Form, Pattern, attend, visible
from ablate.model.config import ModelConfig
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.loss import loss_of
from tests.builders import VOCABULARY, address, network, tokens

PLAIN = [CAUSAL, FULL, Pattern(Attention.anticausal), Pattern(Attention.block, 1), Pattern(Attention.block, 4)]


def dependence(net, inputs_RL, pattern):
    """(R, L, R, L): how much output (r, i) moves when the input embedding at (s, j) does."""
    embedded = net.embedding(inputs_RL).detach().requires_grad_()
    hook = net.embedding.register_forward_hook(lambda *_: embedded)
    logits = net(inputs_RL, pattern)
    hook.remove()
    total = torch.zeros(*inputs_RL.shape, *inputs_RL.shape)
    for r in range(logits.shape[0]):
        for i in range(logits.shape[1]):
            projection = torch.randn(11, generator=torch.Generator().manual_seed(i))
            (g,) = torch.autograd.grad((logits[r, i, :-1] * projection).sum(), embedded, retain_graph=True)
            total[r, i] = g.abs().sum(-1)
    return total


@pytest.mark.parametrize("pattern", PLAIN, ids=str)
def test_network_sees_what_the_pattern_says(pattern):
    seen = dependence(network(6.0), tokens(1, 10), pattern)[0, :, 0] > 0
    assert torch.equal(seen, visible(pattern, 10))


def test_patterns_by_their_words():
    length = 10
    for query in range(length):
        for key in range(length):
            assert visible(CAUSAL, length)[query, key] == (key <= query)
            assert visible(FULL, length)[query, key]
            anticausal = (key >= query or key == 0) if query else key == 0
            assert visible(Pattern(Attention.anticausal), length)[query, key] == anticausal
            assert visible(Pattern(Attention.block, 3), length)[query, key] == (key // 3 <= query // 3)


@pytest.mark.parametrize("draws", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 3, 4, 10])
def test_noisy_and_clean_halves_see_what_block_diffusion_says(draws, size):
    """Both noisy: same copy and block. Query noisy, key clean: earlier block. Both clean: no later block. Else not."""
    length = 10
    table = visible(Pattern(Attention.block, size, draws), length)
    assert table.shape == ((draws + 1) * length,) * 2
    for q in range(len(table)):
        for k in range(len(table)):
            (copy_q, i), (copy_k, j) = divmod(q, length), divmod(k, length)
            clean_q, clean_k = copy_q == draws, copy_k == draws
            if clean_q:
                wanted = clean_k and j // size <= i // size
            elif clean_k:
                wanted = j // size < i // size
            else:
                wanted = copy_q == copy_k and i // size == j // size
            assert table[q, k] == wanted


@pytest.mark.parametrize("size", [1, 4])
def test_the_pass_over_halves_sees_no_more_than_that(size):
    """Rows of one sequence: two noisy copies, then the clean one; gradients flow where the table says, nowhere else."""
    pattern = Pattern(Attention.block, size, 2, clean_outputs=True)
    moved = dependence(network(6.0), tokens(3, 9), pattern)
    seen = moved.permute(0, 1, 2, 3).reshape(27, 27) > 0
    assert torch.equal(seen, visible(pattern, 9))


@pytest.mark.parametrize("pattern", PLAIN, ids=str)
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_forms_agree_on_plain_patterns(pattern, kv_heads):
    shape = ModelConfig(16, 2, 2, kv_heads)
    logits = [
        network(3.0, shape=shape, form=form)(tokens(3, 10), pattern)[..., :-1] for form in (Form.sdpa, Form.matmul)
    ]
    assert (logits[0] - logits[1]).abs().max() < 1e-5


@pytest.mark.parametrize(("size", "length"), [(1, 10), (3, 10), (4, 19), (10, 10), (4, 150), (48, 150), (100, 150)])
@pytest.mark.parametrize(
    "options", [{}, {"shift": True}, {"draws": 3}, {"complementary": True, "shift": True}], ids=str
)
def test_split_and_written_out_attention_equal_the_dense_reference(size, length, options):
    """Loss and gradients; lengths beyond one stretch of queries, blocks that do not divide them."""
    objective = BlockDiffusion(size, **options)
    found = []
    for form in (Form.dense, Form.sdpa, Form.matmul):
        net = network(3.0, form=form)
        problem = objective.pose(tokens(2, length), address(2, 1), VOCABULARY)
        loss = loss_of(net, problem, 2)
        loss.backward()
        found.append((loss.detach(), torch.cat([p.grad.flatten() for p in net.parameters()])))
    for loss, gradient in found[1:]:
        assert float((loss - found[0][0]).abs()) < 1e-5
        assert float((gradient - found[0][1]).abs().max()) < 1e-5


def test_grouped_queries_share_keys_by_neighbouring_heads():
    """Four heads on two keys: heads 0 and 1 read the first, 2 and 3 the second, in every form."""
    q, k, v = (torch.randn(3, heads, 8, 4, generator=torch.Generator().manual_seed(heads)) for heads in (4, 2, 2))
    for form, pattern in itertools.product(
        (Form.dense, Form.sdpa, Form.matmul), (CAUSAL, Pattern(Attention.block, 3, 2))
    ):
        apart = [attend(q[:, [h]], k[:, [h // 2]], v[:, [h // 2]], pattern, form) for h in range(4)]
        assert (attend(q, k, v, pattern, form) - torch.cat(apart, 1)).abs().max() < 1e-6


@pytest.mark.parametrize("clean_outputs", [False, True])
@pytest.mark.parametrize(("size", "length", "draws"), [(4, 19, 2), (1, 10, 1), (19, 19, 1), (48, 150, 3)])
def test_flex_attention_equals_the_dense_reference(size, length, draws, clean_outputs):
    """Forward only: it has no backward pass on a CPU."""
    pattern, rows = Pattern(Attention.block, size, draws, clean_outputs), 2 * (draws + 1)
    with torch.no_grad():
        logits = [network(3.0, form=form)(tokens(rows, length), pattern)[..., :-1] for form in (Form.dense, Form.flex)]
    assert logits[0].shape[0] == (rows if clean_outputs else rows - 2)
    assert (logits[0] - logits[1]).abs().max() < 1e-5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_flex_attention_trains_on_cuda():
    objective, found = BlockDiffusion(4, draws=2), []
    for form in (Form.dense, Form.flex):
        net = network(3.0, shape=ModelConfig(64, 2, 2, 2), form=form).cuda()
        problem = objective.pose(tokens(2, 128).cuda(), address(2, 1), VOCABULARY)
        loss_of(net, problem, 2).backward()
        found.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert float((found[0] - found[1]).abs().max()) < 1e-4


def test_a_pattern_that_leaks_is_caught():
    """Positive control: with blocks of another size the gradients do not flow as the table says."""
    honest = Pattern(Attention.block, 4, 1, clean_outputs=True)
    seen = (
        dependence(network(6.0), tokens(2, 8), Pattern(Attention.block, 8, 1, clean_outputs=True)).reshape(16, 16) > 0
    )
    assert not torch.equal(seen, visible(honest, 8))

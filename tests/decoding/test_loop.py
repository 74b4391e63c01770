"""Decoding: orders and paces on models whose right answer is known by hand."""

import math
from itertools import pairwise

import pytest
import torch

import synthetic_data
from ablate.core.blocks import Grid, answer_blocks
from ablate.decoding.loop import decode
from ablate.decoding.predictor import Predictor
from ablate.decoding.protocol import Order, Protocol, SuffixRead
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.masked_diffusion import MaskedDiffusion
from tests.builders import MASK, ONE_LAYER, network

CONFIDENT = torch.tensor([0.0, 0.5, 0.9, 0.6, 0.95, 0.7, 0.8, 0.4])  # of places 0..7, whatever stands there
BY_CONFIDENCE = [4, 2, 6, 5, 3, 1, 7]


def fixed(tokens):
    """Token 4 with the confidence of its place modulo 8, 5 with a third of the rest, 6 with what is left."""
    c = CONFIDENT[torch.arange(tokens.shape[1]) % 8]
    p = torch.zeros(*tokens.shape, MASK + 1)
    p[..., 4], p[..., 5], p[..., 6] = c, (1 - c) / 3, (1 - c) * 2 / 3
    return p.log()


def answers(start=1, rows=1, length=8):
    prompt = torch.full((rows, length), MASK)
    prompt[:, :start] = 1
    return prompt, prompt == MASK


def order_of(decoded):
    """Places of row 0 in the order in which they were revealed."""
    return [int((decoded.order_BL[0] == i).nonzero()[0]) for i in range(int((decoded.order_BL[0] >= 0).sum()))]


def passes_of(decoded):
    """The same, pass by pass."""
    order = order_of(decoded)
    return [[place for place in order if decoded.pass_BL[0, place] == n] for n in range(int(decoded.passes_B[0]))]


@pytest.mark.parametrize("order", [o for o in Order if o not in (Order.random, Order.oracle_k)])
def test_a_block_is_revealed_in_its_order(order):
    decoded = decode(fixed, *answers(), Protocol(8, order), MASK)
    assert order_of(decoded) == ([1, 2, 3, 4, 5, 6, 7] if order is Order.left_to_right else BY_CONFIDENCE)
    assert decoded.tokens_BL.tolist() == [[1, 4, 4, 4, 4, 4, 4, 4]]
    assert torch.equal(decoded.pass_BL, decoded.order_BL)
    assert torch.allclose(decoded.confidence_BL[0, 1:], CONFIDENT[1:].double())
    assert decoded.confidence_BL[0, 0].isnan()


def test_margin_and_entropy_differ_from_confidence_where_they_should():
    def predict(tokens):
        rows = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.45, 0.19, 0.18, 0.18], [0.44, 0.05, 0.05, 0.46]])
        return torch.nn.functional.pad(rows, (0, 1)).log().expand(len(tokens), 4, 5)

    prompt = torch.tensor([[0, 4, 4, 4]])
    found = {
        order: order_of(decode(predict, prompt, prompt == 4, Protocol(4, order), 4))
        for order in (Order.confidence, Order.margin, Order.entropy)
    }
    assert found == {Order.confidence: [1, 3, 2], Order.margin: [2, 3, 1], Order.entropy: [1, 3, 2]}


@pytest.mark.parametrize(
    ("pace", "passes"),
    [
        ("tokens:1", [[4], [2], [6], [5], [3], [1], [7]]),
        ("tokens:3", [[4, 2, 6], [5, 3, 1], [7]]),
        ("passes:3", [[4, 2, 6], [5, 3], [1, 7]]),
        ("passes:20", [[4], [2], [6], [5], [3], [1], [7]]),
        ("threshold:0.75", [[4, 2, 6], [5], [3], [1], [7]]),
        ("threshold:0.55", [[4, 2, 6, 5, 3], [1], [7]]),
        ("dynamic:0.35", [[4, 2], [6], [5], [3], [1], [7]]),  # 2 x .05 and 3 x .1, but 4 x .2
        ("dynamic:1.7", [[4, 2, 6, 5], [3, 1], [7]]),  # 5 x .3, but 6 x .4; 3 x .5, but 4 x .6
        ("all", [BY_CONFIDENCE]),
    ],
)
def test_a_pass_reveals_as_many_as_the_pace_says(pace, passes):
    decoded = decode(fixed, *answers(), Protocol(8, pace=pace), MASK)
    assert passes_of(decoded) == passes
    assert decoded.tokens_a_pass == pytest.approx(7 / len(passes))


def test_in_other_orders_a_threshold_ends_at_the_first_place_that_is_unsure():
    decoded = decode(fixed, *answers(2), Protocol(8, Order.left_to_right, "threshold:0.55"), MASK)
    assert passes_of(decoded) == [[2, 3, 4, 5, 6], [7]]


def test_blocks_are_filled_from_left_to_right_on_either_grid():
    prompt, answer = answers(3)
    for grid, blocks in ((Grid.sequence, [[3], [4, 6, 5, 7]]), (Grid.answer, [[4, 6, 5, 3], [7]])):
        order = order_of(decode(fixed, prompt, answer, Protocol(4, grid=grid), MASK))
        assert order == [place for block in blocks for place in block]


def test_a_random_order_is_uniform_and_belongs_to_seed_and_row():
    prompt, answer = answers(1, rows=3000, length=4)
    decoded = decode(fixed, prompt, answer, Protocol(4, Order.random), MASK, seed=3)
    patterns, counts = decoded.order_BL[:, 1:].unique(dim=0, return_counts=True)
    assert len(patterns) == 6
    assert float(((counts - 500) ** 2 / 500).sum()) < 20.5  # chi-square, 5 degrees of freedom, p .001
    part = decode(fixed, prompt[:7], answer[:7], Protocol(4, Order.random, "tokens:2"), MASK, seed=3)
    assert torch.equal(part.order_BL, decoded.order_BL[:7])
    other = decode(fixed, prompt, answer, Protocol(4, Order.random), MASK, seed=4)
    assert not torch.equal(other.order_BL, decoded.order_BL)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (2.0, 1.0), (1.0, 0.7), (0.5, 0.95)])
def test_tokens_are_drawn_from_the_distribution_that_was_asked_for(temperature, top_p):
    p_V = torch.tensor([0.0, 0.05, 0.15, 0.3, 0.5, 0.0], dtype=torch.float64)
    rows = 20_000
    prompt = torch.tensor([[0, 5]]).repeat(rows, 1)
    protocol = Protocol(1, temperature=temperature, top_p=top_p)
    decoded = decode(lambda x: p_V.log().expand(*x.shape, 6), prompt, prompt == 5, protocol, 5, seed=1)
    wanted_V = (p_V.log() / temperature).softmax(0)
    mass = 0.0
    for token in wanted_V.argsort(descending=True):  # one after another until they have the mass
        mass, wanted_V[token] = mass + float(wanted_V[token]), wanted_V[token] if mass < top_p else 0.0
    wanted_V /= wanted_V.sum()
    found_V, possible_V = torch.bincount(decoded.tokens_BL[:, 1], minlength=6).double(), wanted_V > 0
    assert int(found_V[~possible_V].sum()) == 0
    chi = float(((found_V - rows * wanted_V)[possible_V] ** 2 / (rows * wanted_V[possible_V])).sum())
    assert chi < {1: 10.8, 2: 13.8, 3: 16.3}[int(possible_V.sum()) - 1]  # p .001


def test_remasking_hides_the_least_confident_of_a_full_block_once():
    seen = []

    def predict(tokens):
        seen.append((tokens[0] == MASK).nonzero()[:, 0].tolist())
        return fixed(tokens)

    decoded = decode(predict, *answers(), Protocol(4, pace="all", grid=Grid.sequence, remask=2), MASK)
    assert seen == [[1, 2, 3, 4, 5, 6, 7], [1, 3, 4, 5, 6, 7], [4, 5, 6, 7], [5, 7]]
    assert not (decoded.tokens_BL == MASK).any()
    assert decoded.passes_B.tolist() == [4]


def test_a_cut_suffix_is_not_read():
    lengths = []

    def predict(tokens):
        lengths.append(tuple(tokens.shape))
        return fixed(tokens)

    prompt, answer = answers(3, rows=2)
    prompt[1, 3], answer[1, 3] = 2, False  # its blocks end one place later
    decoded = decode(predict, prompt, answer, Protocol(2, suffix=SuffixRead.cut), MASK)
    assert lengths == [(1, 5), (1, 6), (1, 5), (1, 6), (1, 7), (1, 8), (1, 7), (1, 8), (1, 8)]
    whole = decode(fixed, prompt, answer, Protocol(2), MASK)
    assert torch.equal(decoded.tokens_BL, whole.tokens_BL)
    scattered = torch.tensor([[False, True, False, True, True, True, True, True]])
    with pytest.raises(ValueError, match="suffix=cut: wanted answers that end the sequence"):
        decode(fixed, prompt[:1], scattered, Protocol(2, suffix=SuffixRead.cut), MASK)


def test_the_order_of_the_oracle_needs_one():
    with pytest.raises(ValueError, match="order=oracle_k: wanted a world"):
        decode(fixed, *answers(), Protocol(4, Order.oracle_k), MASK)


@pytest.mark.parametrize("name", ["trace", "arithmetic"])
def test_the_order_of_the_oracle_takes_the_smallest_k_first_whatever_the_model_believes(name):
    corpus = synthetic_data.make(name, **{"trace": {"operations": 5}, "arithmetic": {"records": 2}}[name])
    v, query = corpus.vocabulary, corpus.queries(16, seed=0)
    truth_BLV = torch.nn.functional.one_hot(query.tokens_BL, len(v)).double().log()
    everything = torch.ones_like(query.answer_BL)
    everything[:, 0] = False
    protocol = Protocol(corpus.length, Order.oracle_k)
    decoded = decode(lambda x: truth_BLV, query.tokens_BL, everything, protocol, v.mask_id, oracle=corpus.oracle)
    for number in range(corpus.length - 1):
        now_BL, before_BL = decoded.order_BL == number, decoded.order_BL < number
        seen_BL = query.tokens_BL.masked_fill(~before_BL, v.mask_id)
        k_BL = torch.special.entr(corpus.oracle.posterior(seen_BL).p_BLV).sum(-1).exp()
        assert torch.allclose(k_BL[now_BL], k_BL.masked_fill(before_BL, math.inf).amin(1), rtol=1e-12)


def test_where_a_wrong_token_made_a_state_impossible_the_oracle_goes_from_left_to_right():
    corpus = synthetic_data.make("trace", operations=5)
    v, query = corpus.vocabulary, corpus.queries(4, seed=0)
    wrong_BLV = torch.nn.functional.one_hot(query.tokens_BL.roll(1, 1), len(v)).double().log()
    protocol = Protocol(32, Order.oracle_k)
    decoded = decode(lambda x: wrong_BLV, query.tokens_BL, query.answer_BL, protocol, v.mask_id, oracle=corpus.oracle)
    assert not (decoded.tokens_BL == v.mask_id).any()
    impossible_B = corpus.oracle.log_evidence(decoded.before(torch.full((4, 1), 2), v.mask_id)).isneginf()
    assert impossible_B.any()
    later_BL = decoded.pass_BL[impossible_B] >= 2
    for row_L, later_L in zip(decoded.order_BL[impossible_B], later_BL, strict=True):
        assert (row_L[later_L].diff() > 0).all()


READ = [
    Autoregressive(),
    MaskedDiffusion(),
    MaskedDiffusion(shift=False),
    BlockDiffusion(3),
    BlockDiffusion(4, shift=True),
]


@pytest.mark.slow
@pytest.mark.parametrize("objective", READ, ids=lambda objective: f"{objective.label} {objective.offset}")
def test_no_mask_is_left_and_a_row_alone_is_as_in_a_batch(objective):
    """max_new_tokens 1..17 x block 1..8, in fp32."""
    predict = Predictor(network(2.0, shape=ONE_LAYER), objective)
    tokens = torch.randint(0, MASK, (3, 24), generator=torch.Generator().manual_seed(0))
    for new in range(1, 18):
        for size in range(1, 9):
            answer = (torch.arange(7 + new) >= 7).repeat(3, 1)
            pace = ("tokens:1", "threshold:0.3", "all")[new % 3]
            protocol = Protocol(size, list(Order)[(new + size) % 6], pace, list(Grid)[size % 2])
            options = {"attention_size": objective.reading.size, "seed": 5}
            decoded = decode(predict, tokens[:, : 7 + new], answer, protocol, MASK, **options)
            assert not (decoded.tokens_BL == MASK).any()
            assert torch.equal(decoded.tokens_BL[:, :7], tokens[:, :7])
            assert sorted(decoded.order_BL[0, 7:].tolist()) == list(range(new))
            alone = [0] if protocol.order is Order.random else range(3)  # a row's noise is that of its number
            for row in alone:
                one = decode(predict, tokens[[row], : 7 + new], answer[[row]], protocol, MASK, **options)
                assert torch.equal(one.tokens_BL, decoded.tokens_BL[[row]])


@pytest.mark.parametrize("start", range(8, 16))
@pytest.mark.parametrize("size", [2, 3, 4, 8, 16])
def test_no_block_of_training_is_begun_before_the_one_on_its_left_is_full(start, size):
    """Smaller blocks than the network attends in, larger ones, and prompts that end anywhere in a block."""
    objective = BlockDiffusion(4)
    prompt = torch.randint(0, MASK, (8, start + 12), generator=torch.Generator().manual_seed(start))
    answer = (torch.arange(start + 12) >= start).repeat(8, 1)
    predict = Predictor(network(2.0, shape=ONE_LAYER), objective)
    protocol = Protocol(size, grid=objective.grid)
    decoded = decode(predict, prompt, answer, protocol, MASK, attention_size=objective.reading.size)
    block_BL = answer_blocks(answer, 4, Grid.sequence)
    last = {block: int(decoded.pass_BL[block_BL == block].max()) for block in block_BL[answer].unique().tolist()}
    first = {block: int(decoded.pass_BL[block_BL == block].min()) for block in last}
    blocks = sorted(last)
    assert all(last[left] < first[right] for left, right in pairwise(blocks))


END = 5


def ending(*ends):
    """Token 4 everywhere but at these places, which hold the end; most sure in the order of BY_CONFIDENCE."""

    def predict(tokens):
        c = CONFIDENT[torch.arange(tokens.shape[1]) % 8]
        p = torch.zeros(*tokens.shape, MASK + 1)
        p[..., 4], p[..., END], p[..., 6] = c, (1 - c) / 3, (1 - c) * 2 / 3
        for place in ends:
            p[:, place, 4], p[:, place, END] = p[:, place, END].clone(), p[:, place, 4].clone()
        return p.log()

    return predict


@pytest.mark.parametrize(("order", "size"), [(Order.left_to_right, 1), *((Order.confidence, n) for n in (2, 3, 8))])
def test_an_answer_ends_where_its_end_is_known_to_be(order, size):
    """By confidence, tokens behind the end come before it is settled: they are not of the answer."""
    protocol = Protocol(size, order, stop_at=(END,))
    found = decode(ending(3, 6), *answers(), protocol, MASK)
    assert found.tokens_BL.tolist() == [[1, 4, 4, END, END, END, END, END]]
    assert found.behind_BL.tolist() == [[False] * 4 + [True] * 4]
    assert ((found.order_BL >= 0)[0] == torch.tensor([False, True, True, True, *[False] * 4])).all()
    assert found.tokens_a_pass == 3 / int(found.passes_B[0])
    plain = decode(ending(3, 6), *answers(), Protocol(size, order), MASK)
    for before, after in ((plain.pass_BL, found.pass_BL), (plain.tokens_BL, found.tokens_BL)):
        assert torch.equal(before[:, :4], after[:, :4]), "up to its end it is the answer that does not stop"
    assert int(found.passes_B[0]) == int(plain.pass_BL[0, 1:4].max()) + 1, "no pass is made after that"
    for number in range(int(found.passes_B[0])):
        seen = found.before(torch.tensor([[number]]), MASK)
        assert (seen[0, 4:] == MASK).all()


def test_an_end_in_the_prompt_or_of_another_row_ends_nothing():
    prompt, asked = answers(start=2, rows=2)
    prompt[0, 1] = END
    found = decode(ending(7), prompt, asked, Protocol(1, Order.left_to_right, stop_at=(END,)), MASK)
    assert found.tokens_BL[:, 2:].tolist() == [[4, 4, 4, 4, 4, END]] * 2
    assert not found.behind_BL.any()
    parts = torch.zeros(1, 8, dtype=torch.bool)
    parts[0, 2:4] = parts[0, 6:] = True
    found = decode(ending(3), prompt[:1], parts, Protocol(2, stop_at=(END,)), MASK)
    assert found.tokens_BL[0, 6:].tolist() == [END, END], "nor is the rest of an answer in pieces decoded"

"""The exact oracle as the model: what a decoder's own rules do to the distribution, apart from any model's errors."""

import pytest
import torch
from scipy import stats

import synthetic_data
from ablate.decoding.loop import decode
from ablate.decoding.predictor import OraclePredictor
from ablate.decoding.protocol import Order, Protocol
from tests.synthetic_data.enumeration import every_trace

pytestmark = pytest.mark.slow
ROWS = 20_000
LEAST_P = 1e-3  # of a chi-square test of a sampler that is exact


@pytest.fixture(scope="module")
def world():
    """Programs of common operators, or with probability .3 of rare ones."""
    sizes = {"values": 3, "general_operators": 2, "new_operators": 3, "operations": 3, "checksum": 3}
    return synthetic_data.make("trace", dialect=2, dialect_share=0.3, **sizes)


def sampled(corpus, order, pace="tokens:1"):
    """Whole sequences, all but their first token drawn."""
    mask_id = corpus.vocabulary.mask_id
    prompt_BL = torch.full((ROWS, corpus.length), mask_id)
    prompt_BL[:, 0] = every_trace(corpus)[0][0, 0]
    protocol = Protocol(corpus.length, order, pace, temperature=1.0)
    return decode(OraclePredictor(corpus.oracle), prompt_BL, prompt_BL == mask_id, protocol, mask_id, seed=11).tokens_BL


def counts(corpus, tokens_BL):
    """How often each possible sequence came, (N,), and how often an impossible one."""
    number = {tuple(row): i for i, row in enumerate(every_trace(corpus)[0].tolist())}
    found = torch.zeros(len(number) + 1, dtype=torch.float64)
    for row, times in zip(*(x.tolist() for x in tokens_BL.unique(dim=0, return_counts=True)), strict=True):
        found[number.get(tuple(row), -1)] += times
    return found[:-1], float(found[-1])


def p_of(found_N, p_N):
    return stats.chisquare(found_N.numpy(), ROWS * p_N.numpy()).pvalue


def apart(found_N, p_N):
    """Total variation distance."""
    return float((found_N / ROWS - p_N).abs().sum()) / 2


@pytest.mark.parametrize("order", [Order.left_to_right, Order.random, Order.confidence, Order.margin, Order.entropy])
def test_one_token_a_pass_reproduces_the_distribution(world, order):
    """Whatever is revealed next is drawn from its exact conditional, and which it is does not look at what it drew."""
    found_N, impossible = counts(world, sampled(world, order))
    assert impossible == 0
    assert p_of(found_N, every_trace(world)[1]) > LEAST_P


def test_confidence_in_what_was_drawn_is_biased(world):
    """A place that drew a rare token waits and draws again. Everything stays possible: no verifier would notice."""
    _, p_N = every_trace(world)
    found_N, impossible = counts(world, sampled(world, Order.confidence_of_sample))
    exact_N, _ = counts(world, sampled(world, Order.confidence))
    assert impossible == 0
    assert p_of(found_N, p_N) < 1e-12
    assert apart(found_N, p_N) > 3 * apart(exact_N, p_N)
    common_N = p_N < 0.015  # 54 programs of .7 / 54, beside 18 of .3 / 18
    assert float(p_N[common_N].sum()) == pytest.approx(0.7)
    assert float(found_N[common_N].sum()) / ROWS > 0.85, "what is probable comes too often"


def test_all_at_once_deviates_by_the_total_correlation(world):
    """The product of marginals lies KL = sum of entropies less the joint entropy away; the oracle knows both."""
    mask_id, (sequences_NL, p_N) = world.vocabulary.mask_id, every_trace(world)
    start_1L = torch.full((1, world.length), mask_id)
    start_1L[:, 0] = sequences_NL[0, 0]
    p_LV = world.oracle.posterior(start_1L).p_BLV[0]
    entropies = float(torch.special.entr(p_LV).sum())
    joint = -float(p_N @ (world.oracle.log_evidence(sequences_NL) - world.oracle.log_evidence(start_1L)))
    correlation = entropies - joint  # nats
    assert correlation > 1
    q_N = p_LV.log()[torch.arange(world.length), sequences_NL].sum(1).exp()
    assert float(p_N @ (p_N.log() - q_N.log())) == pytest.approx(correlation, abs=1e-9)
    found_N, impossible = counts(world, sampled(world, Order.confidence, "all"))
    cells = torch.cat([found_N, torch.tensor([impossible]).double()])
    expected = torch.cat([q_N, (1 - q_N.sum())[None]]) * ROWS
    rare = expected < 5
    pooled = [torch.cat([x[~rare], x[rare].sum()[None]]).numpy() for x in (cells, expected)] if rare.any() else None
    assert stats.chisquare(*(pooled or (cells.numpy(), expected.numpy()))).pvalue > LEAST_P
    assert impossible / ROWS > 0.9


def test_the_fewer_tokens_a_pass_the_fewer_answers_become_impossible(world):
    broken = [counts(world, sampled(world, Order.random, pace))[1] / ROWS for pace in ("tokens:1", "tokens:3", "all")]
    assert broken[0] == 0
    assert 0.05 < broken[1] < broken[2]

"""Laws of contexts: what they hide, how often, and with which weight."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

import synthetic_data
from ablate.decoding.protocol import Protocol
from ablate.evaluation.contexts import Blocks, Decoder, RandomMasks, Suffix

ROWS, LENGTH, MASK = 6000, 12, 99
TOKENS = torch.arange(LENGTH).repeat(ROWS, 1)
SCORED = (TOKENS > 0) & (TOKENS != 7)  # position 0 and one in the middle are given
LAWS = {
    "ar": Blocks(1),
    "backwards": Blocks(1, backwards=True),
    "block 4": Blocks(4),
    "all": Blocks(LENGTH),
    "suffix": Suffix(),
    "random": RandomMasks(),
    "cap": RandomMasks(0.0, 0.3),
    "fixed": RandomMasks(0.4, 0.4),
    "causal": RandomMasks(causal=True),
}


def drawn(law, seed=0):
    return law.draw(TOKENS, SCORED, MASK, seed)


@pytest.mark.parametrize("name", LAWS)
def test_only_hidden_scored_tokens_are_asked(name):
    c = drawn(LAWS[name])
    hidden = c.inputs_BL == MASK
    assert not (hidden & ~SCORED).any()
    assert not ((c.weight_BL > 0) & ~hidden).any()
    assert torch.equal(c.weight_BL > 0, c.count_BL > 0)
    assert torch.equal(c.inputs_BL[~hidden], TOKENS[~hidden])
    assert torch.equal(c.targets_BL, TOKENS)
    again, other = drawn(LAWS[name]), drawn(LAWS[name], seed=1)
    assert torch.equal(c.inputs_BL, again.inputs_BL)
    assert not torch.equal(c.inputs_BL, other.inputs_BL)


@pytest.mark.parametrize("name", LAWS)
def test_every_scored_token_has_the_same_weight_in_the_mean(name):
    """A weighted mean of any value by position is the plain mean over positions: the bound is unbiased."""
    weight_BL = drawn(LAWS[name]).weight_BL[:, SCORED[0]]
    expected = 1.0 if name in ("random", "cap", "fixed") else 0.1  # as the bound charges it, or a tenth of a row
    error = weight_BL.std(0) / ROWS**0.5
    assert ((weight_BL.mean(0) - expected).abs() <= 4.5 * error + 1e-12).all(), weight_BL.mean(0)


def test_a_fixed_rate_hides_at_that_rate_independently():
    hidden = (drawn(RandomMasks(0.4, 0.4)).inputs_BL == MASK)[:, SCORED[0]]
    counts = np.bincount(hidden.sum(1), minlength=11)
    expected = stats.binom.pmf(np.arange(11), 10, 0.4) * ROWS
    keep = expected > 5
    pooled = [np.append(x[keep], x[~keep].sum()) for x in (counts, expected)]
    assert stats.chisquare(*pooled).pvalue > 1e-3
    assert torch.equal(drawn(RandomMasks(0.4, 0.4)).weight_BL.unique(), torch.tensor([0, 2.5]).double())


def test_random_masks_hide_every_number_of_tokens_equally_often():
    """N is uniform on 0..n when t is uniform: P(none) = 1 / (n + 1)."""
    hidden = (drawn(RandomMasks()).inputs_BL == MASK)[:, SCORED[0]]
    assert stats.chisquare(np.bincount(hidden.sum(1), minlength=11)).pvalue > 1e-3


def test_a_cap_weighs_each_token_once_and_hides_few():
    c = drawn(RandomMasks(0.0, 0.3))
    share = float((c.inputs_BL == MASK)[:, SCORED[0]].double().mean())
    assert share == pytest.approx(0.15, abs=0.006)  # five standard errors of 60,000 tokens
    assert float(c.weight_BL[:, SCORED[0]].mean()) == pytest.approx(1, abs=0.06)


def test_causal_masks_show_nothing_to_the_right_and_the_left_at_rate_t():
    c = drawn(RandomMasks(causal=True))
    asked = c.weight_BL > 0
    assert (asked.sum(1) == 1).all()
    place_B1 = asked.double().argmax(1, keepdim=True)
    right = torch.arange(LENGTH) >= place_B1
    assert (c.inputs_BL[right & SCORED] == MASK).all()
    left = ~right & SCORED
    t_B1 = c.count_BL.sum(1, keepdim=True)  # one token a row, counted with its probability of being hidden
    expected, found = (t_B1 * left).sum(), ((c.inputs_BL == MASK) & left).sum()
    assert abs(float(found - expected)) < 4.5 * float((t_B1 * (1 - t_B1) * left).sum().sqrt())
    assert torch.allclose(c.weight_BL[asked], torch.ones(ROWS).double())


def test_a_suffix_is_the_last_tokens_and_of_any_length():
    c = drawn(Suffix())
    hidden = (c.inputs_BL == MASK)[:, SCORED[0]]
    assert (hidden.long().diff(dim=1) >= 0).all()
    assert hidden[:, -1].all()
    assert stats.chisquare(np.bincount(hidden.sum(1))[1:]).pvalue > 1e-3


def test_backwards_shows_the_right_and_hides_the_left():
    c = drawn(Blocks(1, backwards=True))
    place_B1 = (c.weight_BL > 0).double().argmax(1, keepdim=True)
    hidden = torch.arange(LENGTH) <= place_B1
    assert torch.equal(c.inputs_BL == MASK, hidden & SCORED)


def test_a_perfect_decoder_meets_the_contexts_of_its_own_order():
    """Answers of a trace are certain, so decoding token by token meets AR contexts, each step equally often."""
    corpus = synthetic_data.make("trace", operations=5)
    query = corpus.queries(400, seed=0)
    met = Decoder(lambda x: corpus.oracle.posterior(x).p_BLV.log(), Protocol(1)).draw(
        query.tokens_BL, query.answer_BL, corpus.vocabulary.mask_id, seed=0
    )
    place_B1 = met.weight_BL.argmax(1, keepdim=True)
    hidden = (torch.arange(corpus.length) >= place_B1) & query.answer_BL
    assert torch.equal(met.inputs_BL, query.tokens_BL.masked_fill(hidden, corpus.vocabulary.mask_id))
    assert stats.chisquare(torch.bincount(place_B1[:, 0])[8:]).pvalue > 1e-3


def test_among_asks_for_the_chosen_positions_alone():
    c = drawn(RandomMasks())
    chosen = torch.arange(LENGTH) == 5
    some = c.among(chosen)
    assert torch.equal(some.inputs_BL, c.inputs_BL)
    assert not (some.weight_BL[:, ~chosen]).any()
    assert torch.equal(some.weight_BL[:, 5], c.weight_BL[:, 5])
    assert some.mean(TOKENS.double()) == pytest.approx(5)


def test_the_mean_weighs_as_the_loss_does():
    c = dataclasses.replace(drawn(Suffix()), weight_BL=torch.zeros(ROWS, LENGTH).double())
    c.weight_BL[0, 3], c.weight_BL[1, 5] = 3.0, 1.0
    assert c.mean(TOKENS.double()) == pytest.approx((3 * 3 + 5) / 4)


def test_bad_laws_and_rows_are_named():
    for low, high in ((0.5, 0.2), (0, 0), (-0.1, 1), (0, 1.5)):
        with pytest.raises(ValueError, match="0 <= low <= high <= 1"):
            RandomMasks(low, high)
    nothing = SCORED.clone()
    nothing[3] = False
    for law in (Blocks(2), Suffix(), RandomMasks()):
        with pytest.raises(ValueError, match="row 3 has no scored position"):
            law.draw(TOKENS, nothing, MASK, 0)

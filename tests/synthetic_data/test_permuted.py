"""A world whose tokens stand in other places: the same distribution, moved."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

import synthetic_data
from ablate.core.corpus import Domain, Split
from ablate.evaluation.contexts import Blocks, RandomMasks
from ablate.evaluation.metrics import hill_numbers
from synthetic_data import Facts, Noisy, Permuted, Trace
from tests.synthetic_data.enumeration import every_sequence, masked

TINY = Trace(values=3, general_operators=2, new_operators=3, operations=2, longer=3, checksum=3)


def of(swaps, corpus=TINY, **changes):
    return Permuted(corpus, swaps=swaps, **changes)


@pytest.mark.parametrize("split", [Split.train, Split.test, Split.whole])
@pytest.mark.parametrize("swaps", [0, 1, 5])
def test_its_posterior_is_the_sum_over_moved_sequences(swaps, split):
    corpus = of(swaps, split=split)
    sequences_NL = every_sequence(corpus.corpus)[:, corpus.from_L]
    tokens_BL = masked(corpus.batch(range(100), seed=2), corpus.vocabulary.mask_id)
    exact = corpus.oracle.posterior(tokens_BL)
    for b, row in enumerate(tokens_BL):
        shown = row != corpus.vocabulary.mask_id
        agree_NL = sequences_NL[(sequences_NL[:, shown] == row[shown]).all(1)]
        for place in range(corpus.length):
            p_V = torch.bincount(agree_NL[:, place], minlength=len(corpus.vocabulary)) / len(agree_NL)
            assert (exact.p_BLV[b, place] - p_V).abs().max() <= 1e-7
            assert torch.equal(exact.support_BLV[b, place], p_V > 0)


@pytest.mark.parametrize("corpus", [TINY, Facts(people=5, attributes=2, values=3), Noisy(TINY, 0.1)])
def test_it_is_the_world_itself_moved(corpus):
    moved = of(6, corpus)
    tokens_BL = masked(corpus.batch(range(50), seed=3), corpus.vocabulary.mask_id)
    there, here = corpus.oracle.posterior(tokens_BL), moved.oracle.posterior(tokens_BL[:, moved.from_L])
    torch.testing.assert_close(here.p_BLV, there.p_BLV[:, moved.from_L], atol=1e-12, rtol=0)
    torch.testing.assert_close(here.log_evidence_B, there.log_evidence_B)
    assert torch.equal(moved.batch(range(9), 4), corpus.batch(range(9), 4)[:, moved.from_L])
    asked, ours = corpus.queries(9, 5), moved.queries(9, 5)
    assert torch.equal(ours.answer_BL, asked.answer_BL[:, moved.from_L])
    wrong_BL = asked.tokens_BL.clone()
    wrong_BL[::2, asked.answer_BL[0]] = wrong_BL[0, asked.answer_BL[0]]
    assert ours.verify(wrong_BL[:, moved.from_L]).tolist() == asked.verify(wrong_BL).tolist()
    assert ours.verify(ours.tokens_BL).tolist() == asked.verify(asked.tokens_BL).tolist()


def test_more_swaps_begin_with_the_same_and_both_domains_have_one_order():
    orders = [of(swaps).from_L for swaps in range(8)]
    assert np.array_equal(orders[0], np.arange(TINY.length))
    for before, after in itertools.pairwise(orders):
        assert (before != after).sum() == 2
    assert all(order[0] == 0 for order in orders), "<bos> stays"
    assert all(sorted(order) == list(range(TINY.length)) for order in orders)
    assert np.array_equal(of(5, domain=Domain.general).from_L, orders[5])
    assert not np.array_equal(of(5, order=1).from_L, orders[5])
    prints = [of(2), of(3), of(2, order=1), replace(of(2), domain=Domain.general), of(2, Facts())]
    assert len({corpus.fingerprint() for corpus in prints}) == 5


def test_from_left_to_right_answers_are_open_and_under_random_masks_they_are_as_before():
    """What the dial turns: K of AR's answers, and of no other; entropies add up to the same in any order."""
    world = Trace(values=6, operations=4, longer=5)

    def bits(corpus, sampler):
        """Mean entropy of answers, and of all tokens, in contexts of a sampler."""
        tokens_BL = corpus.batch(range(3000), seed=0)
        answer_BL = corpus.queries(1, 0).answer_BL.expand_as(tokens_BL)
        scored_BL = torch.ones_like(tokens_BL, dtype=torch.bool)
        scored_BL[:, 0] = False
        contexts = sampler.draw(tokens_BL, scored_BL, corpus.vocabulary.mask_id, 0)
        exact = corpus.oracle.posterior(contexts.inputs_BL)
        found = []
        for asked_BL in ((contexts.count_BL > 0) & answer_BL, contexts.count_BL > 0):
            k1 = hill_numbers(exact.p_BLV[asked_BL], exact.support_BLV[asked_BL]).k1
            found.append(k1.log2().mean().item())
        return found

    straight, moved = (of(swaps, world) for swaps in (0, 6))
    (answers, every), (open_answers, still) = bits(straight, Blocks(1)), bits(moved, Blocks(1))
    assert answers == pytest.approx(0, abs=1e-9)
    assert open_answers > 0.3
    assert still == pytest.approx(every, rel=0.03)
    assert bits(moved, RandomMasks()) == pytest.approx(bits(straight, RandomMasks()), rel=0.05)


def test_bad_fields_are_named():
    with pytest.raises(ValueError, match=r"corpus\.swaps.*0\.\.10000"):
        of(-1)
    with pytest.raises(ValueError, match="permuted: wanted a world, got 'trace'"):
        of(1, "trace")
    assert synthetic_data.make("permuted", swaps=3).splits == Trace.splits

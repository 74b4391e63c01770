"""Noise around any world: the soft-evidence oracle against every clean sequence with its likelihood.

Shapes: N clean sequences, B rows, L positions, V vocabulary.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import synthetic_data
from ablate.core.corpus import Domain, Split
from ablate.core.rng import uniform
from synthetic_data import Noisy, Trace
from synthetic_data.worlds.noisy import noisy
from tests.synthetic_data.enumerate_facts import ids_and_probabilities
from tests.synthetic_data.enumerate_programs import every_program
from tests.synthetic_data.enumeration import every_sequence, likelihoods, masked, noisy_posterior, order_gap

TINY = {"values": 3, "general_operators": 2, "new_operators": 3, "operations": 2, "longer": 3, "checksum": 3}
WORLDS = {
    "trace": Trace(**TINY),
    "trace, held out": Trace(**TINY, split="test"),
    "arithmetic": synthetic_data.make("arithmetic", records=1, names=2, affine=1, tables=1),
    "two records": synthetic_data.make("arithmetic", records=2, layout="bare", affine=1, tables=0, split="test"),
    "carries": synthetic_data.make("arithmetic", records=1, digits=2, chain=2, layout="bare", domain="general"),
    "programs": synthetic_data.make("programs", variables=2, modulus=3, new_operators=2),
    "facts": synthetic_data.make("facts", people=4, attributes=2, values=3),
}
RATES = [0.0, 0.1, 0.5, 1.0]


def law(name):
    """(N, L) clean sequences and (N,) their probabilities."""
    clean = WORLDS[name]
    if name == "facts":
        return ids_and_probabilities(clean)
    every = every_program if name == "programs" else every_sequence
    sequences_NL = every(clean)
    return sequences_NL, torch.full((len(sequences_NL),), 1 / len(sequences_NL), dtype=torch.float64)


def contexts(corpus, n=300):
    return masked(corpus.batch(range(n), seed=2), corpus.vocabulary.mask_id)


@pytest.mark.parametrize("q", RATES)
@pytest.mark.parametrize("name", WORLDS)
def test_oracle_equals_every_clean_sequence_with_its_likelihood(name, q):
    corpus = noisy(WORLDS[name], q)
    tokens, (sequences_NL, p_N) = contexts(corpus), law(name)
    exact = corpus.oracle.posterior(tokens)
    p_BLV, log_evidence_B = noisy_posterior(sequences_NL, p_N, tokens, q, corpus.vocabulary)
    assert (exact.p_BLV - p_BLV).abs().max() <= 1e-12
    assert (exact.p_BLV.sum(-1) - 1).abs().max() <= 1e-12
    assert (exact.log_evidence_B - log_evidence_B).abs().max() <= 1e-10
    assert torch.equal(exact.support_BLV, p_BLV > 0)


@pytest.mark.parametrize("name", WORLDS)
def test_no_noise_is_the_clean_law(name):
    clean = WORLDS[name]
    corpus = noisy(clean, 0)
    assert torch.equal(corpus.batch(range(50), 3), clean.batch(range(50), 3))
    assert torch.equal(corpus.queries(50, 3).tokens_BL, clean.queries(50, 3).tokens_BL)
    tokens = contexts(clean, 50)
    for ours, theirs in zip(*(vars(c.oracle.posterior(tokens)).values() for c in (corpus, clean)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("q", [1e-9, 0.1, 1.0])
def test_every_symbol_but_mask_is_possible(q):
    """However small the noise; and nothing that is seen is impossible."""
    corpus = noisy(Trace(), q)
    size, mask_id = len(corpus.vocabulary), corpus.vocabulary.mask_id
    tokens = (uniform(0, "anything", range(40), (corpus.length,)) * (size - 1)).long()
    tokens = masked(tokens if q > 1e-9 else corpus.batch(range(40), 0), mask_id)
    exact = corpus.oracle.posterior(tokens)
    hidden = tokens == mask_id
    assert torch.isfinite(exact.log_evidence_B).all()
    assert torch.equal(exact.support_BLV[hidden], (torch.arange(size) != mask_id).expand(int(hidden.sum()), -1))
    assert torch.equal(exact.support_BLV.sum(-1)[~hidden], torch.ones(int((~hidden).sum())).long())
    assert not bool(exact.p_BLV[..., mask_id].any())


@pytest.mark.parametrize("q", [0.1, 0.5, 1.0])
def test_tokens_are_replaced_at_the_rate_and_evenly_but_never_by_mask(q):
    """Draws against the stated law: each token is kept with 1 - q + q / (V - 1), each other symbol as likely."""
    corpus = noisy(Trace(), q)
    size, n = len(corpus.vocabulary) - 1, 2000
    for seen, clean in (
        (corpus.batch(range(n), 1), corpus.corpus.batch(range(n), 1)),
        (corpus.queries(n, 1).tokens_BL, corpus.corpus.queries(n, 1).tokens_BL),
    ):
        assert int(seen.min()) >= 0
        assert int(seen.max()) < size  # MASK is the last symbol
        kept = int((seen == clean).sum())
        assert stats.binomtest(kept, seen.numel(), 1 - q + q / size).pvalue > 1e-4
        apart = (seen - clean)[seen != clean] % size
        assert stats.chisquare(np.bincount(apart, minlength=size)[1:]).pvalue > 1e-4


def test_replacements_pass_over_a_mask_that_is_not_the_last_symbol():
    """Some vocabularies have it elsewhere; every other symbol is drawn, and drawn evenly."""

    class Elsewhere:
        name, splits, domain, split, length = "elsewhere", (Split.train,), Domain.new, Split.train, 4
        oracle, vocabulary = object(), synthetic_data.Trace().vocabulary
        vocabulary = replace(vocabulary, symbols=vocabulary.symbols[:5], mask_id=2)

        def batch(self, indices, seed):
            return torch.zeros(len(indices), self.length, dtype=torch.int64)

    counts = torch.bincount(Noisy(Elsewhere(), 1.0).batch(range(5000), 0).flatten(), minlength=5)
    assert int(counts[2]) == 0
    assert stats.chisquare(counts[[0, 1, 3, 4]]).pvalue > 1e-4


@pytest.mark.parametrize("q", [0.0, 0.1, 1.0])
def test_completions_follow_the_posterior(q):
    """One context many times: the pairs of two hidden positions come as often as their joint probability says."""
    corpus = noisy(WORLDS["trace"], q)
    size, mask_id, n = len(corpus.vocabulary), corpus.vocabulary.mask_id, 20_000
    row = corpus.corpus.batch([3], seed=0)
    row[0, [1, 6]] = mask_id
    sequences_NL, p_N = law("trace")
    weight_N = (likelihoods(sequences_NL, row, q, corpus.vocabulary) * p_N)[0]
    blur_VV = (1 - q) * torch.eye(size).double() + q / (size - 1)
    blur_VV[:, mask_id] = 0
    truth_NV = [blur_VV[sequences_NL[:, place]] for place in (1, 6)]
    joint = torch.einsum("n,na,nb->ab", weight_N / weight_N.sum(), *truth_NV).flatten()
    drawn = corpus.oracle.sample(row.repeat(n, 1), np.random.default_rng(0))
    assert torch.equal(drawn[:, [0, 2, 3, 4, 5]], row[:, [0, 2, 3, 4, 5]].repeat(n, 1))
    counts = torch.bincount(drawn[:, 1] * size + drawn[:, 6], minlength=size**2)
    assert int(counts[joint == 0].sum()) == 0
    if int((joint > 0).sum()) > 1:
        assert stats.chisquare(counts[joint > 0], joint[joint > 0] * n).pvalue > 1e-4


@pytest.mark.parametrize("q", [0.0, 0.1, 0.5])
def test_the_most_probable_completion_belongs_to_the_most_likely_truth(q):
    corpus, (sequences_NL, _) = noisy(WORLDS["carries"], q), law("carries")
    tokens = contexts(corpus, 100)
    likelihood_BN = likelihoods(sequences_NL, tokens, q, corpus.vocabulary)
    best_BN = likelihood_BN >= likelihood_BN.max(1, keepdim=True).values * (1 - 1e-12)
    found, hidden = corpus.oracle.most_probable(tokens), tokens == corpus.vocabulary.mask_id
    assert torch.equal(found[~hidden], tokens[~hidden])
    for b, row in enumerate(found):
        agree_N = (sequences_NL[:, hidden[b]] == row[hidden[b]]).all(1)
        assert bool((agree_N & best_BN[b]).any())


@pytest.mark.parametrize("name", sorted(set(synthetic_data.WORLDS) - {"noisy"}))
def test_every_world_can_be_seen_through_noise(name):
    clean = synthetic_data.make(name)
    corpus = noisy(clean, 0.05)
    assert (corpus.length, corpus.vocabulary, corpus.splits) == (clean.length, clean.vocabulary, clean.splits)
    assert (corpus.domain, corpus.split) == (clean.domain, clean.split)
    assert order_gap(corpus) < 1e-9
    rows = corpus.batch(range(10), seed=3)
    assert torch.equal(corpus.batch([9, 2], seed=3), rows[[9, 2]])
    assert not torch.equal(rows, clean.batch(range(10), seed=3))


@pytest.mark.parametrize("name", ["trace", "arithmetic", "programs"])
def test_answers_are_held_against_the_clean_truth(name):
    """The clean answers score 1; what is read scores as many as the noise has left, and is not what counts."""
    clean = synthetic_data.make(name)
    q, n = 0.3, 2000
    query, truth = noisy(clean, q).queries(n, 0), clean.queries(n, 0)
    assert torch.equal(query.answer_BL, truth.answer_BL)
    assert torch.equal(query.verify(truth.tokens_BL), torch.ones(n).double())
    kept = 1 - q + q / (len(clean.vocabulary) - 1)
    items = round(float(query.answer_BL.sum(1)[0]))
    right = round(float(query.verify(query.tokens_BL).sum()) * items)
    assert stats.binomtest(right, n * items, kept).pvalue > 1e-4
    prompt = query.prompt(clean.vocabulary.mask_id)
    assert bool((prompt[~query.answer_BL] != truth.tokens_BL[~query.answer_BL]).any())


def test_domain_and_split_are_the_world_s():
    """As a run sets them: by replacing fields of the noisy corpus, again and again."""
    clean = Trace(**TINY)
    corpus = noisy(clean, 0.2)
    for domain in Domain:
        for split in Trace.splits:
            corpus = replace(corpus, domain=domain, split=split)
            same = noisy(replace(clean, domain=domain, split=split), 0.2)
            assert (corpus.corpus, corpus.domain, corpus.split, corpus.q) == (same.corpus, domain, split, 0.2)
            assert corpus.length == corpus.oracle.length == same.length
            assert corpus.fingerprint() == same.fingerprint()
            assert torch.equal(corpus.batch(range(5), 0), same.batch(range(5), 0))
            assert torch.equal(
                corpus.oracle.posterior(contexts(same, 9)).p_BLV, same.oracle.posterior(contexts(same, 9)).p_BLV
            )
    assert clean == Trace(**TINY)
    prints = {noisy(clean, q).fingerprint() for q in RATES} | {clean.fingerprint()}
    assert len(prints) == len(RATES) + 1


def test_bad_input_is_named():
    for q in (-0.1, 1.1, math.nan):
        with pytest.raises(
            ValueError, match=rf"corpus.q: wanted 0, or a probability from 1e-09 to 1, got {q}; try corpus.q=0.05"
        ):
            noisy(Trace(), q)
    with pytest.raises(ValueError, match="trace has train, test, longer, whole; got unseen"):
        replace(noisy(Trace(), 0.1), split="unseen")

    class Text:
        name, oracle = "text", None

    with pytest.raises(ValueError, match="noisy: wanted a world with an oracle, got text"):
        noisy(Text(), 0.1)
    with pytest.raises(ValueError, match="noisy: wanted a clean world, got noisy"):
        noisy(noisy(Trace(), 0.1), 0.1)

"""Oracles against enumeration on shrunken worlds, and samplers against their own oracles."""

import numpy as np
import pytest
import torch
from scipy import stats

import synthetic_data
from ablate.corpus import Domain, Split
from ablate.seeds import uniform
from tests.enumeration import brute_posterior, every_sequence

SHRUNKEN = {
    "trace": {"values": 3, "general_operators": 3, "new_operators": 4, "operations": 3, "checksum": 3},
    "arithmetic": {"records": 1, "names": 3, "affine": 1, "tables": 1},
    "arithmetic, two records": {"records": 2, "names": 2, "affine": 1, "tables": 0},
}
LAWS = [(name, d, s) for name in SHRUNKEN for d in Domain for s in Split]


def shrunken(name, domain, split):
    return synthetic_data.make(name.split(",")[0], domain=domain, split=split, **SHRUNKEN[name])


@pytest.mark.parametrize(("name", "domain", "split"), LAWS)
def test_oracle_equals_enumeration(name, domain, split):
    corpus = shrunken(name, domain, split)
    sequences = every_sequence(corpus)
    mask_id, size, n = corpus.vocabulary.mask_id, len(corpus.vocabulary), 300 if "two" not in name else 20
    rows = sequences[(uniform(0, "rows", range(n)) * len(sequences)).long()]
    hidden = uniform(0, "hidden", range(n), (corpus.length,)) < uniform(0, "rate", range(n), (1,))
    tokens = rows.masked_fill(hidden, mask_id)
    exact = corpus.oracle.posterior(tokens)
    for b in range(n):
        p, support, log_evidence = brute_posterior(sequences, tokens[b], mask_id, size)
        assert (exact.p_BLV[b] - p).abs().max() <= 1e-12
        assert torch.equal(exact.support_BLV[b], support)
        assert abs(float(exact.log_evidence_B[b]) - log_evidence) <= 1e-10


@pytest.mark.parametrize(("name", "domain", "split"), LAWS)
def test_sampler_draws_from_its_law(name, domain, split):
    """Every drawn sequence is in the law, and its first scored tokens have the oracle's frequencies."""
    corpus = shrunken(name, domain, split)
    sequences = {tuple(row.tolist()) for row in every_sequence(corpus)}
    drawn = corpus.batch(range(4000), seed=5)
    assert all(tuple(row.tolist()) in sequences for row in drawn)
    prior = corpus.oracle.posterior(torch.full((1, corpus.length), corpus.vocabulary.mask_id)).p_BLV[0].numpy()
    pvalues = []
    for position in range(corpus.length):
        expected = prior[position][prior[position] > 0] * len(drawn)
        if len(expected) > 1:
            counts = np.bincount(drawn[:, position], minlength=len(corpus.vocabulary))[prior[position] > 0]
            pvalues.append(stats.chisquare(counts, expected).pvalue)
    assert min(pvalues) * len(pvalues) > 1e-3


@pytest.mark.parametrize("name", ["trace", "arithmetic"])
def test_chain_rule_in_any_order(name):
    """-sum log p_0(x_i | seen) is the same in every order of revealing, and is minus the log evidence of the whole."""
    corpus = synthetic_data.make(name)
    row = corpus.batch([7], seed=1)
    whole = float(corpus.oracle.posterior(row).log_evidence_B[0])
    for k in range(20):
        order = np.random.default_rng(k).permutation(corpus.length)
        contexts = row.repeat(corpus.length, 1)
        for i in range(corpus.length):
            contexts[i, torch.from_numpy(order[i:].copy())] = corpus.vocabulary.mask_id
        p = corpus.oracle.posterior(contexts).p_BLV[range(corpus.length), order, row[0, order]]
        assert abs(float(p.log().sum()) - whole) < 1e-9


@pytest.mark.parametrize("name", ["trace", "arithmetic"])
def test_splits_are_disjoint_and_rows_addressed(name):
    train, test = (synthetic_data.make(name, split=s) for s in Split)
    with pytest.raises(ValueError, match="probability 0"):
        test.oracle.posterior(train.batch(range(4), seed=0))
    assert torch.equal(train.batch([9, 2], seed=3), train.batch(range(10), seed=3)[[9, 2]])
    assert not torch.equal(train.batch(range(4), seed=3), train.batch(range(4), seed=4))


@pytest.mark.parametrize("name", ["trace", "arithmetic"])
def test_verifier_accepts_the_truth_and_counts_errors(name):
    corpus = synthetic_data.make(name)
    query = corpus.queries(6, seed=0)
    assert torch.equal(query.verify(query.tokens_BL), torch.ones(6).double())
    wrong = query.tokens_BL.clone()
    last = int(query.answer_BL[0].nonzero()[-1])
    wrong[0, last] = (wrong[0, last] + 1) % 10
    items = corpus.operations if name == "trace" else corpus.records
    assert query.verify(wrong)[0] == pytest.approx(1 - 1 / items)
    assert torch.equal(query.prompt(corpus.vocabulary.mask_id) == corpus.vocabulary.mask_id, query.answer_BL)


def test_answers_are_determined_by_the_prompt():
    """So a perfect model scores 1, whatever the block size."""
    for name in ("trace", "arithmetic"):
        corpus = synthetic_data.make(name)
        query = corpus.queries(50, seed=0)
        support = corpus.oracle.posterior(query.prompt(corpus.vocabulary.mask_id)).support_BLV
        assert int(support.sum(-1).max()) == 1


def test_samples_given_evidence_follow_the_posterior():
    corpus = shrunken("trace", "new", "test")
    hidden = corpus.batch([0], seed=0).clone()
    hidden[:, 2:6] = corpus.vocabulary.mask_id
    p = corpus.oracle.posterior(hidden).p_BLV[0]
    drawn = corpus.oracle.sample(hidden.repeat(3000, 1), np.random.default_rng(0))
    for position in range(2, 6):
        keep = p[position] > 0
        counts = torch.bincount(drawn[:, position], minlength=len(p[position]))
        assert int(counts[~keep].sum()) == 0
        if int(keep.sum()) > 1:
            assert stats.chisquare(counts[keep], (p[position] * 3000)[keep]).pvalue > 1e-4


def test_bad_input_is_named():
    corpus = synthetic_data.make("trace")
    row = corpus.batch([0], seed=0)
    bad = row.clone()
    bad[0, 2] = 999
    with pytest.raises(ValueError, match=r"row 0, position 2.*got 999"):
        corpus.oracle.posterior(bad)
    with pytest.raises(ValueError, match=r"shape \(B, 19\), got \(1, 18\)"):
        corpus.oracle.posterior(row[:, :-1])
    with pytest.raises(ValueError, match="integer"):
        corpus.oracle.posterior(row.float())
    impossible = row.clone()
    impossible[0, -1] = 2 + (int(row[0, -1]) - 2 + 1) % corpus.values
    with pytest.raises(ValueError, match=f"row 1 .*position {corpus.length - 1}"):
        corpus.oracle.posterior(torch.cat((row, impossible)))
    with pytest.raises(ValueError, match=r"values: wanted 2\.\.32 for trace, got 99"):
        synthetic_data.make("trace", values=99)
    with pytest.raises(ValueError, match="arithmetic, trace"):
        synthetic_data.make("sudoku")
    with pytest.raises(ValueError, match="no parameter 'digit'"):
        synthetic_data.make("arithmetic", digit=1)


def test_held_out_pairs_hide_no_result_and_come_in_both_orders():
    """Otherwise the held-out score would say nothing about the rule: its results would never have been shown."""
    for domain in Domain:
        train, test = (synthetic_data.make("arithmetic", domain=domain, split=s) for s in Split)
        _, results = train._rules
        assert all(set(row[test._pairs]) <= set(row[train._pairs]) for row in results)
        x, y = np.divmod(test._pairs, 10)
        assert set(zip(x, y, strict=True)) == set(zip(y, x, strict=True))
        assert 0.05 < len(test._pairs) / 100 < 0.3


def test_affine_operators_are_affine_and_no_addition():
    """p, q and r read off three results reproduce the whole table; p and q are prime to 10 and not both 1."""
    for digits in (1, 2):
        size = 10**digits
        _, results = synthetic_data.make("arithmetic", digits=digits, affine=3, tables=1)._rules
        x, y = np.divmod(np.arange(size * size), size)
        fits = []
        for row in results:
            r = row[0]
            p, q = (row[size] - r) % size, (row[1] - r) % size
            fits.append(bool(np.all(row == (p * x + q * y + r) % size)))
            if fits[-1]:
                assert np.gcd(p, 10) == np.gcd(q, 10) == 1
                assert (p, q) != (1, 1)
        assert fits == [True, True, True, False]


def test_a_checksum_that_holds_out_next_to_nothing_is_refused():
    with pytest.raises(ValueError, match=r"checksum=11.*got 1%.*try corpus.checksum=13"):
        synthetic_data.make("arithmetic", checksum=11)


def test_documented_form_of_the_seed_example():
    text = synthetic_data.make("arithmetic", domain="general", records=2).batch([0], seed=0)[0]
    shown = synthetic_data.make("arithmetic").vocabulary.text(text)
    import re

    records = re.fullmatch(r"(?:(\w)=(\d),(\w)=(\d),\1\+\3=(\d);)(?:(\w)=(\d),(\w)=(\d),\6\+\8=(\d);)", shown)
    assert records, shown
    assert (int(records[2]) + int(records[4])) % 10 == int(records[5])

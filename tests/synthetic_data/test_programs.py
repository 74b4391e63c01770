"""The world `programs` against enumeration, and its laws at full size."""

import itertools
import re

import numpy as np
import pytest
import torch
from scipy import stats

from ablate.core.corpus import Domain, Split
from ablate.core.rng import uniform
from synthetic_data.worlds.programs import MOST_ROWS, Programs
from tests.synthetic_data.enumerate_programs import HELD_OUT, every_program, posteriors, programs, rules, run

SIZES = {
    "two": {"variables": 2, "modulus": 3, "new_operators": 4},
    "three": {"variables": 3, "modulus": 2, "new_operators": 2},
    "three, values": {"variables": 3, "modulus": 3, "new_operators": 1, "world": 2},
    "four": {"variables": 4, "modulus": 2, "new_operators": 1},
}
SPLITS = Programs.splits
LAWS = [(n, d, s) for n in SIZES for d in Domain for s in SPLITS if (n, d) != ("four", "general")]


def hidden_at_random(tokens_BL, mask_id, stream):
    n, length = tokens_BL.shape
    hidden = uniform(0, f"{stream}/hidden", range(n), (length,)) < uniform(0, f"{stream}/rate", range(n), (1,))
    return tokens_BL.masked_fill(hidden, mask_id)


@pytest.mark.parametrize(("size", "domain", "split"), LAWS)
def test_oracle_equals_enumeration(size, domain, split):
    corpus = Programs(**SIZES[size], domain=domain, split=split)
    sequences, mask_id = every_program(corpus), corpus.vocabulary.mask_id
    rows = sequences[(uniform(0, "rows", range(300)) * len(sequences)).long()]
    tokens = hidden_at_random(rows, mask_id, "programs")
    exact = corpus.oracle.posterior(tokens)
    p, support, log_evidence = posteriors(sequences, tokens, mask_id, len(corpus.vocabulary))
    assert (exact.p_BLV - p).abs().max() <= 1e-12
    assert torch.equal(exact.support_BLV, support)
    assert np.abs(exact.log_evidence_B.numpy() - log_evidence).max() <= 1e-10


@pytest.mark.parametrize(("size", "domain", "split"), [law for law in LAWS if law[0] in ("two", "three")])
def test_sampler_draws_from_its_law(size, domain, split):
    """Every drawn program is in the law and as frequent as the others; single tokens have the oracle's frequencies."""
    corpus = Programs(**SIZES[size], domain=domain, split=split)
    sequences = [tuple(r) for r in every_program(corpus).tolist()]
    n = 20 * len(sequences)
    drawn = corpus.batch(range(n), seed=5)
    number = {row: i for i, row in enumerate(sequences)}
    counts = np.bincount([number[tuple(r)] for r in drawn.tolist()], minlength=len(sequences))
    pvalues = [stats.chisquare(counts).pvalue]
    prior = corpus.oracle.posterior(torch.full((1, corpus.length), corpus.vocabulary.mask_id)).p_BLV[0].numpy()
    for position in range(corpus.length):
        expected = prior[position][prior[position] > 0] * n
        if len(expected) > 1:
            counts = np.bincount(drawn[:, position], minlength=len(corpus.vocabulary))[prior[position] > 0]
            pvalues.append(stats.chisquare(counts, expected).pvalue)
    assert min(pvalues) * len(pvalues) > 1e-3


@pytest.mark.parametrize(("domain", "split"), list(itertools.product(Domain, SPLITS)))
def test_chain_rule_in_any_order(domain, split):
    corpus = Programs(domain=domain, split=split)
    row = corpus.batch([7], seed=1)
    whole = float(corpus.oracle.posterior(row).log_evidence_B[0])
    for k in range(20):
        order = np.random.default_rng(k).permutation(corpus.length)
        contexts = row.repeat(corpus.length, 1)
        for i in range(corpus.length):
            contexts[i, torch.from_numpy(order[i:].copy())] = corpus.vocabulary.mask_id
        p = corpus.oracle.posterior(contexts).p_BLV[range(corpus.length), order, row[0, order]]
        assert abs(float(p.log().sum()) - whole) < 1e-9


@pytest.mark.parametrize("size", SIZES)
def test_splits_are_disjoint_and_together_whole(size):
    train, test, whole = (
        {tuple(r) for r in every_program(Programs(**SIZES[size], split=split)).tolist()} for split in SPLITS
    )
    assert train
    assert test
    assert not train & test
    assert train | test == whole


def test_each_program_is_as_likely_as_the_others_at_full_size():
    """At any size: p(row) = 1 / number of programs of the split, which the other two splits make up."""
    for variables in (2, 3, 4):
        size = {"variables": variables, "modulus": 5}
        ways = [5, *(3 * (10 * k + k * k) for k in range(1, variables)), variables - 1]
        counts = {}
        for split in SPLITS:
            corpus = Programs(**size, split=split)
            log_p = corpus.oracle.posterior(corpus.batch(range(20), seed=0)).log_evidence_B
            assert float(log_p.max() - log_p.min()) < 1e-9
            counts[split] = np.exp(-float(log_p[0]))
        assert counts[Split.whole] == pytest.approx(np.prod(ways), rel=1e-9)
        assert counts[Split.train] + counts[Split.test] == pytest.approx(np.prod(ways), rel=1e-9)


@pytest.mark.parametrize(("variables", "lacking"), [(2, {("variable", "variable")}), (3, set()), (4, set())])
def test_training_shows_every_shape_and_every_depth(variables, lacking):
    """Two variables have the depth 1 alone, so holding out one combination takes a shape away."""
    corpus = Programs(variables=variables, modulus=2, new_operators=1)
    seen = {False: set(), True: set()}
    for text in programs(corpus):
        combinations = set(run(text, rules(corpus))[2])
        seen[bool(HELD_OUT & combinations)] |= combinations
    kinds = {("constant", "variable"), ("variable", "constant"), ("variable", "variable")}
    possible = {(*kind, depth) for kind in kinds for depth in range(1, variables)}
    assert seen[False] == possible - HELD_OUT
    assert HELD_OUT & possible <= seen[True]
    assert {c[:2] for c in seen[False]} == kinds - lacking
    assert {c[2] for c in seen[False]} == set(range(1, variables))


@pytest.mark.parametrize("domain", Domain)
def test_training_shows_every_entry_of_every_table(domain):
    """So a test of held-out combinations asks for composition, not for unseen facts."""
    corpus = Programs(domain=domain)
    operators = len(rules(corpus))
    facts = set()
    for row in corpus.batch(range(3000), seed=0):
        text = corpus.vocabulary.text(row[1:-2])
        values = run(text.rpartition(";")[0], rules(corpus))[0]
        for a, symbol, b in re.findall(r"=(\w)(\W)(\w);", text):
            facts.add((symbol, *(int(values.get(x, x)) for x in (a, b))))
    assert len(facts) == operators * corpus.modulus**2


@pytest.mark.parametrize(("domain", "split"), list(itertools.product(Domain, SPLITS)))
def test_the_prompt_determines_the_answer_and_the_verifier_reads_it(domain, split):
    corpus = Programs(domain=domain, split=split, variables=4)
    query, mask_id = corpus.queries(50, seed=0), corpus.vocabulary.mask_id
    prompt = query.prompt(mask_id)
    assert torch.equal(prompt == mask_id, query.answer_BL)
    assert query.answer_BL.nonzero()[:, 1].tolist() == [corpus.length - 1] * 50
    posterior = corpus.oracle.posterior(prompt)
    assert int(posterior.support_BLV.sum(-1).max()) == 1
    assert torch.equal(query.verify(posterior.p_BLV.argmax(-1)), torch.ones(50).double())
    for row in query.tokens_BL:
        symbols = [corpus.vocabulary.symbols[i] for i in row]
        values, _, combinations = run("".join(symbols[1:-3]), rules(corpus))
        assert str(values[symbols[-3]]) == symbols[-1]
        assert split == Split.whole or bool(HELD_OUT & set(combinations)) == (split == Split.test)
    wrong = query.tokens_BL.clone()
    wrong[0, -1] = 1 + wrong[0, -1] % corpus.modulus
    wrong[1, 3] = 1 + wrong[1, 3] % corpus.modulus  # the prompt is not marked
    assert query.verify(wrong).tolist() == [0.0] + [1.0] * 49


def test_documented_form():
    corpus = Programs(domain="general", variables=4)
    for row in corpus.batch(range(20), seed=0):
        text = corpus.vocabulary.text(row)
        form = r"<bos>x=\d;y=(\d[-+*]x|x[-+*]\d|x[-+*]x);z=[\dxy][-+*][\dxy];w=[\dxyz][-+*][\dxyz];[yzw]\?\d"
        assert re.fullmatch(form, text), text
        assert len(row) == corpus.length == 26
    assert Programs().length == 20
    assert Programs().vocabulary == Programs(domain="general").vocabulary


def test_rows_are_addressed_and_worlds_differ():
    corpus = Programs()
    assert torch.equal(corpus.batch([9, 2], seed=3), corpus.batch(range(10), seed=3)[[9, 2]])
    assert not torch.equal(corpus.batch(range(4), seed=3), corpus.batch(range(4), seed=4))
    assert not torch.equal(corpus.batch(range(4), seed=3), corpus.queries(4, seed=3).tokens_BL)
    other = Programs(world=1)
    assert not np.array_equal(corpus._tables, other._tables)
    assert corpus.fingerprint() != other.fingerprint()


def test_sizes_are_bounded_before_anything_is_built():
    """The stated bound is one: no oracle has more rows than its size promises."""
    for variables, modulus, new_operators in itertools.product((2, 3, 4), (2, 5), (1, 4)):
        for domain, split in itertools.product(Domain, SPLITS):
            corpus = Programs(variables, modulus, new_operators, domain=domain, split=split)
            assert sum(len(clique.rows) for clique in corpus._machine()[1:]) <= corpus._most_rows <= MOST_ROWS
    with pytest.raises(
        ValueError, match=r"at most 250000 .*\(250 MB\), got up to \d+ \(\d+ MB\); try corpus.modulus=5"
    ):
        Programs(variables=4, modulus=7, new_operators=8)
    Programs(variables=4, modulus=5, new_operators=8)


def test_bad_input_is_named():
    for field, value in (("variables", 5), ("variables", 1), ("modulus", 8), ("modulus", 1), ("new_operators", 9)):
        with pytest.raises(ValueError, match=rf"corpus.{field}: wanted .* for programs, got {value}"):
            Programs(**{field: value})
    with pytest.raises(ValueError, match="programs has train, test, whole; got longer"):
        Programs(split="longer")
    corpus = Programs(split="test")
    row = corpus.batch([0], seed=0)
    impossible = row.clone()
    impossible[0, -1] = 1 + impossible[0, -1] % corpus.modulus
    with pytest.raises(ValueError, match=f"row 1 .*position {corpus.length - 1}"):
        corpus.oracle.posterior(torch.cat((row, impossible)))
    with pytest.raises(ValueError, match="probability 0"):
        corpus.oracle.posterior(Programs(split="train").batch(range(4), seed=0))

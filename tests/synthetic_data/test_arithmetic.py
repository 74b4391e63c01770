"""The world `arithmetic`: its oracle against whole-number enumeration, and its laws at full size."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import synthetic_data
from ablate.core.corpus import Domain, Split
from ablate.core.rng import uniform
from synthetic_data.worlds.arithmetic import Arithmetic
from synthetic_data.worlds.operators import AFFINE, random_transducer
from tests.synthetic_data.enumerate_arithmetic import (
    SIZES,
    TEMPLATE,
    Counted,
    belongs,
    every_arithmetic,
    every_record,
    exists,
    operators,
    read,
    sum_digits,
)
from tests.synthetic_data.enumeration import masked

GENERAL, NEW = Domain.general, Domain.new
FIELDS = ("size", "domain", "split", "layout", "order", "wrap")


def grid(size, domains=tuple(Domain), layouts=tuple(TEMPLATE), marks=(), forms=None):
    """The laws of a size that exist; forms: (order, wrap)."""
    forms = forms or itertools.product(("big", "little"), (True, False))
    laws = itertools.product([size], domains, Arithmetic.splits, layouts, forms)
    return [pytest.param(*law, *form, marks=marks) for *law, form in laws if exists(*law, *form)]


BOTH_FORMS = [("big", True), ("little", False)]
LAWS = [
    *grid("1"),
    *grid("1, one new"),
    *grid("2"),
    *grid("2, one new", [NEW], ["bare"]),
    *grid("3, affine", [NEW], ["bare"], forms=[("little", False)]),
    *grid("3, transducer", [NEW], ["bare"], forms=[("big", True)]),
    *grid("3, affine", Domain, ["bare"], pytest.mark.slow, [("big", True)]),
    *grid("3, transducer", [NEW], ["bare"], pytest.mark.slow, [("little", False)]),
    *grid("3, both", [NEW], ["record"], pytest.mark.slow, [("little", False)]),
    *grid("two records", forms=BOTH_FORMS),
]


def law(size, domain, split, layout="record", order="big", wrap=True):
    fields = dict(zip(FIELDS[1:], (domain, split, layout, order, wrap), strict=True))
    return Arithmetic(**({"records": 1} | SIZES[size] | fields))


@pytest.mark.parametrize(FIELDS, LAWS)
def test_oracle_equals_enumeration(size, domain, split, layout, order, wrap):
    corpus = law(size, domain, split, layout, order, wrap)
    counted = Counted(every_arithmetic(corpus), corpus.vocabulary.mask_id, len(corpus.vocabulary))
    sequences_LN = counted.sequences_LN
    chosen = (uniform(0, "rows", range(300)) * sequences_LN.shape[1]).long().numpy()
    tokens = masked(torch.from_numpy(sequences_LN[:, chosen].T.astype(np.int64)), corpus.vocabulary.mask_id)
    exact = corpus.oracle.posterior(tokens)
    for b, row in enumerate(tokens.numpy()):
        p_LV, support_LV, log_evidence = counted.posterior(row)
        assert np.abs(exact.p_BLV[b].numpy() - p_LV).max() <= 1e-12
        assert np.array_equal(exact.support_BLV[b].numpy(), support_LV)
        assert abs(float(exact.log_evidence_B[b]) - log_evidence) <= 1e-10


def test_what_has_no_meaning_is_refused():
    """And only that: the laws that exist are built by the test above."""
    told = {
        "longer": "corpus.split=longer: wanted operators with carries",
        "bare": "corpus.layout=bare shows no operator",
        "wrap": "corpus.wrap=false: operators given by tables",
    }
    cases = itertools.product(SIZES, Domain, Arithmetic.splits, TEMPLATE, ("big",), (True, False))
    refused = [case for case in cases if not exists(*case)]
    for case in refused:
        with pytest.raises(ValueError, match="|".join(told.values())):
            law(*case)
    with pytest.raises(ValueError, match=told["longer"] + r".*digits=3; try corpus.digits=8"):
        Arithmetic(digits=3, split="longer")
    with pytest.raises(ValueError, match=told["bare"] + r".*new has 4; try corpus.affine=1 corpus.tables=0"):
        Arithmetic(layout="bare")
    with pytest.raises(ValueError, match=told["wrap"] + r".*no carry; try corpus.digits=3"):
        Arithmetic(wrap=False)
    with pytest.raises(ValueError, match="at least one new operator"):
        Arithmetic(affine=0, tables=0)
    with pytest.raises(ValueError, match=r"checksum=11.*got 1%.*try corpus.checksum=13"):
        Arithmetic(checksum=11)


@pytest.mark.parametrize(FIELDS, [*grid("1", layouts=["record"]), *grid("1, one new", layouts=["bare"])])
def test_every_record_is_drawn_as_often_as_the_others(size, domain, split, layout, order, wrap):
    corpus = law(size, domain, split, layout, order, wrap)
    number = {tuple(column): i for i, column in enumerate(every_arithmetic(corpus).T.tolist())}
    drawn = corpus.batch(range(20 * len(number)), seed=5)
    counts = np.bincount([number[tuple(row)] for row in drawn.tolist()], minlength=len(number))
    assert stats.chisquare(counts).pvalue > 1e-5  # about 40 laws


FULL = [
    {"digits": 1},
    {"digits": 2, "layout": "reversed"},
    {"digits": 3, "chain": 2, "wrap": False, "order": "little"},
    {"digits": 8, "records": 2},
    {"digits": 8, "layout": "reversed", "order": "little", "affine": 8, "tables": 8},
]


@pytest.mark.parametrize("fields", FULL, ids=str)
@pytest.mark.parametrize("domain", Domain)
def test_drawn_records_follow_the_rules_and_their_split(fields, domain):
    """At any size: the text is read, worked out on whole numbers, and held against the rule of each split."""
    for split in Arithmetic.splits:
        if split == Split.longer and (fields["digits"] < fields.get("chain", 4)):
            continue
        corpus = Arithmetic(**fields, domain=domain, split=split)
        rules, shown = operators(corpus), set()
        for row in [*corpus.batch(range(120), seed=0), *corpus.queries(20, seed=0).tokens_BL]:
            for symbol, x, y, z in read(corpus, row):
                result, carry_ND = rules[symbol](np.array([x]), np.array([y]))
                assert z == int(result[0]) % 10 ** (corpus.digits + (not corpus.wrap))
                assert belongs(corpus, np.array([x]), np.array([y]), carry_ND)[0]
                shown.add(symbol)
        assert shown == set(rules) or split == Split.longer  # not every operator has long chains


def test_rules_do_not_depend_on_the_number_of_digits():
    """So what three digits teach carries over to eight: the last digits of a result are the same."""
    few, many = (operators(Arithmetic(digits=digits)) for digits in (3, 8))
    x, y = (uniform(0, s, range(50)).mul(1000).long().numpy() for s in "xy")
    for symbol, rule in few.items():
        assert np.array_equal(rule(x, y)[0] % 1000, many[symbol](x, y)[0] % 1000)


def test_new_operators_are_no_addition_and_have_four_carries_at_most():
    assert len(set(AFFINE)) == len(AFFINE) >= 8
    for p, q, r in AFFINE:
        assert (p, q) != (1, 1)
        assert 0 <= r < p + q <= 4
    for i in range(40):
        op = random_transducer("*", np.random.default_rng(i))
        assert op.digit_CXY.shape == op.carry_CXY.shape
        assert 2 <= len(op.carry_CXY) <= 4
        assert op.start < len(op.carry_CXY) > op.carry_CXY.max()


@pytest.mark.parametrize("domain", Domain)
def test_held_out_pairs_hide_no_result_and_come_in_both_orders(domain):
    """Otherwise the held-out score would say nothing about the rule: its results would never have been shown."""
    known = {}
    for split in ("train", "test"):
        corpus = Arithmetic(records=1, names=2, domain=domain, split=split)
        known[split] = {record for row in every_record(corpus).T for record in read(corpus, row)}
    assert {(o, z) for o, _, _, z in known["test"]} <= {(o, z) for o, _, _, z in known["train"]}
    pairs = {record[:3] for record in known["test"]}
    assert pairs == {(o, y, x) for o, x, y in pairs}
    assert 0.05 < len(known["test"]) / len(known["test"] | known["train"]) < 0.3


def test_documented_forms():
    name, record = r"[a-f]", {}
    record["record"] = rf"({name})=\d{{3}},(?!\1)({name})=\d{{3}},\1\+\2=\d{{3}};"
    record["reversed"] = rf"({name})\+(?!\1)({name})=\d{{3}},\1=\d{{3}},\2=\d{{3}};"
    record["bare"] = r"\d{9}"
    for layout, form in record.items():
        corpus = Arithmetic(digits=3, records=1, layout=layout, domain="general")
        for row in corpus.batch(range(20), seed=0):
            assert re.fullmatch(form, corpus.vocabulary.text(row))
    assert Arithmetic(layout="bare", wrap=False, digits=8, records=1, domain="general").length == 25
    assert Arithmetic(layout="bare", wrap=False, digits=8, records=1, domain="general").order == "big"
    assert Arithmetic().vocabulary == Arithmetic(domain="general").vocabulary


def test_little_end_first_is_the_same_law_turned_round():
    """Same seed, same numbers: each number's digits stand in the other order."""
    big = Arithmetic(digits=4, records=2, layout="reversed", wrap=False, domain="general")
    little = replace(big, order="little")
    for a, b in zip(big.batch(range(20), 3), little.batch(range(20), 3), strict=True):
        assert list(read(big, a)) == list(read(little, b))
        assert not torch.equal(a, b)


@pytest.mark.parametrize("layout", TEMPLATE)
@pytest.mark.parametrize(("wrap", "order"), [(True, "big"), (False, "little")])
def test_prompts_determine_results_and_the_verifier_counts_records(layout, wrap, order):
    fields = {"layout": layout, "wrap": wrap, "order": order, "affine": 1, "tables": 0}
    for digits, domain in ((1, GENERAL), (3, NEW)):
        corpus = Arithmetic(digits=digits, records=3, domain=domain, **fields)
        query = corpus.queries(30, seed=0)
        prompt = query.prompt(corpus.vocabulary.mask_id)
        posterior = corpus.oracle.posterior(prompt)
        assert int(posterior.support_BLV.sum(-1).max()) == 1
        decoded = posterior.p_BLV.argmax(-1)
        assert torch.equal(decoded, query.tokens_BL)
        assert torch.equal(query.verify(decoded), torch.ones(30).double())
        assert query.answer_BL.sum(1).unique().tolist() == [3 * (digits + (not wrap))]
        width = corpus.length // 3
        for wrong in range(3):
            place = int(query.answer_BL[0].nonzero()[wrong * (digits + (not wrap))])
            assert place // width == wrong
            decoded[:, place] = (decoded[:, place] + 1) % 10
            assert query.verify(decoded).unique().tolist() == [pytest.approx(1 - (wrong + 1) / 3)]
        changed = torch.where(query.answer_BL, query.tokens_BL, 0)
        assert torch.equal(query.verify(changed), torch.ones(30).double())  # the prompt is not marked


@pytest.fixture(scope="module")
def addition():
    """Bare addition of eight digits: x, y and nine digits of x + y."""
    return synthetic_data.make(
        "arithmetic", domain="general", split="whole", layout="bare", records=1, digits=8, wrap=False
    )


def hidden_at(corpus, rows, rate, stream="rate"):
    hidden = uniform(0, stream, range(rows), (corpus.length,)) < rate
    return corpus.batch(range(rows), seed=0).masked_fill(hidden, corpus.vocabulary.mask_id)


@pytest.mark.parametrize("rate", [0.15, 0.5, 0.8, 1.0])
def test_digits_that_a_sum_can_still_have_are_those_that_its_carries_allow(addition, rate):
    tokens, mask_id = hidden_at(addition, 400, rate), addition.vocabulary.mask_id
    size_BL = addition.oracle.posterior(tokens).support_BLV.sum(-1).numpy()[:, 16:]
    lowest_first = tokens.numpy()[:, :8][:, ::-1], tokens.numpy()[:, 8:16][:, ::-1], tokens.numpy()[:, 16:][:, ::-1]
    expected_BL = sum_digits(*lowest_first, mask_id)[:, ::-1]
    hidden_BL = tokens.numpy()[:, 16:] == mask_id
    assert np.array_equal(size_BL[hidden_BL], expected_BL[hidden_BL])


def test_prefixes_leave_no_choice_in_a_sum(addition):
    tokens = addition.batch(range(100), seed=0)
    for first in range(16, 25):
        seen = tokens.masked_fill(torch.arange(25) >= first, addition.vocabulary.mask_id)
        assert bool((addition.oracle.posterior(seen).support_BLV[:, first].sum(-1) == 1).all())


@pytest.mark.parametrize(
    ("rate", "rows", "mean", "share"),
    [(0.15, 75_000, 2.75, 0.720), (0.5, 25_000, 6.89, 0.185), (0.8, 16_000, 8.78, 0.019)],
)
def test_known_mean_choice_in_a_sum(addition, rate, rows, mean, share):
    """The mean number of digits that a masked digit of the sum can be, and the share of those with one alone.

    Rows are as many as it takes for four standard errors, by whole rows, to fit into what is allowed.
    """
    tokens = hidden_at(addition, rows, rate)
    k_BL = addition.oracle.posterior(tokens).support_BLV.sum(-1)[:, 16:].double()
    hidden_BL = (tokens[:, 16:] == addition.vocabulary.mask_id).double()
    for value_BL, wanted, allowed in ((k_BL, mean, 0.05), ((k_BL == 1).double(), share, 0.01)):
        found = float((value_BL * hidden_BL).sum() / hidden_BL.sum())
        residual_B = ((value_BL - found) * hidden_BL).sum(1)
        assert 4 * float(residual_B.square().sum().sqrt() / hidden_BL.sum()) < allowed
        assert abs(found - wanted) < allowed

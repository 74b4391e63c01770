"""The rare dialect of the world `trace`: its laws against enumeration, its share, and what it leaves as it was.

What every world is held to (chain rule, addressed rows, calibration) is tested in `test_worlds` at full size.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from ablate.core.corpus import Domain, Split
from ablate.core.rng import uniform
from synthetic_data import Trace, noisy
from tests.synthetic_data.enumeration import every_trace, masked, noisy_posterior, order_gap

SMALL = {
    "few": {
        "values": 3,
        "general_operators": 3,
        "new_operators": 4,
        "operations": 3,
        "longer": 4,
        "checksum": 3,
        "dialect": 2,
        "dialect_share": 0.02,
    },
    "short": {
        "values": 2,
        "general_operators": 2,
        "new_operators": 2,
        "operations": 1,
        "longer": 3,
        "checksum": 2,
        "dialect": 5,
        "dialect_share": 0.7,
    },
    "long": {
        "values": 3,
        "general_operators": 2,
        "new_operators": 2,
        "operations": 4,
        "longer": 5,
        "checksum": 5,
        "dialect": 3,
        "dialect_share": 0.3,
    },
}
LAWS = [(size, d, s) for size in SMALL for d in Domain for s in Trace.splits]


def operators(corpus, letter):
    """Ids of the operators that are written with a letter."""
    return torch.tensor([i for i, symbol in enumerate(corpus.vocabulary.symbols) if symbol[0] == letter])


def programs(corpus, rows):
    return rows[:, 1 : (corpus.length - 1) // 2]


def is_dialect(corpus, rows):
    """(B,) whether programs are of the dialect; each is of one kind, or this fails."""
    found_BN = torch.isin(programs(corpus, rows), operators(corpus, "d"))
    assert torch.equal(found_BN.any(1), found_BN.all(1))
    return found_BN.any(1)


@pytest.mark.parametrize("q", [0.0, 0.2])
@pytest.mark.parametrize(("size", "domain", "split"), LAWS)
def test_oracle_equals_enumeration(size, domain, split, q):
    """Of both kinds alike, however rare one is; and through noise, where what is visible may be of both."""
    clean = Trace(**SMALL[size], domain=domain, split=split)
    corpus, (sequences_NL, p_N) = noisy(clean, q), every_trace(clean)
    rows = sequences_NL[(uniform(0, "rows", range(100)) * len(sequences_NL)).long()]
    if q:
        stray = torch.randint(corpus.vocabulary.mask_id, rows.shape, generator=torch.Generator().manual_seed(0))
        rows = rows.where(uniform(0, "noise", range(100), (corpus.length,)) >= q, stray)
    tokens = masked(rows, corpus.vocabulary.mask_id)
    tokens[0] = corpus.vocabulary.mask_id
    exact = corpus.oracle.posterior(tokens)
    p_BLV, log_evidence_B = noisy_posterior(sequences_NL, p_N, tokens, q, corpus.vocabulary)
    assert (exact.p_BLV - p_BLV).abs().max() <= 1e-12
    assert (exact.log_evidence_B - log_evidence_B).abs().max() <= 1e-10
    assert torch.equal(exact.support_BLV, p_BLV > 0)


@pytest.mark.parametrize(("size", "domain", "split"), LAWS)
def test_every_trace_is_drawn_as_often_as_its_kind_says(size, domain, split):
    """By the world's own sampler and by the oracle's, which share no line."""
    corpus = Trace(**SMALL[size] | {"dialect_share": 0.2}, domain=domain, split=split)
    sequences_NL, p_N = every_trace(corpus)
    number = {tuple(row): i for i, row in enumerate(sequences_NL.tolist())}
    n, oracle = int(10 / p_N.min()), corpus.oracle
    for drawn in (corpus.batch(range(n), seed=5), oracle.draw(uniform(6, "draw", range(n), (oracle.draws,)).numpy())):
        counts = np.bincount([number[tuple(row)] for row in drawn.tolist()], minlength=len(number))
        assert stats.chisquare(counts, n * p_N.numpy()).pvalue > 1e-5  # 48 of them


@pytest.mark.parametrize("share", [0.001, 0.02, 0.9])
@pytest.mark.parametrize("split", [Split.train, Split.whole])
def test_the_share_is_as_given(split, share):
    """Under the default checksum, which keeps another part of the one kind's programs than of the other's."""
    n, corpus = 40_000, Trace(operations=2, new_operators=3, dialect=11, dialect_share=share, split=split)
    found = int(is_dialect(corpus, corpus.batch(range(n), seed=0)).sum())
    assert stats.binomtest(found, n, share).pvalue > 1e-4
    asked = int(is_dialect(corpus, corpus.queries(n, seed=0).tokens_BL).sum())
    assert stats.binomtest(asked, n, share).pvalue > 1e-4
    p_V = corpus.oracle.posterior(torch.full((1, corpus.length), corpus.vocabulary.mask_id)).p_BLV[0, 1]
    assert float(p_V[operators(corpus, "d")].sum()) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("split", Trace.splits)
def test_the_common_kind_and_the_general_domain_stay_as_they_were(split):
    """Where no dialect is drawn a row is the same number by number, and so is what is left to infer."""
    for domain in Domain:
        plain = Trace(domain=domain, split=split)
        corpus = replace(plain, dialect=2, dialect_share=0.4)
        *symbols, mask = corpus.vocabulary.symbols
        assert (*symbols[:-2], mask) == plain.vocabulary.symbols
        assert symbols[-2:] == ["d0 ", "d1 "]
        assert corpus.vocabulary.mask_id == plain.vocabulary.mask_id + 2
        rows, others = plain.batch(range(500), seed=3), corpus.batch(range(500), seed=3)
        same_B = ~is_dialect(corpus, others)
        assert same_B.all() if domain == "general" else same_B.any() == (split not in ("test", "longer"))
        assert torch.equal(rows[same_B], others[same_B])
        asked, others = plain.queries(500, seed=3).tokens_BL, corpus.queries(500, seed=3).tokens_BL
        same_B = ~is_dialect(corpus, others)
        assert torch.equal(asked[same_B], others[same_B])
        if same_B.any():  # an operator shown says which kind it is
            tokens = masked(asked[same_B], plain.vocabulary.mask_id)
            tokens[:, 3] = asked[same_B, 3]
            wider = tokens.masked_fill(tokens == plain.vocabulary.mask_id, corpus.vocabulary.mask_id)
            p_BLV, q_BLV = plain.oracle.posterior(tokens).p_BLV, corpus.oracle.posterior(wider).p_BLV
            assert (p_BLV[..., :-1] - q_BLV[..., :-3]).abs().max() <= 1e-12
            assert float(q_BLV[..., operators(corpus, "d")].max()) == 0


@pytest.mark.parametrize("split", [Split.test, Split.longer])
def test_held_out_and_longer_programs_are_of_the_dialect_alone(split):
    """Law and rows are those of a plain world that has the dialect's operators, and these alone, as its new ones."""
    corpus = Trace(general_operators=3, new_operators=6, dialect=4, split=split)
    plain = Trace(general_operators=9, new_operators=4, split=split)
    rows = corpus.batch(range(300), seed=1)
    assert bool(is_dialect(corpus, rows).all())
    assert set(programs(corpus, rows).unique().tolist()) == set(operators(corpus, "d").tolist())
    assert torch.equal(rows, plain.batch(range(300), seed=1))
    assert torch.equal(corpus.queries(9, seed=1).tokens_BL, plain.queries(9, seed=1).tokens_BL)
    tokens = masked(rows, corpus.vocabulary.mask_id)
    for ours, theirs in zip(*(vars(c.oracle.posterior(tokens)).values() for c in (corpus, plain)), strict=True):
        assert torch.equal(ours, theirs)
    if split == "test":
        numbers = programs(corpus, rows) - operators(corpus, "d")[0]
        assert not bool((numbers.sum(1) % corpus.checksum).any())


def test_the_checksum_counts_each_kind_s_operators_from_0():
    corpus = Trace(dialect=7, dialect_share=0.5)
    rows = corpus.batch(range(2000), seed=1)
    for letter, kind_B in (("d", is_dialect(corpus, rows)), ("n", ~is_dialect(corpus, rows))):
        numbers = programs(corpus, rows[kind_B]) - operators(corpus, letter)[0]
        assert set((numbers.sum(1) % corpus.checksum).tolist()) == {1, 2, 3, 4}


@pytest.mark.parametrize(
    "fields",
    [
        {"dialect": 2, "dialect_share": 1e-6},
        {"operations": 64, "longer": 65, "new_operators": 500, "dialect": 2, "values": 2, "checksum": 2},
    ],
)
def test_very_unequal_kinds_stay_exact(fields):
    """2^64 programs beside 500^64: neither kind is lost to rounding. Chain rule from a row of either."""
    corpus = Trace(**fields)
    assert order_gap(corpus, orders=2) < 1e-9
    nothing = torch.full((1, corpus.length), corpus.vocabulary.mask_id)
    p_V = corpus.oracle.posterior(nothing).p_BLV[0, 1]
    assert float(p_V[operators(corpus, "d")].sum()) == pytest.approx(corpus.dialect_share, rel=1e-9)
    row = replace(corpus, dialect_share=1 - 1e-9).batch([0], seed=0)
    assert bool(is_dialect(corpus, row).all())
    accepted = (2**corpus.operations - held_out(corpus)) * corpus.values
    log_p = float(corpus.oracle.posterior(row).log_evidence_B[0])
    assert log_p == pytest.approx(np.log(corpus.dialect_share) - np.log(float(accepted)), rel=1e-12)


def held_out(corpus):
    """How many programs of two operators have a sum of 0 modulo the checksum: exact whole numbers."""
    counts = [1] + [0] * (corpus.checksum - 1)
    for _ in range(corpus.operations):
        counts = [a + b for a, b in zip(counts, counts[-1:] + counts[:-1], strict=True)]
    return counts[0]


def test_every_operator_has_a_table_of_its_own():
    """Read off the traces: at ten values no two of 26 permutations are the same."""
    tables = {}
    for domain in Domain:
        corpus = Trace(dialect=6, dialect_share=0.5, domain=domain, split="whole")
        rows = corpus.batch(range(3000), seed=0)
        for step in range(corpus.operations):
            before = rows[:, 9] if step == 0 else rows[:, 10 + step]
            for operator, x, y in zip(
                rows[:, 1 + step].tolist(), before.tolist(), rows[:, 11 + step].tolist(), strict=True
            ):
                assert tables.setdefault(operator, {}).setdefault(x, y) == y
    assert len(tables) == 26
    assert len({tuple(sorted(table.items())) for table in tables.values()}) == 26


def test_neither_split_contains_the_other_s_dialect():
    train, test = (Trace(dialect=4, dialect_share=0.5, split=split) for split in ("train", "test"))
    rows = train.batch(range(40), seed=0)
    for corpus, theirs in ((train, test.batch(range(20), seed=0)), (test, rows)):
        for row in theirs:
            with pytest.raises(ValueError, match="row 0 has probability 0"):
                corpus.oracle.posterior(row[None])


def test_bad_fields_are_named():
    for bad, wanted, near in ((1, r"0 or 2\.\.500", 2), (-1, r"0\.\.500", 0), (501, r"0\.\.500", 500), (True, "0", 0)):
        with pytest.raises(
            ValueError,
            match=rf"corpus.dialect: wanted {wanted}.* for trace, got {bad}; try "
            rf"corpus.dialect={near}$",
        ):
            Trace(dialect=bad)
    for bad in (0, 1, 1.5, -0.1, float("nan"), True):
        with pytest.raises(
            ValueError,
            match=rf"corpus.dialect_share: wanted a share above 0 and below 1 for trace, "
            rf"got {bad}; try corpus.dialect_share=0.02",
        ):
            Trace(dialect=2, dialect_share=bad)

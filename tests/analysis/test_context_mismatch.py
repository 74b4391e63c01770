"""Mismatch in closed form against enumeration; the classifier against samples of known laws."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from ablate.analysis.context_mismatch import (
    BlockPatterns,
    Mismatch,
    aligned,
    block_mismatch,
    coverage,
    jsd_bits,
    kl_bits,
    mismatch,
    nested,
    one_plus_chi2,
    two_sample_test,
)
from ablate.core.rng import generator
from ablate.noise.closed_forms import mask_pattern_entropy, pattern_entropy_bits
from ablate.noise.schedules import Linear

MASK = 5


def brute_table(window, size, j, hidden):
    """P(visible | target j): every block, number N and hidden set, each hidden token asked with probability 1/N.

    `hidden` is the law of N, given that j was asked, which a law of N for the block has as well.
    """
    out = Counter()
    for start in range(0, window, size):
        block = range(start, start + size)
        for n in range(1, size + 1):
            for masked in itertools.combinations(block, n):
                if j in masked:
                    weight = hidden[n - 1] / math.comb(size, n) / n
                    out[(*range(start), *(i for i in block if i not in masked))] += weight
    total = sum(out.values())
    return {pattern: weight / total for pattern, weight in out.items()}


def hidden_laws(size):
    """Uniform, skewed, and two that never show some numbers of tokens."""
    skewed = np.arange(1, size + 1) / (size * (size + 1) / 2)
    all_hidden, one_hidden = np.eye(size)[-1], np.eye(size)[0]
    return [None, *(tuple(x.tolist()) for x in (skewed, all_hidden, one_hidden))]


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_pattern_tables_equal_enumeration(size):
    for hidden, j in itertools.product(hidden_laws(size), range(6)):
        brute = brute_table(6, size, j, hidden or np.full(size, 1 / size))
        table = BlockPatterns(6, size, hidden).table(j)
        assert sum(table.values()) == pytest.approx(1)
        assert {k: v for k, v in table.items() if v > 0} == pytest.approx({k: v for k, v in brute.items() if v > 0})


def numbers(m: Mismatch):
    return [m.kl, m.reverse_kl, m.jsd, m.coverage, m.one_plus_chi2]


@pytest.mark.parametrize(("fine", "coarse"), [(1, 1), (1, 2), (1, 8), (2, 4), (2, 8), (4, 8), (8, 8)])
def test_classes_have_the_divergences_of_the_patterns(fine, coarse):
    for a, b, j in itertools.product(hidden_laws(fine), hidden_laws(coarse), range(8)):
        laws = BlockPatterns(8, fine, a), BlockPatterns(8, coarse, b)
        for infer, train in (laws, laws[::-1]):
            listed = mismatch(*aligned(infer.table(j), train.table(j)))
            assert numbers(mismatch(*nested(infer, train, j))) == pytest.approx(numbers(listed), abs=1e-12)


@pytest.mark.parametrize(("size", "bits"), [(4, 2.79), (8, 6.08), (32, 24.3)])
def test_ar_contexts_against_random_masks(size, bits):
    ar, random = BlockPatterns(size, 1), BlockPatterns(size, size)
    for j in range(size):
        one = mismatch(*nested(ar, random, j))
        assert one.kl == pytest.approx(math.log2(size * math.comb(size - 1, j)), abs=1e-11)
        assert one.one_plus_chi2 == pytest.approx(size * math.comb(size - 1, j))
        assert (one.reverse_kl, one.coverage) == (math.inf, pytest.approx(1))
        back = mismatch(*nested(random, ar, j))
        assert (back.kl, back.one_plus_chi2) == (math.inf, math.inf)
        assert back.coverage == pytest.approx(1 / (size * math.comb(size - 1, j)))
    mean = block_mismatch(ar, random)
    assert mean.kl == pytest.approx(bits, abs=0.01)
    assert mean.one_plus_chi2 == pytest.approx(2.0 ** (size - 1))  # the binomial coefficients of a row sum to this


def test_equal_laws_do_not_differ_and_large_windows_are_cheap():
    for size in (1, 4, 1000):
        same = block_mismatch(BlockPatterns(1000, size), BlockPatterns(1000, size))
        assert numbers(same) == pytest.approx([0, 0, 0, 1, 1], abs=1e-9)
    far = block_mismatch(BlockPatterns(1000, 1), BlockPatterns(1000, 1000))
    exact = sum(math.log2(1000 * math.comb(999, j)) for j in range(1000)) / 1000
    assert far.kl == pytest.approx(exact)
    assert 0.999 < far.jsd < 1


def test_divergences_of_samplers_given_by_hand():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])
    assert kl_bits(p, q) == pytest.approx(1)
    assert kl_bits(q, p) == math.inf
    m = np.array([0.375, 0.375, 0.25])
    assert jsd_bits(p, q) == jsd_bits(q, p) == pytest.approx((kl_bits(p, m) + kl_bits(q, m)) / 2)
    assert (coverage(p, q), coverage(q, p)) == (1, 0.5)
    assert (one_plus_chi2(p, q), one_plus_chi2(q, p)) == (2, math.inf)
    assert jsd_bits(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1)


def test_tables_of_counts_are_normalised_over_the_contexts_of_either():
    infer, train = Counter({"ab": 3, "a": 1}), {"ab": 10, "c": 30}
    p, q = aligned(infer, train)  # "ab", "a", "c"
    assert (p.tolist(), q.tolist()) == ([0.75, 0.25, 0], [0.25, 0, 0.75])
    assert infer == {"ab": 3, "a": 1}
    with pytest.raises(ValueError, match="in train"):
        aligned(infer, {})


@pytest.mark.parametrize(("size", "bits"), [(4, 3.64), (8, 6.88), (32, 25.0)])
def test_mask_pattern_entropy(size, bits):
    assert mask_pattern_entropy(Linear(), size) == pytest.approx(bits, abs=0.05 if size == 32 else 0.005)
    choose = [math.comb(size, n) for n in range(size + 1)]
    formula = (math.log(size + 1) + sum(map(math.log, choose)) / (size + 1)) / math.log(2)
    assert mask_pattern_entropy(Linear(), size) == pytest.approx(formula)
    assert pattern_entropy_bits(np.array(choose) / 2.0**size) == pytest.approx(size)  # a fair coin for each token
    assert pattern_entropy_bits(np.eye(size + 1)[size]) == pytest.approx(0, abs=1e-12)


def drawn(size, n, length, seed, tokens_NL=None):
    """(n, length) contexts of decoding in blocks of `size`, one uniformly chosen target each."""
    rng = generator(seed, "test/contexts", size)
    rows_NL = rng.integers(0, MASK, (n, length)) if tokens_NL is None else tokens_NL.copy()
    for row, j in zip(rows_NL, rng.integers(0, length, n), strict=True):
        start = j // size * size
        others = rng.permutation([i for i in range(start, start + size) if i != j])
        row[[j, *others[: rng.integers(0, size)].astype(int), *range(start + size, length)]] = MASK
    return rows_NL


def test_drawn_contexts_cover_what_the_closed_form_says():
    """The share of random-mask contexts that AR shows at all, by count tables and in closed form."""
    n, size = 20_000, 4
    ar, random = (Counter(map(tuple, (drawn(s, n, size, 1) == MASK).tolist())) for s in (1, size))
    closed = block_mismatch(BlockPatterns(size, size), BlockPatterns(size, 1))
    # a mask alone does not tell which hidden token is asked, so AR shows more of it: prefixes, whatever the target
    prefix = sum(1 / (size * math.comb(size, k)) for k in range(size))
    assert closed.coverage < prefix
    hits = round(coverage(*aligned(random, ar)) * n)
    assert stats.binomtest(hits, n, prefix).pvalue > 1e-4


def test_two_sample_test_is_exact_under_one_law():
    """Even where both samples are cut from the same text: p-values are those of a fair coin."""
    seeds, rows = range(60), 60
    text = generator(0, "text").integers(0, MASK, (rows, 6))
    results = [
        two_sample_test(drawn(2, rows, 6, 2 * s, text), drawn(2, rows, 6, 2 * s + 1, text), MASK, s) for s in seeds
    ]
    hits = sum(round(r.accuracy * r.rows) for r in results)
    assert stats.binomtest(hits, sum(r.rows for r in results)).pvalue > 1e-3
    assert min(r.p for r in results) * len(results) > 1e-3
    rejected = sum(r.p <= 0.05 for r in results)
    assert stats.binomtest(rejected, len(results), 0.05, alternative="greater").pvalue > 1e-3
    assert {(r.rows, r.ridge) for r in results} == {(30, 0.01)}


def test_two_sample_test_tells_laws_apart():
    for s in range(5):
        result = two_sample_test(drawn(1, 400, 8, s), drawn(8, 400, 8, s), MASK, s)
        assert result.p < 1e-6
        assert result == two_sample_test(drawn(1, 400, 8, s), drawn(8, 400, 8, s), MASK, s)
        assert result.p == pytest.approx(stats.binom.sf(round(result.accuracy * 200) - 1, 200, 0.5))
    text = generator(1, "text").integers(0, MASK, (400, 8))
    shifted = np.where(generator(1, "shift").random((400, 8)) < 0.6, 0, text)  # the same masks, other tokens
    assert two_sample_test(drawn(4, 400, 8, 1, text), drawn(4, 400, 8, 1, shifted), MASK, 0).p < 1e-6


def test_bad_requests_are_named():
    with pytest.raises(ValueError, match=r"size=5\).*divisor of the window, which is 8"):
        BlockPatterns(8, 5)
    with pytest.raises(ValueError, match="4 probabilities"):
        BlockPatterns(8, 4, (0.5, 0.5))
    with pytest.raises(ValueError, match="at most 16; try `nested`"):
        BlockPatterns(32, 4).table(0)
    with pytest.raises(ValueError, match=r"got sizes 2, 3.*aligned\(infer.table"):
        nested(BlockPatterns(6, 2), BlockPatterns(6, 3), 0)
    with pytest.raises(ValueError, match=r"got \(4, 3\) and \(5, 3\)"):
        two_sample_test(np.zeros((4, 3), int), np.zeros((5, 3), int), MASK, 0)

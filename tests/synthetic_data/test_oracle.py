"""The engine on hand-made chains with weights, against the sum over every sequence.

Shapes: N all sequences, L positions, V vocabulary, S states, R rows, K positions of a clique.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from ablate.core.rng import uniform
from synthetic_data.engine import chain, clique
from synthetic_data.engine import oracle as oracle_module
from synthetic_data.engine.clique import Clique, views
from synthetic_data.engine.oracle import ChainOracle
from synthetic_data.engine.semiring import BOOLEAN, MAX_PRODUCT, SUM_PRODUCT, Groups
from tests.synthetic_data.enumerate_chains import (
    CASES,
    EVERY,
    KINDS,
    LENGTH,
    MASK,
    SYMBOLS,
    VOCABULARY,
    agreeing,
    hand_made,
    oracle_of,
    some_contexts,
    weights,
)
from tests.synthetic_data.enumeration import masked, noisy_posterior


def test_hand_made_rows_take_both_ways():
    """Rows are summed by pairs of states and cells where that pays, and are left alone where it does not."""
    found = {kind: [t.clique().rows for tables in hand_made(kind, 0) for t in tables] for kind in KINDS}
    assert not any(rows.pairs.identity for rows in found["many"])
    assert all(cells.groups for rows in found["many"] for cells in rows.cells)
    assert any(rows.pairs.identity and rows.tokens_RK.shape[1] == 3 for rows in found["few"])
    assert any(rows.cells[0].groups is None and rows.cells[-1].groups for rows in found["told"])


@pytest.mark.parametrize(("kind", "seed"), CASES)
def test_posterior_equals_the_sum_over_every_sequence(kind, seed):
    chains = hand_made(kind, seed)
    weight_N = weights(chains)
    tokens = some_contexts(weight_N, 120)
    exact = oracle_of(chains).posterior(tokens)
    for b, row in enumerate(tokens.numpy()):
        agree_N = agreeing(row)
        for place in range(LENGTH):
            mass_V = np.bincount(EVERY[agree_N, place], weight_N[agree_N], minlength=len(VOCABULARY))
            assert np.abs(exact.p_BLV[b, place].numpy() - mass_V / mass_V.sum()).max() <= 1e-12
            assert np.array_equal(exact.support_BLV[b, place].numpy(), mass_V > 0)
        evidence = weight_N[agree_N].sum() / weight_N.sum()
        assert abs(float(exact.log_evidence_B[b]) - np.log(evidence)) <= 1e-10
    assert (exact.p_BLV.sum(-1) - 1).abs().max() <= 1e-12
    visible = tokens != MASK
    assert torch.equal(exact.p_BLV[visible], torch.nn.functional.one_hot(tokens[visible], 4).double())


@pytest.mark.parametrize("q", [0.1, 0.7])
@pytest.mark.parametrize("kind", KINDS)
def test_noisy_posterior_equals_the_sum_over_every_sequence(kind, q):
    chains = hand_made(kind, 0)
    weight_N = weights(chains)
    possible = weight_N > 0
    tokens = masked(torch.from_numpy(SYMBOLS)[(uniform(0, "any", range(25), (LENGTH,)) * 3).long()], MASK)
    p_N = torch.from_numpy(weight_N[possible] / weight_N.sum())
    p_BLV, log_evidence_B = noisy_posterior(torch.from_numpy(EVERY[possible]), p_N, tokens, q, VOCABULARY)
    for oracle in (oracle_of(chains, q), oracle_of(chains).noisy(q)):
        exact = oracle.posterior(tokens)
        assert (exact.p_BLV - p_BLV).abs().max() <= 1e-12
        assert (exact.log_evidence_B - log_evidence_B).abs().max() <= 1e-10
        assert torch.equal(exact.support_BLV, p_BLV > 0)


PARTS = [[4, 0, 7, 2, 5, 1], [8, 3, 6], [4, 8, 7, 3]]  # each chain, and some of both


def fits(drawn, weight_N):
    """p-value of drawn sequences against weights of all of them: chi-square of parts, where the rare are pooled."""
    pvalues = []
    for part in PARTS:
        numbers = [np.searchsorted(SYMBOLS, x[:, part]) @ 3 ** np.arange(len(part)) for x in (drawn.numpy(), EVERY)]
        counts, mass = np.bincount(numbers[0], minlength=3 ** len(part)), np.bincount(numbers[1], weight_N)
        assert not counts[mass == 0].any()
        expected = mass / mass.sum() * len(drawn)
        rare = expected < 10
        if not rare.all():
            pooled = [np.append(x[~rare], x[rare].sum()) for x in (counts, expected)]
            pooled = [x[pooled[1] > 0] for x in pooled]
            pvalues.append(stats.chisquare(*pooled).pvalue if len(pooled[0]) > 1 else 1.0)
    return min(pvalues) * len(pvalues)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), CASES)
def test_draws_follow_the_law(kind, seed):
    chains = hand_made(kind, seed)
    oracle, weight_N, n = oracle_of(chains), weights(chains), 30_000
    assert oracle.draws == 5
    assert fits(oracle.draw(uniform(seed, "draw", range(n), (5,)).numpy()), weight_N) > 1e-4
    nothing = torch.full((n, LENGTH), MASK)
    assert fits(oracle.sample(nothing, np.random.default_rng(seed)), weight_N) > 1e-4


def test_draws_at_the_ends_of_the_unit_interval_are_possible():
    for kind, seed in CASES:
        chains = hand_made(kind, seed)
        for u in itertools.product((0.0, 1 - 2.0**-53), repeat=5):
            assert weights(chains, oracle_of(chains).draw(np.array([u])).numpy())[0] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_completions_follow_the_law_given_what_is_visible(kind):
    chains = hand_made(kind, 1)
    weight_N, oracle = weights(chains), oracle_of(chains)
    for i, row in enumerate(some_contexts(weight_N, 12, "sample").numpy()):
        drawn = oracle.sample(torch.from_numpy(row).repeat(4000, 1), np.random.default_rng(i))
        assert fits(drawn, weight_N * agreeing(row)) > 1e-5


@pytest.mark.parametrize(("kind", "seed"), CASES)
def test_most_probable_completion_is_the_best_of_all(kind, seed):
    """Where tokens do not tell the path, the best is that of a single path."""
    chains = hand_made(kind, seed)
    weight_N = weights(chains, ring=np.maximum)
    tokens = some_contexts(weight_N, 60, "best")
    found = oracle_of(chains).most_probable(tokens)
    assert torch.equal(found[tokens != MASK], tokens[tokens != MASK])
    best_B = np.array([weight_N[agreeing(row)].max() for row in tokens.numpy()])
    assert np.abs(weights(chains, found.numpy(), np.maximum) / best_B - 1).max() < 1e-12
    if kind == "single":
        total_N = weights(chains)
        best_B = np.array([total_N[agreeing(row)].max() for row in tokens.numpy()])
        assert np.abs(weights(chains, found.numpy()) / best_B - 1).max() < 1e-12


def copied(rows_shared):
    """Three copies of a chain at mixed places, and a fourth chain, with shared rows or with their own."""
    first, second = hand_made("many", 2)[1]
    places = [[(0, 5), (2,)], [(7, 1), (6,)], [(3, 8), (4,)]]
    one = [first.clique(), second.clique()]
    if rows_shared:
        return [[c.at(p) for c, p in zip(one, at, strict=True)] for at in places]
    return [[replace(t, positions=p).clique() for t, p in zip((first, second), at, strict=True)] for at in places]


def test_copies_at_other_places_equal_cliques_of_their_own():
    shared, own = (ChainOracle(copied(rows_shared), LENGTH, VOCABULARY) for rows_shared in (True, False))
    assert ([c.count for c in shared.copies], [c.count for c in own.copies]) == ([3], [1, 1, 1])
    tokens = masked(own.draw(uniform(0, "copies", range(300), (6,)).numpy()), MASK)
    assert torch.equal(
        shared.draw(uniform(0, "copies", range(300), (6,)).numpy()),
        own.draw(uniform(0, "copies", range(300), (6,)).numpy()),
    )
    a, b = shared.posterior(tokens), own.posterior(tokens)
    assert (a.p_BLV - b.p_BLV).abs().max() <= 1e-14
    assert torch.equal(a.support_BLV, b.support_BLV)
    assert (a.log_evidence_B - b.log_evidence_B).abs().max() <= 1e-12
    assert torch.equal(shared.most_probable(tokens), own.most_probable(tokens))
    for oracle in (shared, own):
        drawn = oracle.sample(tokens, np.random.default_rng(0))
        assert torch.equal(drawn[tokens != MASK], tokens[tokens != MASK])
        assert torch.isfinite(oracle.posterior(drawn).log_evidence_B).all()


@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_how_rows_are_batched(kind, monkeypatch):
    """Neither on the batch, nor on the engine's chunks and blocks, nor on the number of threads."""
    chains = hand_made(kind, 0)
    tokens = some_contexts(weights(chains), 150)
    oracle, threads = oracle_of(chains), torch.get_num_threads()
    whole = oracle.posterior(tokens)

    def require_same(parts):
        for name, value in vars(whole).items():
            pieces = torch.cat([getattr(part, name) for part in parts])
            assert (pieces.double() - value.double()).abs().max() <= 1e-14

    require_same([oracle.posterior(row[None]) for row in tokens])
    require_same([oracle.posterior(tokens[:67]), oracle.posterior(tokens[67:]), oracle.posterior(tokens[:0])])
    try:
        torch.set_num_threads(3)
        require_same([oracle.posterior(tokens)])
    finally:
        torch.set_num_threads(threads)
    for module, name, value in (
        (oracle_module, "CHUNK", 7),
        (oracle_module, "VIEWS", 9999),
        (chain, "CACHED", 1),
        (clique, "CACHED", 500),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            require_same([oracle_of(chains).posterior(tokens)])


def test_what_is_very_unlikely_is_possible():
    """Support is decided without a threshold: a row that weighs 1e-300 counts, one that weighs nothing does not."""
    tokens_RK, target_R = np.array([[0], [1], [3]]), np.array([0, 1, 2])
    first = Clique((0,), tokens_RK, target_R=target_R, weight_R=np.array([1.0, 1e-300, 0.0]))
    second = Clique((1,), np.array([[0], [1], [3], [3]]), np.array([0, 1, 2, 0]))
    oracle = ChainOracle([[first, second]], 2, VOCABULARY)
    exact = oracle.posterior(torch.tensor([[MASK, MASK], [MASK, 1], [0, MASK]]))
    assert exact.support_BLV[0].tolist() == [[True, True, False, False], [True, True, False, True]]
    assert exact.support_BLV[1, 0].tolist() == [False, True, False, False]
    assert exact.support_BLV[2, 1].tolist() == [True, False, False, True]
    assert float(exact.p_BLV[0, 0, 1]) == pytest.approx(0.5e-300, rel=1e-12)
    assert float(exact.log_evidence_B[1]) == pytest.approx(np.log(0.5) - 300 * np.log(10), rel=1e-12)
    with pytest.raises(ValueError, match="row 0 has probability 0: 'c' at position 0"):
        oracle.posterior(torch.tensor([[3, MASK]]))
    with pytest.raises(ValueError, match="row 0 has probability 0: 'a' at position 1"):
        oracle.posterior(torch.tensor([[1, 0]]))


def test_each_position_belongs_to_one_clique():
    one = Clique((0, 1), np.array([[0, 1]]))
    for positions in ((1, 2), (3, 4)):
        with pytest.raises(AssertionError, match="exactly one clique"):
            ChainOracle([[one], [one.at(positions)]], 4, VOCABULARY)


@pytest.mark.parametrize(("width", "symbols", "n"), [(1, 3, 50), (2, 4, 500), (4, 9, 60), (30, 40, 200), (3, 2**31, 9)])
def test_views_are_the_distinct_rows(width, symbols, n):
    """With a code that is an index, one that is sorted, and one that outgrows 64 bits."""
    tokens_NK = np.random.default_rng(0).integers(symbols, size=(n, width))
    tokens_NK[n // 2 :] = tokens_NK[: n - n // 2]
    tokens_UK, view_N = views(tokens_NK)
    assert np.array_equal(tokens_UK[view_N], tokens_NK)
    assert len(tokens_UK) == len({tuple(row) for row in tokens_NK.tolist()})


def test_views_whose_codes_would_overflow_are_told_apart():
    """Read as digits to the base 2**31, the first two would be equal modulo 2**64."""
    tokens_NK = np.array([[0, 5, 7], [4, 5, 7], [0, 2**31 - 1, 2**31 - 1]])
    tokens_UK, view_N = views(tokens_NK)
    assert len(tokens_UK) == 3
    assert np.array_equal(tokens_UK[view_N], tokens_NK)


@pytest.mark.parametrize("labels", [[0, 2, 2, 1, 0, 4], [0, 1, 2, 3, 4, 5], [3, 3, 3, 3, 3, 3]])
def test_groups_combine_rows_of_a_label(labels):
    """By sum, by largest and by any; a label without rows has nothing."""
    values_RN, labels_R = np.random.default_rng(0).random((6, 4)), np.array(labels)
    groups = Groups(labels_R, 6)
    for ring, combine in ((SUM_PRODUCT, np.sum), (MAX_PRODUCT, np.max)):
        reduced = groups.reduce(values_RN, ring)
        for label in range(6):
            mine = values_RN[labels_R == label]
            expected = combine(mine, axis=0) if len(mine) else np.zeros(4)
            assert np.abs(reduced[label] - expected).max() <= 1e-15
    shown_RN = (values_RN > 0.5).astype(np.float32)
    any_SN = np.stack([(shown_RN[labels_R == label] > 0).any(0) for label in range(6)])
    assert np.array_equal(BOOLEAN.normalise(groups.reduce(shown_RN, BOOLEAN))[0] > 0, any_SN)

"""Finite training lists: what training shows, the oracle of the list, and what a list must not change."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ablate.core.corpus import Domain, Split, Vocabulary
from ablate.core.rng import uniform
from synthetic_data.engine.finite_list import listed_oracle
from synthetic_data.worlds.facts import Facts
from tests.synthetic_data.enumerate_facts import ids_and_probabilities, masked, require_drawn_from, require_equal

SHRUNKEN = {"people": 4, "attributes": 2, "values": 3}


@pytest.mark.parametrize("domain", Domain)
def test_a_finite_list_is_all_that_training_shows(domain):
    """60 records drawn from 16: some occur twice or more, and count as often."""
    corpus = Facts(**SHRUNKEN, domain=domain, unique=60)
    listed = torch.from_numpy(corpus.listed_NL)
    ids, times = listed.unique(dim=0, return_counts=True)
    assert len(ids) < len(listed)
    p = times.double() / 60
    require_drawn_from(corpus.batch(range(4000), seed=5), ids, p)
    rows = ids[(uniform(0, "rows", range(300)) * len(ids)).long()]
    require_equal(corpus, corpus.empirical, ids, p, masked(corpus, rows, 300))
    few = Facts(domain=domain, unique=20)
    require_drawn_from(few.batch(range(2000), seed=5), torch.from_numpy(few.listed_NL), torch.full((20,), 1 / 20))


def test_the_list_is_drawn_from_the_law_and_belongs_to_the_world():
    corpus = Facts(**SHRUNKEN, unique=4000)
    ids, p = ids_and_probabilities(corpus)
    require_drawn_from(torch.from_numpy(corpus.listed_NL), ids, p)
    assert np.array_equal(Facts(**SHRUNKEN, unique=25).listed_NL, corpus.listed_NL[:25])
    elsewhere = Facts(**SHRUNKEN, unique=25, world=1)  # its first wordings differ too, so the draw does
    assert not np.array_equal(elsewhere.listed_NL[:, 4:7], corpus.listed_NL[:25, 4:7])
    assert len({str(corpus.batch(range(9), s).tolist()) for s in range(5)}) == 5


def test_a_list_changes_neither_the_law_nor_what_is_held_out():
    fresh, finite = Facts(**SHRUNKEN), Facts(**SHRUNKEN, unique=3)
    ids, p = ids_and_probabilities(fresh)
    require_equal(finite, finite.oracle, ids, p, masked(finite, ids, len(ids)))
    assert torch.equal(fresh.queries(8, 0).tokens_BL, finite.queries(8, 0).tokens_BL)
    assert fresh.empirical is None
    unlisted = next(row for row in ids if row.tolist() not in finite.listed_NL.tolist())
    listed = torch.from_numpy(finite.listed_NL)
    with pytest.raises(ValueError, match="row 3 has probability 0"):
        finite.empirical.posterior(torch.cat((listed, unlisted[None])))
    for split in set(Facts.splits) - {Split.train}:
        held_out = replace(finite, split=split)
        assert held_out.empirical is None
        assert torch.equal(held_out.batch(range(20), 0), replace(fresh, split=split).batch(range(20), 0))


def test_a_record_listed_twice_counts_twice():
    oracle = listed_oracle(np.array([[0, 1], [0, 0], [0, 1]]), Vocabulary(("a", "b", "<mask>"), mask_id=2))
    exact = oracle.posterior(torch.tensor([[0, 2], [2, 0]]))
    assert torch.allclose(exact.p_BLV[0, 1], torch.tensor([1, 2, 0]).double() / 3, rtol=0, atol=1e-15)
    assert torch.allclose(exact.log_evidence_B.exp(), torch.tensor([3, 1]).double() / 3, rtol=0, atol=1e-15)
    with pytest.raises(ValueError, match="at least one record"):
        listed_oracle(np.empty((0, 2), dtype=np.int64), oracle.vocabulary)

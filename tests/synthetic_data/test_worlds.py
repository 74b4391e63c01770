"""Every world at full size: exact in any order, drawn from its own law, addressed; and `trace` against enumeration."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import synthetic_data
from ablate.core.corpus import Domain, Split
from ablate.core.rng import uniform
from synthetic_data import WORLDS, Trace
from tests.synthetic_data.enumeration import brute_posterior, every_sequence, masked, order_gap

TRACES = {
    "few": {"values": 3, "general_operators": 3, "new_operators": 4, "operations": 3, "longer": 4, "checksum": 3},
    "short": {"values": 2, "general_operators": 5, "new_operators": 2, "operations": 1, "longer": 3, "checksum": 2},
    "long": {"values": 4, "general_operators": 2, "new_operators": 3, "operations": 4, "longer": 5, "checksum": 5},
}
TRACE_LAWS = [(size, d, s) for size in TRACES for d in Domain for s in Trace.splits]
FULL = {
    **{name: world() for name, world in WORLDS.items()},
    "arithmetic, eight digits": synthetic_data.make("arithmetic", digits=8, records=1, affine=1, tables=1),
    "trace, dialect": synthetic_data.make("trace", dialect=4, dialect_share=0.3),
    "noisy trace": synthetic_data.noisy(synthetic_data.make("trace"), 0.1),
}
LAWS = [(n, d, s) for n, c in FULL.items() for d in Domain for s in c.splits if (n, s) != ("arithmetic", "longer")]


def law(name, domain, split):
    return replace(FULL[name], domain=domain, split=split)


@pytest.mark.parametrize(("size", "domain", "split"), TRACE_LAWS)
def test_trace_equals_enumeration(size, domain, split):
    corpus = Trace(**TRACES[size], domain=domain, split=split)
    sequences, mask_id, n = every_sequence(corpus), corpus.vocabulary.mask_id, 300
    tokens = masked(sequences[(uniform(0, "rows", range(n)) * len(sequences)).long()], mask_id)
    exact = corpus.oracle.posterior(tokens)
    for b in range(n):
        p, support, log_evidence = brute_posterior(sequences, tokens[b], mask_id, len(corpus.vocabulary))
        assert (exact.p_BLV[b] - p).abs().max() <= 1e-12
        assert torch.equal(exact.support_BLV[b], support)
        assert abs(float(exact.log_evidence_B[b]) - log_evidence) <= 1e-10


@pytest.mark.parametrize(("size", "domain", "split"), TRACE_LAWS)
def test_every_trace_is_drawn_as_often_as_the_others(size, domain, split):
    """By the world's own sampler and by the oracle's, which share no line."""
    corpus = Trace(**TRACES[size], domain=domain, split=split)
    number = {tuple(row): i for i, row in enumerate(every_sequence(corpus).tolist())}
    n, oracle = 20 * len(number), corpus.oracle
    for drawn in (corpus.batch(range(n), seed=5), oracle.draw(uniform(6, "draw", range(n), (oracle.draws,)).numpy())):
        counts = np.bincount([number[tuple(row)] for row in drawn.tolist()], minlength=len(number))
        assert stats.chisquare(counts).pvalue > 1e-5  # 48 of them


@pytest.mark.slow
@pytest.mark.parametrize(("name", "domain", "split"), LAWS)
def test_chain_rule_in_any_order(name, domain, split):
    """-sum log p_0(x_i | seen) is the same in every order of revealing, and is minus the log evidence of the whole."""
    assert order_gap(law(name, domain, split)) < 1e-9


@pytest.mark.parametrize(("name", "domain", "split"), LAWS)
def test_rows_are_addressed(name, domain, split):
    corpus = law(name, domain, split)
    rows = corpus.batch(range(10), seed=3)
    assert rows.dtype == torch.int64
    assert rows.shape == (10, corpus.length)
    assert not bool((rows == corpus.vocabulary.mask_id).any())
    assert torch.equal(corpus.batch([9, 2], seed=3), rows[[9, 2]])
    assert torch.equal(corpus.batch(np.array([2**40, 9]), seed=3)[1], rows[9])
    assert not torch.equal(corpus.batch(range(10), seed=4), rows)
    assert not torch.equal(corpus.queries(10, seed=3).tokens_BL, rows)
    assert torch.equal(corpus.queries(10, seed=3).tokens_BL[:4], corpus.queries(4, seed=3).tokens_BL)


@pytest.mark.parametrize("name", FULL)
def test_laws_have_their_own_fingerprints_and_one_vocabulary(name):
    laws = [law(*case) for case in LAWS if case[0] == name]
    prints = {corpus.fingerprint() for corpus in laws}
    assert len(prints) == len(laws)
    assert prints == {law(*case).fingerprint() for case in LAWS if case[0] == name}
    assert len({corpus.vocabulary for corpus in laws}) == 1
    assert laws[0].vocabulary.symbols[laws[0].vocabulary.mask_id] == "<mask>"


@pytest.mark.parametrize("name", ["trace", "arithmetic", "arithmetic, eight digits", "programs", "facts"])
@pytest.mark.parametrize("domain", Domain)
def test_splits_are_disjoint(name, domain):
    parts = {s: law(n, d, s) for n, d, s in LAWS if (n, d) == (name, domain) and s in ("train", "test", "longer")}
    for split, corpus in parts.items():
        rows = corpus.batch(range(10), seed=0)
        for other, theirs in parts.items():
            if other != split and theirs.length == corpus.length:
                for row in rows:
                    with pytest.raises(ValueError, match="row 0 has probability 0"):
                        theirs.oracle.posterior(row[None])


@pytest.mark.parametrize("name", ["trace", "programs", "arithmetic, eight digits"])
@pytest.mark.parametrize("domain", Domain)
def test_splits_make_up_the_whole(name, domain):
    """Each sequence of a split is as likely as the others, so 1 / p counts them; numbers of parts add up."""
    counts = {}
    for split in (s for n, d, s in LAWS if (n, d) == (name, domain) and (n, s) != ("trace", "longer")):
        corpus = law(name, domain, split)
        log_p = corpus.oracle.posterior(corpus.batch(range(50), seed=0)).log_evidence_B
        assert float(log_p.max() - log_p.min()) < 1e-9
        counts[split] = np.exp(-float(log_p[0]))
    assert sum(counts.values()) == pytest.approx(2 * counts[Split.whole], rel=1e-9)


def test_longer_programs_are_longer_and_nothing_of_theirs_is_held_out():
    for domain, operators in (("general", 4), ("new", 16)):
        corpus = Trace(domain=domain, split="longer")
        assert corpus.length == 35
        log_p = corpus.oracle.posterior(corpus.batch(range(5), seed=0)).log_evidence_B
        assert (log_p + np.log(10) + 16 * np.log(operators)).abs().max() < 1e-9


def uniform_pvalue(drawn_from, oracle, n=1000):
    """Kolmogorov-Smirnov of the randomised probability integral transform of one open position a row.

    Which position is asked depends on what is visible alone, so under the right oracle the transform is uniform.
    """
    tokens, mask_id = drawn_from.batch(range(n), seed=11), drawn_from.vocabulary.mask_id
    exact = oracle.posterior(masked(tokens, mask_id))
    open_BL = exact.support_BLV.sum(-1) > 1
    kept_B = open_BL.any(1)
    choice_BL = uniform(0, "position", range(n), (tokens.shape[1],)) * open_BL
    row, place = torch.arange(n)[kept_B], choice_BL.argmax(1)[kept_B]
    p_BV, true_B = exact.p_BLV[row, place], tokens[row, place][:, None]
    below_B = (p_BV.cumsum(1) - p_BV).gather(1, true_B)[:, 0]
    u_B = below_B + uniform(0, "within", range(n))[kept_B] * p_BV.gather(1, true_B)[:, 0]
    assert int(kept_B.sum()) > n / 5
    return float(stats.kstest(u_B.numpy(), "uniform").pvalue)


@pytest.mark.slow
def test_every_law_s_own_rows_are_calibrated():
    """What is drawn follows the oracle of the same law: Holm at level .001 rejects none of the family.

    It rejects some exactly if it rejects the smallest p-value, which it holds against the whole family.
    """
    assert min(uniform_pvalue(c, c.oracle) for c in (law(*case) for case in LAWS)) > 1e-3 / len(LAWS)


def test_calibration_finds_another_law():
    """Its power: held-out operands under the whole law's oracle, another world's rules, and a noise too small."""
    one = synthetic_data.make("arithmetic", domain="general", records=1, layout="bare")
    noisy = synthetic_data.noisy(synthetic_data.make("trace"), 0.1)
    wrong = [
        (replace(one, split="test"), replace(one, split="whole")),
        (replace(one, split="train"), synthetic_data.noisy(replace(one, split="test"), 0.1)),
        (noisy, replace(noisy, corpus=replace(noisy.corpus, world=1))),
        (noisy, replace(noisy, q=0.01)),
    ]
    for drawn_from, believed in wrong:
        assert uniform_pvalue(drawn_from, believed.oracle, n=4000) < 1e-3 / len(LAWS)


def test_trace_verifier_counts_steps_and_the_prompt_decides_them():
    for case in (c for c in LAWS if c[0] == "trace"):
        corpus = law(*case)
        query, steps = corpus.queries(40, seed=0), 16 if corpus.split == "longer" else 8
        prompt = query.prompt(corpus.vocabulary.mask_id)
        assert torch.equal(prompt == corpus.vocabulary.mask_id, query.answer_BL)
        assert torch.equal(query.answer_BL.sum(1), torch.full((40,), steps))
        exact = corpus.oracle.posterior(prompt)
        assert int(exact.support_BLV.sum(-1).max()) == 1
        decoded = exact.p_BLV.argmax(-1)
        assert torch.equal(query.verify(decoded), torch.ones(40).double())
        decoded[0, -1] = 2 + (decoded[0, -1] - 1) % 10
        decoded[1, -3:] = 0
        decoded[2, 1:4] = 0  # the prompt is not marked
        assert query.verify(decoded)[:4].tolist() == [pytest.approx(1 - k / steps) for k in (1, 3, 0, 0)]


@pytest.mark.parametrize("name", FULL)
def test_bad_tokens_are_named(name):
    corpus = FULL[name]
    rows, size = corpus.batch(range(3), seed=0), len(corpus.vocabulary)
    for call in (
        corpus.oracle.posterior,
        lambda t: corpus.oracle.sample(t, np.random.default_rng(0)),
        corpus.oracle.most_probable,
    ):
        for wrong in (-1, size, 999):
            bad = rows.clone()
            bad[1, 2] = wrong
            with pytest.raises(ValueError, match=rf"row 1, position 2: wanted .* in 0..{size - 1}, got {wrong}"):
                call(bad)
        with pytest.raises(ValueError, match=rf"shape \(B, {corpus.length}\), got \(3, {corpus.length - 1}\)"):
            call(rows[:, 1:])
        with pytest.raises(ValueError, match="shape"):
            call(rows[0])
        for dtype in (torch.float32, torch.bool):
            with pytest.raises(ValueError, match="wanted integer token ids"):
                call(rows.to(dtype))


def test_an_impossible_context_is_named_by_row_and_first_offending_position():
    """However many rows are before it, and whatever is wrong after it."""
    corpus = Trace()
    rows = corpus.batch(range(4100), seed=0)
    for position in (12, 15, 18):
        bad = rows.clone()
        bad[4099, position:] = 2 + (rows[4099, position:] - 2 + 1) % corpus.values
        with pytest.raises(ValueError, match=f"row 4099 has probability 0: .* at position {position} cannot follow"):
            corpus.oracle.posterior(bad)
        with pytest.raises(ValueError, match=f"row 0 has probability 0: .* at position {position} cannot follow"):
            corpus.oracle.sample(bad[4099:], np.random.default_rng(0))
    bad[7, 0] = 1
    with pytest.raises(ValueError, match=r"row 7 has probability 0: '\|' at position 0"):
        corpus.oracle.posterior(bad)


def test_bad_fields_are_named():
    for name, field, bad, wanted in (
        ("trace", "values", 99, r"2\.\.32"),
        ("trace", "longer", 8, r"9\.\.128"),
        ("trace", "operations", 0, r"1\.\.64"),
        ("trace", "checksum", 1, r"2\.\.64"),
        ("arithmetic", "digits", 9, r"1\.\.8"),
        ("arithmetic", "digits", 0, r"1\.\.8"),
        ("arithmetic", "names", 1, r"2\.\.26"),
        ("arithmetic", "chain", 9, r"1\.\.8"),
        ("arithmetic", "records", 65, r"1\.\.64"),
        ("arithmetic", "affine", 9, r"0\.\.8"),
    ):
        with pytest.raises(ValueError, match=rf"corpus.{field}: wanted {wanted} for {name}, got {bad}; try"):
            synthetic_data.make(name, **{field: bad})
    with pytest.raises(ValueError, match="wanted at least 2, got 1"):
        Trace(new_operators=1)
    with pytest.raises(ValueError, match="arithmetic, facts, noisy, permuted, programs, trace, got 'sudoku'"):
        synthetic_data.make("sudoku")
    with pytest.raises(ValueError, match=r"no parameter 'digit'; it has .*records, digits"):
        synthetic_data.make("arithmetic", digit=1)
    for name, corpus in FULL.items():
        missing = next(split for split in Split if split not in corpus.splits)
        with pytest.raises(ValueError, match=rf"has {', '.join(corpus.splits)}; got {missing}; try corpus.split=train"):
            law(name, "new", missing)

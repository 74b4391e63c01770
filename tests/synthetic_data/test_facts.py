"""The world `facts`: its oracle against enumeration, its sampler, its controls and its verifiers."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import synthetic_data
from ablate.core.corpus import Domain, Split
from ablate.core.rng import uniform
from synthetic_data.worlds.facts import Facts
from tests.synthetic_data.enumerate_facts import (
    SAID,
    choices,
    ids_and_probabilities,
    masked,
    names,
    require_drawn_from,
    require_equal,
    values,
)

SHRUNKEN = {"people": 4, "attributes": 2, "values": 3}
LAWS = [(d, s, r) for d in Domain for s in Facts.splits for r in (False, True)]


@pytest.mark.parametrize(("domain", "split", "turned"), LAWS)
def test_oracle_equals_enumeration(domain, split, turned):
    corpus = Facts(**SHRUNKEN, domain=domain, split=split, reversed=turned)
    ids, p = ids_and_probabilities(corpus)
    rows = ids[(uniform(0, "rows", range(300)) * len(ids)).long()]
    require_equal(corpus, corpus.oracle, ids, p, masked(corpus, rows, 300))


@pytest.mark.parametrize("split", Facts.splits)
@pytest.mark.parametrize("size", [(1, 1, 2), (2, 3, 2), (5, 1, 4)])
def test_oracle_equals_enumeration_at_other_sizes(size, split):
    people, attributes, number = size
    corpus = Facts(people=people, attributes=attributes, values=number, split=split, world=3)
    ids, p = ids_and_probabilities(corpus)
    rows = ids[(uniform(1, "rows", range(40)) * len(ids)).long()]
    require_equal(corpus, corpus.oracle, ids, p, masked(corpus, rows, 40))


@pytest.mark.parametrize("split", Facts.splits)
@pytest.mark.parametrize("turned", [False, True])
def test_with_choices_every_true_value_is_said_as_often(split, turned):
    corpus = Facts(people=3, attributes=2, values=4, choices=3, split=split, reversed=turned, world=2)
    ids, p = ids_and_probabilities(corpus)
    rows = ids[(uniform(1, "rows", range(60)) * len(ids)).long()]
    require_equal(corpus, corpus.oracle, ids, p, masked(corpus, rows, 60))
    require_drawn_from(corpus.batch(range(20_000), seed=5), ids, p)
    if split is not Split.unseen and not turned and split is not Split.reversed:
        query = corpus.queries(20, 0)
        exact = corpus.oracle.posterior(query.tokens_BL.masked_fill(query.answer_BL, corpus.vocabulary.mask_id))
        assert (exact.support_BLV[query.answer_BL].sum(-1) == 3).all(), "K = M"
        for said, right in ((0, 1.0), (1, 1.0), (2, 1.0), (3, 0.0)):
            assert query.verify(other(corpus, query, said)).tolist() == [right] * 20


def other(corpus, query, said):
    """The answers with the number `said` of the values that are true, or with one that is not."""
    decoded = query.tokens_BL.clone()
    people = {tuple(corpus.vocabulary.ids(name)): i for i, name in enumerate(names(corpus, 1))}
    for row in decoded:
        true = choices(corpus, people[tuple(row[1:4].tolist())])
        for place, numbers, attribute in zip(query.answer_BL[0].nonzero()[:, 0], true, ("town", "school"), strict=True):
            false = next(v for v in range(4) if v not in numbers)
            row[place] = corpus.vocabulary.ids([f"{attribute}{[*numbers, false][said]}"])[0]
    return decoded


def test_the_first_values_are_the_same_however_many_choices():
    one, three = (Facts(**SHRUNKEN, choices=m) for m in (1, 3))
    assert np.array_equal(one._values_PAM[..., 0], three._values_PAM[..., 0])
    assert all(len(set(values)) == 3 for values in three._values_PAM.reshape(-1, 3).tolist())
    assert one.fingerprint() != three.fingerprint()
    with pytest.raises(ValueError, match=r"corpus\.choices"):
        Facts(values=3, choices=4)
    with pytest.raises(ValueError, match=r"at most 20000 different rows .* try corpus\.choices=1"):
        Facts(people=500, attributes=4, choices=4)


@pytest.mark.parametrize(("domain", "split", "turned"), LAWS)
def test_sampler_and_oracle_draw_from_the_law(domain, split, turned):
    corpus = Facts(**SHRUNKEN, domain=domain, split=split, reversed=turned)
    ids, _ = ids_and_probabilities(corpus)
    p = corpus.oracle.posterior(ids).log_evidence_B.exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    require_drawn_from(corpus.batch(range(4000), seed=5), ids, p)
    oracle = corpus.oracle
    require_drawn_from(oracle.draw(uniform(6, "draw", range(4000), (oracle.draws,)).numpy()), ids, p)


@pytest.mark.parametrize("split", Facts.splits)
@pytest.mark.parametrize("turned", [False, True])
def test_chain_rule_in_any_order(split, turned):
    corpus = Facts(split=split, reversed=turned)
    row = corpus.batch([7], seed=1)
    whole = float(corpus.oracle.posterior(row).log_evidence_B[0])
    orders = [np.random.default_rng(k).permutation(corpus.length) for k in range(20)]
    contexts = row.repeat(20 * corpus.length, 1)
    for i, order in enumerate(orders):
        for j in range(corpus.length):
            contexts[i * corpus.length + j, torch.from_numpy(order[j:].copy())] = corpus.vocabulary.mask_id
    order = np.concatenate(orders)
    p = corpus.oracle.posterior(contexts).p_BLV[range(len(contexts)), order, row[0, order]]
    assert (p.log().reshape(20, -1).sum(1) - whole).abs().max() < 1e-9


def test_documented_form():
    """Either order says the same of the same people: only the places change."""
    pattern = r"<bos>(\w+na \w+l \w+ston )(was born in |comes from _ |grew up in )town(\d+)\. (.*)"
    for index in range(20):
        texts = [c.vocabulary.text(c.batch([index], 3)[0]) for c in (Facts(), Facts(reversed=True))]
        found = re.fullmatch(pattern, texts[0])
        assert found, texts[0]
        assert int(found[3]) < 20
        assert texts[1] == f"<bos>{found[2]}town{found[3]}. {found[4]}{found[1]}"


def people_and_wordings(corpus, n):
    """{(name, attribute number, wording number)} that n drawn records show, read from their text."""
    shown = set()
    for row in corpus.batch(range(n), seed=2):
        text = corpus.vocabulary.text(row)
        name = re.search(r"\w+na \w+l \w+ston ", text)[0].removeprefix("<bos>")
        for a, (attribute, phrases) in enumerate(SAID):
            for t, phrase in enumerate(phrases):
                if re.search(rf"{phrase} {attribute}\d", text):
                    shown.add((name, a, t))
    return shown


@pytest.mark.parametrize("turned", [False, True])
def test_held_out_wordings_are_never_shown_and_each_fact_is(turned):
    laws = {s: Facts(people=5, attributes=3, split=s, reversed=turned) for s in Facts.splits}
    shown = {s: people_and_wordings(law, 1500) for s, law in laws.items()}
    assert shown["train"].isdisjoint(shown["test"])
    assert shown["train"] | shown["test"] == shown["whole"]
    assert shown["reversed"] == shown["train"]
    assert len(shown["whole"]) == 3 * len(shown["test"]) == 5 * 3 * 3
    assert all(len({t for n, b, t in shown["train"] if (n, b) == (name, a)}) == 2 for name, a, _ in shown["whole"])
    with pytest.raises(ValueError, match="probability 0"):
        laws["train"].oracle.posterior(laws["test"].batch([0], seed=0))


def test_people_are_different_people():
    """Names are distinct; neither domain knows the other's people, and unseen people are in neither."""
    laws = [Facts(people=60, domain=d) for d in Domain] + [Facts(people=60, split="unseen")]
    groups = [{tuple(row[1:4].tolist()) for row in law.batch(range(1500), seed=0)} for law in laws]
    assert [len(group) for group in groups] == [60, 60, 60]
    assert len(set.union(*groups)) == 180
    many = [replace(law, people=20_000)._names_P3 for law in laws]
    assert len(np.unique(np.concatenate(many), axis=0)) == 60_000


def test_facts_belong_to_person_and_world():
    """Not to the run's seed, nor to the number of people; another domain or world has others."""
    corpus, more = Facts(people=6), Facts(people=9)
    told = {}
    for seed in range(40):
        for row in corpus.batch(range(5), seed):
            told.setdefault(tuple(row[1:4].tolist()), set()).add(tuple(row[[7, 12, 17, 22]].tolist()))
    assert [len(facts) for facts in told.values()] == [1] * 6
    assert [values(corpus, p) for p in range(6)] == [values(more, p) for p in range(6)]
    assert len({str(values(c, 0)) for c in (corpus, replace(corpus, domain="general"), replace(corpus, world=1))}) == 3


@pytest.mark.parametrize("turned", [False, True])
def test_of_unseen_people_the_truth_is_the_prior(turned):
    corpus = Facts(people=30, values=5, split="unseen", reversed=turned)
    query = corpus.queries(40, seed=0)
    prompt = torch.where(query.answer_BL, corpus.vocabulary.mask_id, query.tokens_BL)
    p = corpus.oracle.posterior(prompt).p_BLV
    if not turned:
        assert torch.equal(p[query.answer_BL].sort(-1).values[:, -5:], torch.full((160, 5), 0.2, dtype=torch.float64))
        shown = query.tokens_BL[:, [7, 12, 17, 22]]
        assert bool((p[:, [7, 12, 17, 22]].gather(-1, shown[..., None]) == 0.2).all())
    else:  # the wordings leave the people who are equal modulo 3, whatever is said of them
        told = prompt.clone()
        told[:, [4, 9, 14, 19]] = corpus.vocabulary.mask_id
        assert (corpus.oracle.posterior(told).p_BLV[:, -3:] - p[:, -3:]).abs().max() < 1e-12


def test_the_unseen_control_fails_for_whoever_answers():
    """Right answers come at the rate 1 / values, for a fixed answer and for the exact law's own alike."""
    corpus = Facts(people=30, values=5, split="unseen")
    query = corpus.queries(2000, seed=0)
    prompt = query.prompt(corpus.vocabulary.mask_id)
    fixed = prompt.clone()
    fixed[:, [7, 12, 17, 22]] = torch.tensor(corpus.vocabulary.ids(["town0", "school1", "subject2", "firm3"]))
    for decoded in (fixed, corpus.oracle.sample(prompt, np.random.default_rng(0))):
        right = round(float(query.verify(decoded).sum()) * 4)
        assert stats.binomtest(right, 8000, 0.2).pvalue > 1e-4


@pytest.mark.parametrize("split", ["train", "test", "whole", "reversed"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_prompt_determines_values_and_leaves_only_right_names(split, turned):
    """So a learner who knows the law scores 1."""
    corpus = Facts(people=200, attributes=3, values=4, split=split, reversed=turned)
    query = corpus.queries(60, seed=0)
    prompt = query.prompt(corpus.vocabulary.mask_id)
    decoded = corpus.oracle.sample(prompt, np.random.default_rng(1))
    assert torch.equal(query.verify(decoded), torch.ones(60).double())
    name_asked = turned != (split == "reversed")
    assert query.answer_BL.sum(1).unique().tolist() == [3]
    assert bool(query.answer_BL[:, -3:].all()) == name_asked
    assert bool((decoded != query.tokens_BL).any()) == name_asked  # 64 combinations among 200 people


@pytest.mark.parametrize("domain", Domain)
def test_a_name_is_right_for_twins_and_for_nobody_else(domain):
    corpus = Facts(people=40, attributes=2, values=3, domain=domain, reversed=True)
    group = list(Domain).index(domain)
    query = corpus.queries(30, seed=0)
    stated = [corpus.vocabulary.text(row).replace(" ", "") for row in query.tokens_BL]
    answers = query.tokens_BL.clone()
    twins = 0
    for person, name in enumerate(names(corpus, group)):
        answers[:, -3:] = torch.tensor(corpus.vocabulary.ids(name))
        town, school = values(corpus, person)
        right = [float(f"town{town}." in text and f"school{school}." in text) for text in stated]
        assert query.verify(answers).tolist() == right
        twins += sum(right)
    assert twins > 30
    for stranger in (names(corpus, 1 - group)[0], names(corpus, 2)[0], ["_ ", ". ", "town0"]):
        answers[:, -3:] = torch.tensor(corpus.vocabulary.ids(stranger))
        assert not query.verify(answers).any()


def test_of_unseen_people_only_the_record_s_own_name_is_right():
    corpus = Facts(people=3, attributes=1, values=2, split="unseen", reversed=True)
    query = corpus.queries(20, seed=0)
    answers = query.tokens_BL.clone()
    answers[:, -3:] = query.tokens_BL[0, -3:]
    same = (query.tokens_BL[:, -3:] == query.tokens_BL[0, -3:]).all(1).double()
    assert torch.equal(query.verify(answers), same)
    assert 0 < same.sum() < 20


def test_verifier_counts_attributes():
    query = Facts().queries(6, seed=0)
    assert torch.equal(query.verify(query.tokens_BL), torch.ones(6).double())
    for wrong, place in enumerate([22, 7, 17], start=1):
        answers = query.tokens_BL.clone()
        for p in [22, 7, 17][:wrong]:
            answers[0, p] -= 1
        answers[1, place - 1] = 0  # part of the prompt, not of the answer
        assert query.verify(answers).tolist() == [1 - wrong / 4, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("unique", [0, 50])
def test_rows_are_addressed(unique):
    corpus = Facts(unique=unique)
    assert torch.equal(corpus.batch([9, 2], seed=3), corpus.batch(range(10), seed=3)[[9, 2]])
    assert not torch.equal(corpus.batch(range(9), seed=3), corpus.batch(range(9), seed=4))
    assert not torch.equal(corpus.batch(range(9), seed=3), corpus.queries(9, seed=3).tokens_BL)
    assert torch.equal(corpus.queries(9, seed=3).tokens_BL[:4], corpus.queries(4, seed=3).tokens_BL)


def test_the_largest_size_is_inferred():
    corpus = Facts(people=20_000, attributes=6, values=200, unique=20_000)
    rows = corpus.batch(range(4), seed=0)
    for oracle in (corpus.oracle, corpus.empirical):
        assert torch.isfinite(oracle.posterior(rows).log_evidence_B).all()


def test_bad_input_is_named():
    with pytest.raises(
        ValueError, match=r"at most 20000 different rows .*got up to 20001 \(20 MB\); try corpus.people=20000"
    ):
        Facts(people=20_001)
    with pytest.raises(ValueError, match=r"got up to 30000 \(30 MB\); try corpus.unique=20000"):
        Facts(unique=30_000)
    for field, bad in (("people", 0), ("attributes", 7), ("values", 1), ("values", 201), ("unique", -1)):
        with pytest.raises(ValueError, match=rf"corpus.{field}: wanted .* for facts, got {bad}; try corpus.{field}="):
            Facts(**{field: bad})
    with pytest.raises(ValueError, match=r"facts has train, test, reversed, unseen, whole; got longer"):
        Facts(split="longer")
    corpus = synthetic_data.make("facts", **SHRUNKEN)
    row = corpus.batch([0], seed=0)
    for oracle in (corpus.oracle, replace(corpus, unique=2).empirical):
        with pytest.raises(ValueError, match=r"shape \(B, 14\), got \(1, 13\)"):
            oracle.posterior(row[:, 1:])
    town = int(corpus.vocabulary.symbols[row[0, 7]].removeprefix("town"))
    row[0, 7] = corpus.vocabulary.ids([f"town{(town + 1) % 3}"])[0]
    with pytest.raises(ValueError, match=r"row 0 has probability 0: 'town\d' at position 7"):
        corpus.oracle.posterior(row)

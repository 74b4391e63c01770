"""Canonical contexts, visit counts and predicted costs; the survey that puts them together."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch

import synthetic_data
from ablate.analysis import corpus_survey
from ablate.analysis.context_visits import (
    Questions,
    Visits,
    answers,
    canonical_keys,
    essential,
    learning_cost,
    questions,
    raw_keys,
)
from ablate.analysis.tabular_learner import Tabular
from ablate.core import records
from ablate.evaluation.contexts import Blocks, Contexts, RandomMasks


def asked_of(corpus, law, count, answers_only=False, seed=0):
    tokens = corpus.batch(range(300), seed)
    scored = torch.ones_like(tokens, dtype=torch.bool)
    scored[:, 0] = False
    contexts = law.draw(tokens, scored, corpus.vocabulary.mask_id, seed)
    if answers_only:
        contexts = contexts.among(corpus.queries(1, 0).answer_BL)
    return questions(contexts, count, seed)


def canonical(corpus, asked):
    kept, truth = essential(corpus.oracle, asked, corpus.vocabulary.mask_id)
    return kept, canonical_keys(kept, truth, corpus.vocabulary.mask_id, corpus.vocabulary.names), truth


@pytest.mark.parametrize("name", ["trace", "arithmetic", "programs"])
def test_what_is_left_suffices_and_nothing_of_it_can_go(name):
    corpus = synthetic_data.make(name)
    asked = asked_of(corpus, RandomMasks(), 40)
    kept, truth = essential(corpus.oracle, asked, corpus.vocabulary.mask_id)
    again = answers(corpus.oracle, kept)
    assert (again.p_QV - truth.p_QV).abs().max() <= 1e-11
    assert torch.equal(again.support_QV, truth.support_QV)
    visible = (kept.inputs_QL != corpus.vocabulary.mask_id).nonzero()
    trials = kept.inputs_QL[visible[:, 0]].clone()
    trials[torch.arange(len(visible)), visible[:, 1]] = corpus.vocabulary.mask_id
    found = answers(corpus.oracle, Questions(trials, kept.position_Q[visible[:, 0]]))
    assert ((found.p_QV - truth.p_QV[visible[:, 0]]).abs().amax(1) > 1e-12).all()


def test_a_step_of_a_trace_depends_on_its_operator_and_the_value_before():
    corpus = synthetic_data.make("trace", split="whole")
    asked = asked_of(corpus, Blocks(1), 200, answers_only=True)
    kept, keys, truth = canonical(corpus, asked)
    n = corpus.operations
    for row, place in zip(kept.inputs_QL, asked.position_Q.tolist(), strict=True):
        step = place - (n + 3)
        before = place - 1 if step else n + 1  # the first step starts from the value before the bar
        assert (row != corpus.vocabulary.mask_id).nonzero()[:, 0].tolist() == sorted({1 + step, before})
    assert (truth.support_QV.sum(1) == 1).all()
    later = [key for key, place in zip(keys, asked.position_Q.tolist(), strict=True) if place > n + 3]
    shown = zip(kept.inputs_QL, asked.position_Q.tolist(), strict=True)
    rules = {(int(row[place - n - 2]), int(row[place - 1])) for row, place in shown if place > n + 3}
    assert len(set(later)) == len(rules)  # wherever the step stands


def test_names_are_renamed_and_places_count_from_the_asked_token():
    corpus = synthetic_data.make("arithmetic", records=2, domain="general")
    v = corpus.vocabulary
    rows = torch.tensor([v.ids("a=1,b=2,a+b=3;c=4,d=5,c+d=9;"), v.ids("c=4,d=5,c+d=9;e=1,f=2,e+f=3;")])
    hidden = rows.clone()
    hidden[0, 12], hidden[1, 26] = v.mask_id, v.mask_id  # the result of 1 + 2, in either record
    _, keys, _ = canonical(corpus, Questions(hidden, torch.tensor([12, 26])))
    assert keys[0] == keys[1]
    assert len(set(raw_keys(Questions(hidden, torch.tensor([12, 26]))))) == 2
    name = rows.clone()
    name[0, 8], name[1, 8] = v.mask_id, v.mask_id  # the name in the equation: renamed, the same question
    _, keys, _ = canonical(corpus, Questions(name, torch.tensor([8, 8])))
    assert keys[0] == keys[1]
    other = rows.clone()
    other[0, 12], other[1, 12] = v.mask_id, v.mask_id  # 1 + 2 and 4 + 5 are different questions
    _, keys, _ = canonical(corpus, Questions(other, torch.tensor([12, 12])))
    assert keys[0] != keys[1]


def test_questions_come_in_proportion_to_their_weight():
    weight = torch.tensor([[0.0, 1.0, 3.0], [0.0, 0.0, 4.0]], dtype=torch.float64)
    contexts = Contexts(torch.arange(6).reshape(2, 3), torch.arange(6).reshape(2, 3), weight, weight)
    drawn = questions(contexts, 800, seed=0)
    counts = Counter(zip(drawn.inputs_QL[:, 0].tolist(), drawn.position_Q.tolist(), strict=True))
    assert set(counts) == {(0, 1), (0, 2), (3, 2)}
    assert [counts[key] for key in ((0, 1), (0, 2), (3, 2))] == pytest.approx([100, 300, 400], abs=1)  # stratified


def visits(counts, p, vocabulary=4):
    rows = {key: np.array(p[key]) for key in counts}
    return Visits(Counter(counts), rows, {key: row > 0 for key, row in rows.items()})


def test_learning_cost_is_the_null_theory_of_the_sample():
    p = {"a": [0.5, 0.5, 0, 0], "b": [1.0, 0, 0, 0], "c": [0.25] * 4, "d": [0, 0.5, 0.5, 0]}
    train, infer = visits({"a": 300, "b": 500, "c": 200}, p), visits({"a": 1, "b": 1}, p)
    paid = learning_cost(train, infer, tokens=4)
    two = Tabular(np.ones((1, 2), dtype=bool)).excess(np.array([[0.5, 0.5]]), 300)[0]  # K = 2; K = 1 costs nothing
    assert paid.known.bits == pytest.approx(0.5 * two, rel=1e-4)
    whole = Tabular(np.ones((1, 4), dtype=bool))
    tables = [whole.excess(np.array([p[key]]), n)[0] for key, n in (("a", 300), ("b", 500))]
    assert paid.vocabulary == pytest.approx(np.mean(tables))
    open_to_all = visits({"c": 7}, p)
    both = learning_cost(open_to_all, open_to_all, tokens=4)
    assert both.known.bits == pytest.approx(both.vocabulary)  # where everything is possible, both are one table
    never = learning_cost(train, visits({"d": 1}, p), tokens=4)
    assert never.known.bits == pytest.approx(0)  # it knows that two tokens are possible, and they are equally likely
    assert never.vocabulary == pytest.approx(1)  # log2 4 - 1


@pytest.fixture(scope="module")
def measured():
    laws = {"AR": Blocks(1), "block 2": Blocks(2), "random masks": RandomMasks()}
    corpus = synthetic_data.make("arithmetic")
    return records.table(
        corpus_survey.measure(corpus_survey.Survey(corpus, rows=1500, questions=60, rates=[0.15, 0.8]), laws),
        records.SURVEY,
    )


def test_a_survey_says_what_is_known_of_the_world(measured):
    def value(law, metric, asked="", weight="", infer="", rate=None):
        at = measured[
            (
                measured[["context_sampler", "metric", "asked", "weight", "infer"]]
                == [law, metric, asked, weight, infer]
            ).all(axis=1)
        ]
        at = at[at["rate"].isna()] if rate is None else at[at["rate"] == rate]
        assert len(at) == 1, (law, metric, asked, weight, infer)
        return at["value"].item()

    for weight in ("loss", "token"):
        assert value("AR", "k0", "answers", weight) == 1  # results follow from what stands to the left
        assert value("AR", "certain", "answers", weight) == 1
        assert value("random masks", "k0", "answers", weight) > 2
        shares = [value("random masks", regime, "all", weight) for regime in ("reasoning", "correlation", "noise")]
        assert sum(shares) == pytest.approx(1)
    few, many = (value("fixed rate", "k1", "answers", "loss", rate=rate) for rate in (0.15, 0.8))
    assert few < many
    # chain rule: the entropy per token is the same in every unbiased law, up to sampling
    assert value("AR", "entropy_bits", "all", "loss") == pytest.approx(
        value("random masks", "entropy_bits", "all", "loss"), abs=0.1
    )
    assert value("block 2", "pattern_kl", infer="AR") == pytest.approx(1)  # log2 [2 C(1, j)]
    met = [value(law, "coverage", "answers", infer="AR") for law in ("AR", "random masks")]
    assert met[0] > met[1]  # 60 questions meet more of AR's contexts where they are AR's own
    assert value("AR", "cost_known", "answers", infer="AR") == 0  # K = 1: nothing to learn once C(c) is known
    assert value("AR", "cost_vocabulary", "answers", infer="AR") > 0
    assert {"canonical_contexts", "raw_contexts", "canonical_unseen"} <= set(measured["metric"])


def test_surveys_are_refused_where_they_cannot_be_made():
    corpus = synthetic_data.make("trace")
    for field, value, said in (
        ("rows", 1, "rows: wanted 4"),
        ("questions", 3, "questions: wanted 8"),
        ("rates", [0.0], r"rates: wanted mask rates in \(0, 1\]"),
    ):
        with pytest.raises(ValueError, match=said):
            dataclasses.replace(corpus_survey.Survey(corpus), **{field: value})

"""What the null theory expects of a run: held against tables that really learn."""

import dataclasses
from collections import Counter, defaultdict

import numpy as np
import pytest

from ablate.analysis.context_visits import Visits, canonical_keys, essential
from ablate.analysis.expected_cost import SHOWN, Showing, _asked, _mean_costs, _shares, expected
from ablate.core.corpus import Domain, Split
from ablate.evaluation.contexts import Blocks
from ablate.text.corpora import PythonSource
from synthetic_data import Facts, Trace

WORLD = Trace(values=3, general_operators=2, new_operators=2, operations=1, longer=2, checksum=2)
SAMPLE = 2000
BATCH = 4


def keyed(asked):
    kept, truth = essential(WORLD.oracle, asked, WORLD.vocabulary.mask_id)
    return canonical_keys(kept, truth, WORLD.vocabulary.mask_id, WORLD.vocabulary.names), truth


def learned(sampler, tokens, seed):
    """Mean excess bits of a table that has counted one token, drawn from the oracle, in each of so many contexts."""
    targets = defaultdict(Counter)
    keys, truth = keyed(_asked(WORLD, sampler, tokens, 1, seed))
    rng = np.random.default_rng(seed)
    for key, p_V in zip(keys, truth.p_QV.numpy(), strict=True):
        targets[key][int(rng.choice(len(p_V), p=p_V / p_V.sum()))] += 1
    infer, there = keyed(_asked(WORLD, Blocks(1), 500, 0, seed + 1000))
    vocabulary, paid = WORLD.vocabulary.mask_id, []
    for key, p_V in zip(infer, there.p_QV.numpy(), strict=True):
        counts = np.array([targets[key][v] for v in range(vocabulary)]) + 0.5
        p = p_V[:vocabulary]
        paid.append(sum(x * np.log2(x / q) for x, q in zip(p, counts / counts.sum(), strict=True) if x > 0))
    return float(np.mean(paid))


@pytest.mark.parametrize("name", ["ar", "bidllm"])
def test_it_is_what_tables_pay_that_count_what_training_shows(name):
    one, steps = SHOWN[name], 10
    found = expected(WORLD, [steps], BATCH, SAMPLE, 0)[name]
    nothing = expected(WORLD, [1e-9], BATCH, SAMPLE, 0)[name].cost  # before any step
    tokens = round(steps * BATCH * one.share * (WORLD.length - 1))
    trials = [learned(one.sampler, tokens, seed) for seed in range(12)]
    error = np.std(trials, ddof=1) / np.sqrt(len(trials))
    assert 2 * found.cost - nothing == pytest.approx(np.mean(trials), abs=4 * error + 0.02), "trapezoid of both ends"


def test_one_showing_has_one_cost_and_more_steps_cost_less():
    shown = {"a": SHOWN["ar"], "b": Showing(Blocks(1), 1.0), "half": Showing(Blocks(1), 0.5)}
    found = expected(WORLD, [5, 20], BATCH, SAMPLE, 0, shown)
    assert found["a"].cost == pytest.approx(found["b"].cost, rel=0.05)
    assert found["half"].cost > found["a"].cost
    longer = expected(WORLD, [10, 40], BATCH, SAMPLE, 0, shown)
    assert longer["half"].cost == pytest.approx(found["a"].cost, rel=0.05), "twice the steps of half the tokens"


def test_shares_add_up_to_what_a_sample_says():
    met = Counter({"a": 6, "b": 2, "c": 1, "d": 1})
    shares = _shares(["a", "b", "c", "new"], met)
    np.testing.assert_allclose(shares[:3], [0.6, 0.2, 0.1])
    others = 2 * 1 / (2 * (1 + 1))  # Chao's least number of contexts that were not met
    assert shares[3] == pytest.approx(0.2 / others)
    assert _shares(["new"], Counter({"a": 5}))[0] == 0


def test_visits_alone_are_the_cost_where_every_answer_is_certain():
    people = Facts(people=5, attributes=1, values=4)
    found = expected(people, [5, 20], BATCH, 200, 0)["ar"]
    assert found.visits != found.cost, "the first words are free"
    one = Visits(Counter({"k": 1}), {"k": np.array([0.0, 1.0, 0.0])}, {"k": np.array([False, True, False])})
    args = one, Counter({"k": 3}), [0, 4, 8], 2
    found = _mean_costs(*args)
    assert found["visits"] == found["cost"]
    assert found["known"] == 0, "who knows that one token is possible pays nothing"


def test_real_text_is_refused():
    with pytest.raises(ValueError, match="corpus=python_source: wanted a world"):
        expected(PythonSource(), [1], 1, 10, 0)


def test_what_is_asked_is_of_the_new_domain_whatever_the_corpus_says():
    general = dataclasses.replace(WORLD, domain=Domain.general, split=Split.test)
    assert expected(general, [5], BATCH, 300, 0) == expected(WORLD, [5], BATCH, 300, 0)

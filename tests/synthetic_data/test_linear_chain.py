"""The world `trace` against a hidden Markov model of a public library, hmmlearn.

The hidden state after a step is (residue of the operator numbers, operator, value); what is visible of the step is soft
evidence for it. The held-out rule is evidence for the last residue. Forward-backward is the library's (Rabiner, 1989).
"""

import itertools

import numpy as np
import pytest

from ablate.core.corpus import Domain
from ablate.core.rng import generator, uniform
from synthetic_data.worlds.trace import Trace

SIZE = {"values": 5, "general_operators": 3, "new_operators": 4, "operations": 5, "checksum": 3}


def evidence_model():
    """A subclass of hmmlearn's base whose observations are the likelihoods of the states themselves."""
    base = pytest.importorskip("hmmlearn.base", reason="hmmlearn is not installed: pip install hmmlearn")

    class Evidence(base.BaseHMM):
        def _compute_log_likelihood(self, likelihood_TS):
            with np.errstate(divide="ignore"):
                return np.log(likelihood_TS)

    return Evidence


def model(corpus, states):
    """Frame 0 holds the start value; its operator is none, written as the number of operators."""
    general, new = corpus.general_operators, corpus.new_operators
    first, operators = (general, new) if corpus.domain == "new" else (0, general)
    tables = [generator(corpus.world, "trace/table", first + i).permutation(corpus.values) for i in range(operators)]
    number = {state: i for i, state in enumerate(states)}
    hmm = evidence_model()(n_components=len(states))
    hmm.startprob_, hmm.transmat_ = np.zeros(len(states)), np.zeros((len(states), len(states)))
    for (residue, operator, value), i in number.items():
        if residue == 0 and operator == operators:
            hmm.startprob_[i] = 1 / corpus.values
        for o in range(operators):
            after = ((residue + o) % corpus.checksum, o, int(tables[o][value]))
            hmm.transmat_[i, number[after]] += 1 / operators
    return hmm


@pytest.mark.parametrize("split", ["train", "test", "whole"])
@pytest.mark.parametrize("domain", Domain)
def test_oracle_equals_a_hidden_markov_model(domain, split):
    corpus, rows = Trace(**SIZE, domain=domain, split=split), 40
    n, vocabulary = corpus.operations, corpus.vocabulary
    letter, operators = ("n", corpus.new_operators) if domain == "new" else ("g", corpus.general_operators)
    operator_ids = np.array(vocabulary.ids([f"{letter}{i} " for i in range(operators)]))
    value_ids = np.array(vocabulary.ids([str(v) for v in range(corpus.values)]))
    states = list(itertools.product(range(corpus.checksum), range(operators + 1), range(corpus.values)))
    residue_S, operator_S, value_S = np.array(states).T
    hmm = model(corpus, states)
    wanted_S = {"train": residue_S != 0, "test": residue_S == 0, "whole": residue_S >= 0}[split]

    def frames(row):
        """(n + 1, S) likelihoods of the states of each frame, given the visible tokens and the split."""
        likelihood_TS = np.ones((n + 1, len(states)))
        for t in range(n + 1):
            value = row[n + 1 if t == 0 else n + 2 + t]
            if value != vocabulary.mask_id:
                likelihood_TS[t] *= value_ids[value_S] == value
            if t and row[t] != vocabulary.mask_id:
                likelihood_TS[t] *= np.append(operator_ids, -1)[operator_S] == row[t]
        likelihood_TS[n] *= wanted_S
        return likelihood_TS

    hidden = uniform(0, "chain", range(rows), (corpus.length,)) < uniform(0, "chain/rate", range(rows), (1,))
    hidden[0] = True
    tokens = corpus.batch(range(rows), seed=2).masked_fill(hidden, vocabulary.mask_id)
    exact = corpus.oracle.posterior(tokens)
    nothing = hmm.score(frames(np.full(corpus.length, vocabulary.mask_id)))
    for b, row in enumerate(tokens.numpy()):
        log_p, states_TS = hmm.score_samples(frames(row))
        assert abs(log_p - nothing - float(exact.log_evidence_B[b])) <= 1e-9
        for t in range(n + 1):
            expected_V = np.bincount(value_ids[value_S], states_TS[t], len(vocabulary))
            position = n + 1 if t == 0 else n + 2 + t
            assert np.abs(exact.p_BLV[b, position].numpy() - expected_V).max() <= 1e-9
            if t:
                real = operator_S < operators
                expected_V = np.bincount(operator_ids[operator_S[real]], states_TS[t][real], len(vocabulary))
                assert np.abs(exact.p_BLV[b, t].numpy() - expected_V).max() <= 1e-9

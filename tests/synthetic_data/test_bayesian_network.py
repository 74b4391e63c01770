"""The world `programs` against a Bayesian network that a public library solves by eliminating variables.

pgmpy (Ankan & Panda, 2015) knows nothing of chains: each token is a node, and so is the held-out flag, whose value
stands among the evidence where a split is meant.
"""

import itertools

import numpy as np
import pytest

from ablate.core.corpus import Domain
from ablate.core.rng import uniform
from synthetic_data.worlds.programs import Programs
from tests.synthetic_data.enumerate_programs import HELD_OUT, rules


def determined(node, size, parents, sizes, function):
    """Table of a node that is a function of its parents (without parents: uniform over what `function` lists)."""
    from pgmpy.factors.discrete import TabularCPD

    table = np.zeros((size, int(np.prod([sizes[p] for p in parents]))))
    for column, values in enumerate(itertools.product(*(range(sizes[p]) for p in parents))):
        table[function(*values), column] = 1
    table /= table.sum(0)
    sizes[node] = size
    return TabularCPD(node, size, table, parents, [sizes[p] for p in parents])


def network(corpus):
    """({position: (node, first token id)}, model): x, then y and z by an operand pair each, then the question."""
    from pgmpy.models import DiscreteBayesianNetwork

    p, functions = corpus.modulus, list(rules(corpus).values())
    first_operator = corpus.vocabulary.ids(["+" if corpus.domain == "general" else "&"])[0]
    sizes, tables, places = {}, [], {3: ("value0", 1)}
    tables.append(determined("value0", p, [], sizes, lambda: range(p)))
    tables.append(determined("depth0", 1, [], sizes, lambda: 0))
    tables.append(determined("flag0", 2, [], sizes, lambda: 0))
    for k in (1, 2):
        operands, at, earlier = p + k, 7 + 6 * (k - 1), range(k)
        pairs = [(a, b) for a in range(operands) for b in range(operands) if max(a, b) >= p]

        def value(a, o, b, *known):
            a, b = (x if x < p else known[x - p] for x in (a, b))
            return functions[o](a, b)

        def depth(pair, *known, pairs=pairs):
            return 1 + max(known[x - p] for x in pairs[pair] if x >= p)

        def flag(pair, depth, before, pairs=pairs):
            kinds = ("constant" if x < p else "variable" for x in pairs[pair])
            return int(before or (*kinds, depth) in HELD_OUT)

        tables += [
            determined(f"pair{k}", len(pairs), [], sizes, lambda pairs=pairs: range(len(pairs))),
            determined(f"a{k}", operands, [f"pair{k}"], sizes, lambda i, pairs=pairs: pairs[i][0]),
            determined(f"b{k}", operands, [f"pair{k}"], sizes, lambda i, pairs=pairs: pairs[i][1]),
            determined(f"o{k}", len(functions), [], sizes, lambda: range(len(functions))),
            determined(f"value{k}", p, [f"a{k}", f"o{k}", f"b{k}", *(f"value{i}" for i in earlier)], sizes, value),
            determined(f"depth{k}", k + 1, [f"pair{k}", *(f"depth{i}" for i in earlier)], sizes, depth),
            determined(f"flag{k}", 2, [f"pair{k}", f"depth{k}", f"flag{k - 1}"], sizes, flag),
        ]
        places |= {at: (f"a{k}", 1), at + 1: (f"o{k}", first_operator), at + 2: (f"b{k}", 1)}
    tables.append(determined("asked", 2, [], sizes, lambda: range(2)))
    tables.append(determined("answer", p, ["asked", "value1", "value2"], sizes, lambda i, y, z: (y, z)[i]))
    places |= {17: ("asked", 2 + p), 19: ("answer", 1)}
    model = DiscreteBayesianNetwork([(parent, t.variable) for t in tables for parent in t.variables[1:]])
    model.add_nodes_from([t.variable for t in tables])
    model.add_cpds(*tables)
    assert model.check_model()
    return places, model


@pytest.mark.parametrize("domain", Domain)
def test_oracle_equals_variable_elimination(domain):
    pytest.importorskip("pgmpy", "1.0", reason="pgmpy 1.0 or later is not installed: pip install pgmpy")
    from pgmpy.inference import VariableElimination

    size = {"variables": 3, "modulus": 3, "new_operators": 2, "domain": domain}
    places, model = network(Programs(**size))
    solver = VariableElimination(model)
    for split, known in (("whole", {}), ("train", {"flag2": 0}), ("test", {"flag2": 1})):
        corpus, n = Programs(**size, split=split), 20
        hidden = uniform(0, "network", range(n), (corpus.length,)) < uniform(0, "network/rate", range(n), (1,))
        hidden[0] = True
        tokens = corpus.batch(range(n), seed=1).masked_fill(hidden, corpus.vocabulary.mask_id)
        p_BLV = corpus.oracle.posterior(tokens).p_BLV.numpy()
        for row, p_LV in zip(tokens.tolist(), p_BLV, strict=True):
            shown = [i for i in places if row[i] != corpus.vocabulary.mask_id]
            evidence = known | {places[i][0]: row[i] - places[i][1] for i in shown}
            for position in set(places) - set(shown):
                node, first = places[position]
                wanted = solver.query([node], evidence, show_progress=False).values
                expected_V = np.zeros(len(corpus.vocabulary))
                expected_V[first : first + len(wanted)] = wanted
                assert np.abs(p_LV[position] - expected_V).max() <= 1e-9

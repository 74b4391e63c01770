"""The dumb way for `facts`: every record of a shrunken law with its probability, written out symbol by symbol."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from scipy import stats

from ablate.core.rng import generator, uniform

SAID = (
    ("town", ["was born in", "comes from _", "grew up in"]),
    ("school", ["studied at _", "graduated from _", "was taught at"]),
    ("subject", ["holds degrees in", "was trained in", "read _ _"]),
)


def names(c, group):
    """Three symbols a person; groups 0, 1, 2 are the general people, the new and the unseen ones."""
    size = 1
    while size**3 < 12 * c.people:
        size += 1
    syllables = [a + b for a in "BDFGKLMNPRSTVZ" for b in "aeiou"]
    order = generator(c.world, "facts/names").permutation(size**3)
    out = []
    for code in order[group * c.people : (group + 1) * c.people]:
        first, middle, last = int(code) // size // size, int(code) // size % size, int(code) % size
        out.append([f"{syllables[first]}na ", f"{syllables[middle]}l ", f"{syllables[last]}ston "])
    return out


def values(c, person):
    """What is true of a person of this domain: one number an attribute, of several choices the first."""
    return [all_of_them[0] for all_of_them in choices(c, person)]


def choices(c, person):
    """Of each attribute all numbers that are true, drawn one by one from those that are left."""
    u = uniform(c.world, f"facts/values/{c.domain}", [person], (c.attributes * c.choices,))[0].tolist()
    left = [list(range(c.values)) for _ in range(c.attributes)]
    drawn = [[] for _ in range(c.attributes)]
    for k in range(c.choices):
        for a in range(c.attributes):
            drawn[a].append(left[a].pop(int(u[k * c.attributes + a] * len(left[a]))))
    return drawn


def every_record(c):
    """[(symbols, probability)], people being equally likely, and so their wordings."""
    group = 2 if c.split == "unseen" else 1 if c.domain == "new" else 0
    out = []
    for person, name in enumerate(names(c, group)):
        if c.split == "unseen":
            facts = list(itertools.product(range(c.values), repeat=c.attributes))
        else:
            facts = list(itertools.product(*choices(c, person)))
        ways = []
        for a in range(c.attributes):
            held_out = [t for t in range(3) if (person + a + t) % 3 == 0]
            others = [t for t in range(3) if t not in held_out]
            ways.append({"test": held_out, "whole": [0, 1, 2]}.get(c.split, others))
        wordings = list(itertools.product(*ways))
        for fact, wording in itertools.product(facts, wordings):
            statements = []
            for a in range(c.attributes):
                attribute, phrases = SAID[a]
                statements += [f"{word} " for word in phrases[wording[a]].split()]
                statements += [f"{attribute}{fact[a]}", ". "]
            name_last = (c.split == "reversed") is not c.reversed
            parts = [*statements, *name] if name_last else [*name, *statements]
            out.append((["<bos>", *parts], 1 / (c.people * len(facts) * len(wordings))))
    return out


def ids_and_probabilities(c):
    """(N, L) token ids and (N,) probabilities of all records."""
    records = every_record(c)
    return torch.tensor([c.vocabulary.ids(r) for r, _ in records]), torch.tensor(
        [p for _, p in records], dtype=torch.float64
    )


def brute(ids_NL, p_N, tokens_L, mask_id, size):
    """(p_LV, support_LV, log evidence) by adding up the records that agree with what is visible."""
    visible = tokens_L != mask_id
    agree_N = (ids_NL[:, visible] == tokens_L[visible]).all(1)
    p_LV, total = torch.zeros(len(tokens_L), size).double(), float(p_N[agree_N].sum())
    for position in range(len(tokens_L)):
        p_LV[position].index_add_(0, ids_NL[agree_N, position], p_N[agree_N])
    return p_LV / total, p_LV > 0, math.log(total)


def masked(corpus, rows, n):
    """n rows with random masks, each at its own rate."""
    hidden = uniform(0, "hidden", range(n), (corpus.length,)) < uniform(0, "rate", range(n), (1,))
    return rows.masked_fill(hidden, corpus.vocabulary.mask_id)


def require_equal(corpus, oracle, ids, p, tokens):
    exact = oracle.posterior(tokens)
    for b, row in enumerate(tokens):
        p_LV, support_LV, log_evidence = brute(ids, p, row, corpus.vocabulary.mask_id, len(corpus.vocabulary))
        assert (exact.p_BLV[b] - p_LV).abs().max() <= 1e-12
        assert torch.equal(exact.support_BLV[b], support_LV)
        assert abs(float(exact.log_evidence_B[b]) - log_evidence) <= 1e-10


def require_drawn_from(drawn, ids, p):
    """Every drawn row is listed in ids, and rows come as often as p says (chi-square)."""
    place = {tuple(row): i for i, row in enumerate(ids.tolist())}
    counts = np.bincount([place[tuple(row)] for row in drawn.tolist()], minlength=len(ids))
    if len(ids) > 1:
        assert stats.chisquare(counts, p.numpy() * len(drawn)).pvalue > 1e-4

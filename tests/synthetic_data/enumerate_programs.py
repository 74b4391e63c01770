"""The dumb way for `programs`: every program written out and run, and posteriors by counting them.

Nothing but the operators' tables is shared with the world: they are read at their published address.
"""

from __future__ import annotations

import operator

import numpy as np
import torch

from ablate.core.rng import generator

HELD_OUT = {("variable", "variable", 1), ("variable", "constant", 2), ("constant", "variable", 3)}
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def rules(c):
    """{symbol: function of two values} of the domain."""
    if c.domain == "general":
        return {s: lambda a, b, f=f: f(a, b) % c.modulus for s, f in ARITHMETIC.items()}
    tables = [generator(c.world, "programs/table", i).integers(c.modulus, size=(c.modulus,) * 2) for i in range(8)]
    return {s: lambda a, b, t=t: int(t[a, b]) for s, t in zip("&|^@#!$%"[: c.new_operators], tables, strict=False)}


def run(text, functions):
    """(values, depths, held-out combinations) of a program `x=..;y=..;`, by reading its text."""
    values, depths, found = {}, {}, []
    for statement in text.rstrip(";").split(";"):
        name, expression = statement.split("=", 1)
        if len(expression) == 1:
            values[name], depths[name] = int(expression), 0
            continue
        a, symbol, b = expression
        values[name] = functions[symbol](*(values.get(x, int(x) if x.isdigit() else None) for x in (a, b)))
        depths[name] = 1 + max(depths[x] for x in (a, b) if not x.isdigit())
        kinds = ("constant" if x.isdigit() else "variable" for x in (a, b))
        found.append((*kinds, depths[name]))
    return values, depths, found


def programs(c):
    """Texts of all programs, without the question."""
    digits, texts = [str(d) for d in range(c.modulus)], [""]
    for k, name in enumerate("xyzw"[: c.variables]):
        known = list("xyzw"[:k])
        right = [a + o + b for a in digits + known for o in rules(c) for b in digits + known if {a, b} & set(known)]
        texts = [f"{text}{name}={r};" for text in texts for r in (right if k else digits)]
    return texts


def every_program(c):
    """(N, L) all sequences of the law, each as likely as the others."""
    functions, out = rules(c), []
    for text in programs(c):
        values, _, combinations = run(text, functions)
        test = bool(HELD_OUT & set(combinations))
        if c.split == "whole" or test == (c.split == "test"):
            out += [["<bos>", *text, name, "?", str(values[name])] for name in "yzw"[: c.variables - 1]]
    return torch.tensor([c.vocabulary.ids(symbols) for symbols in out])


def posteriors(sequences_NL, tokens_BL, mask_id, vocabulary):
    """(p_BLV, support_BLV, log evidence_B) by counting, for all rows at once, the sequences that agree."""
    one_hot = torch.nn.functional.one_hot(sequences_NL, vocabulary).double().flatten(1)
    shown = torch.nn.functional.one_hot(tokens_BL, vocabulary).double()
    shown[..., mask_id] = 0
    agree_BN = (shown.flatten(1) @ one_hot.T == shown.sum((1, 2))[:, None]).double()
    counts = (agree_BN @ one_hot).unflatten(1, (-1, vocabulary))
    n = agree_BN.sum(1)
    return counts / n[:, None, None], counts > 0, np.log(n.numpy() / len(sequences_NL))

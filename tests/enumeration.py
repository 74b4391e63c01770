"""The dumb way: laws on shrunken worlds as a list of every sequence, and a model that looks answers up in it."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from ablate.corpus import Corpus
from synthetic_data import Arithmetic, Trace


def every_sequence(corpus: Corpus) -> torch.Tensor:
    """(N, L) all sequences of the law, each as likely as the others, written out symbol by symbol."""
    texts = _traces(corpus) if isinstance(corpus, Trace) else _arithmetic(corpus)
    return torch.tensor([corpus.vocabulary.ids(symbols) for symbols in texts])


def _traces(c: Trace) -> list[list[str]]:
    general = c.domain == "general"
    letter, first, count = ("g", 0, c.general_operators) if general else ("n", c.general_operators, c.new_operators)
    from ablate.seeds import generator

    tables = [generator(c.world, "trace/table", first + i).permutation(c.values) for i in range(count)]
    out = []
    for program in itertools.product(range(count), repeat=c.operations):
        if (sum(program) % c.checksum == 0) != (c.split == "test"):
            continue
        for start in range(c.values):
            values, value = [], start
            for operator in program:
                value = int(tables[operator][value])
                values.append(str(value))
            out.append(["<bos>", *(f"{letter}{i} " for i in program), str(start), "|", *values])
    return out


def _arithmetic(c: Arithmetic) -> list[list[str]]:
    size, width = 10**c.digits, c.digits
    names = "abcdefghijklmnopqrstuvwxyz"[: c.names]
    operators, results = c._rules
    symbols = [c.vocabulary.symbols[i] for i in operators]
    records = []
    for n, m in itertools.permutations(names, 2):
        for x, y in itertools.product(range(size), repeat=2):
            a, b = f"{x:0{width}d}", f"{y:0{width}d}"
            if (sum(int(d) ** 2 for d in a + b) % c.checksum == 0) != (c.split == "test"):
                continue
            for k, symbol in enumerate(symbols):
                z = (x + y) % size if symbol == "+" else int(results[k][x * size + y])
                records.append(list(f"{n}={a},{m}={b},{n}{symbol}{m}={z:0{width}d};"))
    return [list(itertools.chain(*parts)) for parts in itertools.product(records, repeat=c.records)]


def brute_posterior(sequences_NL: torch.Tensor, tokens_L: torch.Tensor, mask_id: int, vocabulary: int):
    """(p_LV, support_LV, log evidence) by counting the sequences that agree with what is visible."""
    visible = tokens_L != mask_id
    agree = (sequences_NL[:, visible] == tokens_L[visible]).all(1)
    counts_LV = torch.nn.functional.one_hot(sequences_NL[agree], vocabulary).sum(0)
    return counts_LV.double() / agree.sum(), counts_LV > 0, np.log(int(agree.sum()) / len(sequences_NL))


class BruteModel:
    """A perfect model of one law: predict(tokens_BL) by enumeration."""

    def __init__(self, corpus: Corpus):
        self.corpus, self.sequences_NL = corpus, every_sequence(corpus)

    def __call__(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        v = self.corpus.vocabulary
        rows = [brute_posterior(self.sequences_NL, row, v.mask_id, len(v))[0] for row in tokens_BL]
        return torch.stack(rows).log()

"""The dumb way: laws on shrunken worlds as a list of every sequence, and a model that looks answers up in it."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from ablate.core.corpus import Corpus
from ablate.core.rng import generator, uniform
from synthetic_data import Trace
from tests.synthetic_data.enumerate_arithmetic import every_arithmetic


def every_sequence(corpus: Corpus) -> torch.Tensor:
    """(N, L) all sequences of the law, each as likely as the others, written out symbol by symbol."""
    if isinstance(corpus, Trace):
        sequences_NL, p_N = every_trace(corpus)
        assert float(p_N.max() - p_N.min()) < 1e-15, "a law of two kinds: take every_trace"
        return sequences_NL
    return torch.from_numpy(every_arithmetic(corpus).T.astype(np.int64))


def every_trace(c: Trace) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, L) all traces of the law and (N,) their probabilities: a kind's share, in equal parts."""
    common, rare = c.general_operators, c.general_operators + c.new_operators
    if c.domain == "general":
        kinds = [("g", 0, c.general_operators, 1.0)]
    elif c.dialect == 0:
        kinds = [("n", common, c.new_operators, 1.0)]
    elif c.split in ("test", "longer"):
        kinds = [("d", rare, c.dialect, 1.0)]
    else:
        kinds = [("n", common, c.new_operators, 1 - c.dialect_share), ("d", rare, c.dialect, c.dialect_share)]
    sequences, p = [], []
    for letter, first, count, share in kinds:
        traces = [c.vocabulary.ids(symbols) for symbols in _traces(c, letter, first, count)]
        sequences += traces
        p += [share / len(traces)] * len(traces)
    return torch.tensor(sequences), torch.tensor(p, dtype=torch.float64)


def _traces(c: Trace, letter: str, first: int, count: int) -> list[list[str]]:
    """All of one kind, whose operators are written with `letter` and counted on from `first`."""
    tables = [generator(c.world, "trace/table", first + i).permutation(c.values) for i in range(count)]
    wanted = {"train": lambda total: total % c.checksum != 0, "test": lambda total: total % c.checksum == 0}
    out = []
    for program in itertools.product(range(count), repeat=c.longer if c.split == "longer" else c.operations):
        if c.split in wanted and not wanted[c.split](sum(program)):
            continue
        for start in range(c.values):
            values, value = [], start
            for operator in program:
                value = int(tables[operator][value])
                values.append(str(value))
            out.append(["<bos>", *(f"{letter}{i} " for i in program), str(start), "|", *values])
    return out


def brute_posterior(sequences_NL: torch.Tensor, tokens_L: torch.Tensor, mask_id: int, vocabulary: int):
    """(p_LV, support_LV, log evidence) by counting the sequences that agree with what is visible."""
    visible = tokens_L != mask_id
    agree = (sequences_NL[:, visible] == tokens_L[visible]).all(1)
    counts_LV = torch.nn.functional.one_hot(sequences_NL[agree], vocabulary).sum(0)
    return counts_LV.double() / agree.sum(), counts_LV > 0, np.log(int(agree.sum()) / len(sequences_NL))


def likelihoods(sequences_NL, tokens_BL, q, vocabulary):
    """(B, N) probability of what is visible given each clean sequence."""
    stray = q / (len(vocabulary) - 1)
    out_BN = torch.ones(len(tokens_BL), len(sequences_NL)).double()
    for seen_B, true_N in zip(tokens_BL.T, sequences_NL.T, strict=True):
        says_BN = stray + (1 - q) * (seen_B[:, None] == true_N).double()
        out_BN *= says_BN.masked_fill((seen_B == vocabulary.mask_id)[:, None], 1)
    return out_BN


def noisy_posterior(sequences_NL, p_N, tokens_BL, q, vocabulary):
    """(p_BLV, log evidence_B) under noise q, by adding up the clean sequences, each with its likelihood."""
    size, mask_id = len(vocabulary), vocabulary.mask_id
    weight_BN = likelihoods(sequences_NL, tokens_BL, q, vocabulary) * p_N
    clean_NLV = torch.nn.functional.one_hot(sequences_NL, size).double()
    p_BLV = (1 - q) * torch.einsum("bn,nlv->blv", weight_BN / weight_BN.sum(1, keepdim=True), clean_NLV)
    p_BLV[..., torch.arange(size) != mask_id] += q / (size - 1)
    visible_BL = tokens_BL != mask_id
    p_BLV[visible_BL] = torch.nn.functional.one_hot(tokens_BL, size).double()[visible_BL]
    return p_BLV, weight_BN.sum(1).log()


class BruteModel:
    """A perfect model of one law: predict(tokens_BL) by enumeration."""

    def __init__(self, corpus: Corpus):
        self.corpus, self.sequences_NL = corpus, every_sequence(corpus)

    def __call__(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        v = self.corpus.vocabulary
        rows = [brute_posterior(self.sequences_NL, row, v.mask_id, len(v))[0] for row in tokens_BL]
        return torch.stack(rows).log()


def masked(tokens_BL: torch.Tensor, mask_id: int, stream: str = "masks") -> torch.Tensor:
    """Rows with random masks, each at its own rate."""
    n, length = tokens_BL.shape
    hidden = uniform(0, f"{stream}/hidden", range(n), (length,)) < uniform(0, f"{stream}/rate", range(n), (1,))
    return tokens_BL.masked_fill(hidden, mask_id)


def order_gap(corpus: Corpus, orders: int = 20) -> float:
    """Largest |sum log p_0(x_i | seen) - log p_0(x)| over random orders of revealing one drawn row, nats."""
    row, length = corpus.batch([7], seed=1), corpus.length
    contexts, revealed = row.repeat(orders * length, 1), np.empty(orders * length, dtype=np.int64)
    for k in range(orders):
        order = np.random.default_rng(k).permutation(length)
        for i in range(length):
            contexts[k * length + i, torch.from_numpy(order[i:].copy())] = corpus.vocabulary.mask_id
            revealed[k * length + i] = order[i]
    p = corpus.oracle.posterior(contexts).p_BLV[range(len(contexts)), revealed, row[0, revealed]]
    whole = float(corpus.oracle.posterior(row).log_evidence_B[0])
    return float((p.log().reshape(orders, length).sum(1) - whole).abs().max())

"""What a corpus asks of a learner before any training: K(c) by context sampler, visits, mismatch, predicted cost.

Shapes: B sequences, L positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ablate.analysis.context_mismatch import (
    BlockPatterns,
    aligned,
    block_mismatch,
    mismatch,
    two_sample_test,
)
from ablate.analysis.context_visits import (
    Questions,
    Visits,
    canonical_keys,
    chunk,
    essential,
    learning_cost,
    questions,
    raw_keys,
)
from ablate.core.corpus import Corpus
from ablate.core.records import FIXED_RATE, INFERENCE
from ablate.core.rng import address
from ablate.core.storage import WHERE, describe, digest
from ablate.core.validation import path_of, require, require_ranges
from ablate.decoding.predictor import OraclePredictor
from ablate.decoding.protocol import Order, Protocol
from ablate.evaluation.contexts import Blocks, Contexts, ContextSampler, Decoder, RandomMasks
from ablate.evaluation.metrics import UncertaintyBands, candidate_count, hill_numbers, regimes
from ablate.evaluation.streaming import Summary
from ablate.noise.closed_forms import mask_pattern_entropy
from ablate.noise.schedules import Linear

Row = dict[str, Any]
DECODERS = {  # by the value of the column infer
    "decoder": (Order.confidence, "tokens:1"),
    "decoder, four a pass": (Order.confidence, "tokens:4"),
    "decoder, random order": (Order.random, "tokens:1"),
}
BLANK: Row = {"rate": None, "block_size": None, "asked": "", "weight": "", "infer": ""}
QUANTILES = (0.5, 0.9, 0.99)


@dataclass
class Survey:
    """How much to measure of one corpus.

    rows: sequences drawn for each sampler. questions: asked tokens whose canonical contexts are found, a sampler; in
    the null theory one half is what training shows, the other what is asked. eps: of C(c) in k_eps, {v : p_0(v|c) >=
    eps}. rates: mask rates shown one by one. thresholds: where the regimes of K_1 begin. out: folder, derived where
    empty. Raises ValueError for values out of range and for real text, which has no oracle.
    """

    corpus: Any  # a Corpus: a protocol cannot be a configuration's type
    seed: int = 0
    rows: int = 4096
    questions: int = 500
    eps: float = 0.01
    rates: list[float] = field(default_factory=lambda: [0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95])
    thresholds: UncertaintyBands = field(default_factory=UncertaintyBands)
    out: str = ""

    def __post_init__(self) -> None:
        require_ranges(self, {"seed": (0, 2**63 - 1), "rows": (4, 10**7), "questions": (8, 10**6)})
        wanted = f"at most rows={self.rows}"
        require("questions", self.questions, self.questions <= self.rows, wanted, self.rows)
        once = bool(self.rates) and len(set(self.rates)) == len(self.rates)
        rates = once and all(0 < t <= 1 for t in self.rates)
        require("rates", self.rates, rates, "mask rates in (0, 1], each once", "[0.15,0.5,0.8]")
        require("eps", self.eps, 0 < self.eps <= 1, "a probability in (0, 1]", 0.01)
        if self.corpus.oracle is None:
            raise ValueError(f"corpus={self.corpus.name}: wanted a world with an oracle; type corpus=trace")
        regimes(torch.ones(1), self.thresholds, len(self.corpus.vocabulary) - 1)  # they must not overlap

    @property
    def label(self) -> str:
        """A name that no other survey has."""
        content = {name: value for name, value in describe(self).items() if name not in WHERE}
        return f"{self.corpus.name}-{digest([self.corpus.fingerprint(), content])[:8]}"

    @property
    def folder(self) -> Path:
        return path_of("out", self.out or f"runs/knowledge-{self.label}")


def measure(survey: Survey, samplers: Mapping[str, ContextSampler]) -> list[Row]:
    """Rows with `records.SURVEY`: every sampler on the same sequences. `samplers` holds the sampler of inference,
    `INFERENCE`."""
    corpus: Corpus = survey.corpus
    rows: list[Row] = []
    for name, sampler in samplers.items():
        size = sampler.size if isinstance(sampler, Blocks) else None
        rows += [{"context_sampler": name, "block_size": size, **row} for row in _counts(survey, sampler)]
    for rate in survey.rates:
        rows += [
            {"context_sampler": FIXED_RATE, "rate": rate, **row} for row in _counts(survey, RandomMasks(rate, rate))
        ]
    rows += _contexts(survey, samplers)
    sizes = [sampler.size for sampler in samplers.values() if isinstance(sampler, Blocks) and sampler.size > 1]
    rows += [row for size in sizes for row in _patterns(size)] + _decoders(survey, sizes)
    fixed = {
        "corpus": corpus.name,
        "domain": str(corpus.domain),
        "split": str(corpus.split),
        "fingerprint": corpus.fingerprint(),
        "seed": survey.seed,
    }
    return [{**fixed, **BLANK, **row} for row in rows]


def _drawn(survey: Survey, sampler: ContextSampler) -> Iterator[tuple[Contexts, Tensor]]:
    """Contexts of whole sequences, and where answers stand, chunk by chunk."""
    corpus: Corpus = survey.corpus
    answer_1L = corpus.queries(1, survey.seed).answer_BL
    size = chunk(corpus.length, len(corpus.vocabulary))
    for start in range(0, survey.rows, size):
        tokens_BL = corpus.batch(range(start, min(start + size, survey.rows)), survey.seed)
        scored_BL = torch.ones_like(tokens_BL, dtype=torch.bool)
        scored_BL[:, 0] = False
        seed = address(survey.seed, "survey", start) % 2**63
        yield sampler.draw(tokens_BL, scored_BL, corpus.vocabulary.mask_id, seed), answer_1L.expand_as(scored_BL)


def _asked(contexts: Contexts, answer_BL: Tensor) -> dict[str, Contexts]:
    """The contexts asking for all tokens, and for answers alone."""
    return {"all": contexts, "answers": contexts.among(answer_BL)}


def _counts(survey: Survey, sampler: ContextSampler) -> list[Row]:
    """K(c) over all asked tokens and over answers, each weighted as in the loss and token by token."""
    alphabet = len(survey.corpus.vocabulary) - 1
    kept: dict[tuple[str, str], dict[str, Summary]] = {}
    for contexts, answer_BL in _drawn(survey, sampler):
        exact, asked_BL = survey.corpus.oracle.posterior(contexts.inputs_BL), contexts.weight_BL > 0
        hill = hill_numbers(exact.p_BLV[asked_BL], exact.support_BLV[asked_BL])
        k_eps = candidate_count(exact.p_BLV[asked_BL], survey.eps)
        values = {
            "k0": hill.k0,
            "k_eps": k_eps,
            "k1": hill.k1,
            "kinf": hill.kinf,
            "entropy_bits": hill.k1.log2(),
            "certain": hill.k0 == 1,
            **regimes(hill.k1, survey.thresholds, alphabet),
        }
        for asked, part in _asked(contexts, answer_BL).items():
            for weight, weight_BL in (("loss", part.weight_BL), ("token", part.count_BL)):
                sums = kept.setdefault((asked, weight), {metric: Summary() for metric in values})
                for metric, value_N in values.items():
                    sums[metric].update(value_N, weight_BL[asked_BL])
    rows: list[Row] = []
    for (asked, weight), sums in kept.items():
        common = {"asked": asked, "weight": weight}
        rows += [{**common, "metric": metric, "value": s.mean} for metric, s in sums.items() if s.count]
        rows += [
            {**common, "metric": f"{k}_q{q:g}", "value": sums[k].quantile(q)}
            for k in ("k0", "k1")
            for q in QUANTILES
            if sums[k].count
        ]
    return rows


def _contexts(survey: Survey, samplers: Mapping[str, ContextSampler]) -> list[Row]:
    """How often contexts come back by sampler, and what tables pay that learn in them.

    Of each sampler two samples, from different sequences: one is what training shows, the other what is asked. All
    samplers are inferred together.
    """
    corpus, half = survey.corpus, survey.questions // 2
    mask_id, names = corpus.vocabulary.mask_id, corpus.vocabulary.names
    asked = {}
    for name, sampler in samplers.items():
        for kind, contexts in _asked(*next(_drawn(survey, sampler))).items():
            parts = [contexts.part(slice(first, None, 2)) for first in (0, 1)]
            if all(float(part.weight_BL.sum()) for part in parts):  # else the rows of this sampler are missing
                asked[name, kind] = Questions.joined([questions(part, half, survey.seed) for part in parts])
    together = Questions.joined(list(asked.values()))
    kept, truth = essential(corpus.oracle, together, mask_id)
    raw, canonical = raw_keys(together), canonical_keys(kept, truth, mask_id, names)
    rows: list[Row] = []
    met: dict[tuple[str, str], tuple[Visits, Visits]] = {}
    for i, (name, kind) in enumerate(asked):
        start, middle, end = (2 * half * i + half * part for part in range(3))
        every, shown, later = slice(start, end), slice(start, middle), slice(middle, end)
        for what, keys in (("raw", raw), ("canonical", canonical)):
            seen = _visits(what, Visits.of(keys[every], truth.part(every)))
            rows += [{"context_sampler": name, "asked": kind, **row} for row in seen]
        met[name, kind] = Visits.of(canonical[shown], truth.part(shown)), Visits.of(canonical[later], truth.part(later))
    for (name, kind), (train, _) in met.items():
        for infer in [sampler for sampler in dict.fromkeys((name, INFERENCE)) if (sampler, kind) in met]:
            paid = _costs(survey, train, met[infer, kind][1])
            rows += [{"context_sampler": name, "asked": kind, "infer": infer, **row} for row in paid]
    return rows


def _visits(what: str, visits: Visits) -> list[Row]:
    """How often contexts come back in a sample of questions."""
    values = {
        "contexts": len(visits.counts),
        "visits": visits.mean,
        "unseen": visits.unseen.mass,
        "unseen_upper": visits.unseen.upper,
    }
    return [{"metric": f"{what}_{metric}", "value": value} for metric, value in values.items()]


def _costs(survey: Survey, train: Visits, infer: Visits) -> list[Row]:
    """Predicted bits a token that a table pays after half the questions, and how far the contexts lie apart."""
    paid = learning_cost(train, infer, survey.corpus.vocabulary.mask_id)
    apart = mismatch(*aligned(infer.counts, train.counts))
    values = {
        "cost_known": paid.known.bits,
        "cost_known_unseen": paid.known.unseen,
        "cost_vocabulary": paid.vocabulary,
        "coverage": apart.coverage,
        "jsd_bits": apart.jsd,
    }
    return [{"metric": metric, "value": value} for metric, value in values.items()]


def _patterns(size: int) -> list[Row]:
    """What the mask sampler alone decides, in a window of one block: AR patterns against training in blocks."""
    common = {"context_sampler": f"block {size}", "block_size": size}
    exact = block_mismatch(BlockPatterns(size, 1), BlockPatterns(size, size))
    against = {f"pattern_{metric}": value for metric, value in asdict(exact).items()}
    rows = [{**common, "infer": INFERENCE, "metric": metric, "value": value} for metric, value in against.items()]
    return [*rows, {**common, "metric": "pattern_entropy_bits", "value": mask_pattern_entropy(Linear(), size)}]


def _decoders(survey: Survey, sizes: list[int]) -> list[Row]:
    """How well a classifier tells a decoder's contexts from those of training in blocks of that size, by protocol.

    The decoder's model is the oracle itself, so no error of a model is mixed in.
    """
    corpus, mask_id = survey.corpus, survey.corpus.vocabulary.mask_id
    pool = corpus.queries(min(2 * survey.questions, survey.rows), survey.seed)
    predict, rows = OraclePredictor(corpus.oracle), list[Row]()
    for size in sizes:
        shown = Blocks(size).draw(pool.tokens_BL, pool.answer_BL, mask_id, survey.seed)
        for name, (order, pace) in DECODERS.items():
            sampler = Decoder(predict, Protocol(size, order, pace))
            met = sampler.draw(pool.tokens_BL, pool.answer_BL, mask_id, survey.seed)
            told = two_sample_test(met.inputs_BL, shown.inputs_BL, mask_id, survey.seed)
            common = {"context_sampler": f"block {size}", "block_size": size, "asked": "answers", "infer": name}
            values = {"classifier_accuracy": told.accuracy, "classifier_p": told.p}
            rows += [{**common, "metric": metric, "value": value} for metric, value in values.items()]
    return rows

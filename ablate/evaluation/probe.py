"""Probes: what a model knows, as rows. A probe sees `predict`, never a module.

Shapes: B sequences, L positions, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ablate.core.corpus import Corpus, Domain, Posterior, Query, Split, Stale, unscored
from ablate.decoding.loop import PROTOCOL, decode
from ablate.decoding.predictor import Predict
from ablate.evaluation.contexts import Blocks
from ablate.evaluation.probe_rows import (
    ContextSet,
    Listed,
    Row,
    knowledge_rows,
    listed_contexts,
    memorisation_rows,
    spurious_rows,
    stale_bindings,
    tokens_per_byte_of,
)


@dataclass
class Probe:
    """What to ask about one split: decoding, contexts of decoding, and (train split, real text) the bound over
    sequences.

    The bound is the unclipped one, whatever was trained on: blocks of size 1 are AR, of the length random masks, those
    between are `bounds`. An oracle has the same bits under all of them; a network has not.
    questions: decoded at each block size, but no more than can be decoded by reading `decoded` tokens (a token a pass
    makes that grow with the square of the length). contexts: rows drawn by each context sampler. by_question: also
    one row for each of these, in blocks of the first size, for statistics that draw seeds and then questions?
    """

    domain: Domain
    split: Split
    block_sizes: tuple[int, ...] = (1, 2, 32)
    questions: int = 64
    contexts: int = 256
    decoded: int = 32_768
    bounds: tuple[int, ...] = (2, 4, 8, 16)
    by_question: bool = False

    def prepare(self, corpus: Corpus, seed: int) -> ProbeSet:
        """The probe's questions on `corpus`, which has its domain and split, with the oracle's answers."""
        pool = corpus.queries(self.contexts, seed)
        everything_BL = torch.ones_like(pool.answer_BL)
        everything_BL[:, 0] = False
        samplers = [("block", size, pool.answer_BL, size) for size in self.block_sizes]
        if self.split is Split.train or corpus.oracle is None:
            # a world's test split is a distribution of its own, known to its oracle and never shown in training: over
            # whole sequences the distance to it would measure that mismatch, not what was learned
            samplers += [("ar", None, everything_BL, 1), ("random", None, everything_BL, corpus.length)]
            samplers += [("bound", size, everything_BL, size) for size in self.bounds if size < corpus.length - 1]
        context_sets = []
        v, unscored_BL = corpus.vocabulary, unscored(pool.tokens_BL, corpus.vocabulary.boundary)
        for name, block_size, asked_BL, size in samplers:
            scored_BL = asked_BL & ~unscored_BL
            contexts = Blocks(size).draw(pool.tokens_BL, scored_BL, v.mask_id, seed)
            if v.boundary is not None:
                contexts = contexts.within_documents(unscored_BL, scored_BL, v.mask_id)
            answers = None if corpus.oracle is None else corpus.oracle.posterior(contexts.inputs_BL)
            rate = tokens_per_byte_of(corpus, pool.tokens_BL, scored_BL)
            context_sets.append(ContextSet(name, block_size, contexts, scored_BL, answers, rate, len(v)))
        cost = int(pool.answer_BL.sum(1).max()) * corpus.length
        questions = corpus.queries(min(self.questions, max(1, self.decoded // cost)), seed)
        listed = listed_contexts(corpus, everything_BL, seed)
        return ProbeSet(self, questions, context_sets, listed, stale_bindings(corpus, self.contexts, seed), v.mask_id)

    def measure(self, predict: Predict, corpus: Corpus, seed: int, left_to_right: bool = False) -> list[Row]:
        """Rows of one measurement; see `ProbeSet.measure`."""
        return self.prepare(corpus, seed).measure(predict, left_to_right)


@dataclass(frozen=True)
class ProbeSet:
    """A probe's questions, drawn once and asked of every model of a run."""

    probe: Probe
    query: Query
    context_sets: list[ContextSet]
    listed: list[Listed]
    bindings: tuple[Stale, Posterior] | None
    mask_id: int

    def measure(self, predict: Predict, left_to_right: bool = False) -> list[Row]:
        """Rows with metric, contexts, block_size, protocol and value; domain and split are the probe's.

        `left_to_right`: on clean text predict reads only what is left of a token. Bits per byte under AR contexts are
        then exact, over every token, instead of sampled.
        """
        rows = [row for size in self.probe.block_sizes for row in self._scores(predict, size)]
        for context_set in self.context_sets:
            first = self.probe.by_question and context_set is self.context_sets[0]
            rows += knowledge_rows(predict, context_set, left_to_right and context_set.name == "ar", first)
        rows += [row for listed in self.listed for row in memorisation_rows(predict, listed)]
        if self.bindings is not None:
            rows += spurious_rows(predict, *self.bindings)
        return [{"domain": str(self.probe.domain), "split": str(self.probe.split), **row} for row in rows]

    def _scores(self, predict: Predict, size: int) -> list[Row]:
        """Decoding scores: the share of answer items right, and of answers right as a whole."""
        prompt_BL = self.query.prompt(self.mask_id)
        right_B = self.query.verify(decode(predict, prompt_BL, self.query.answer_BL, size, self.mask_id))
        common = {"contexts": "decode", "block_size": size, "protocol": PROTOCOL}
        return [
            {"metric": "score", **common, "value": float(right_B.mean())},
            {"metric": "exact", **common, "value": float((right_B == 1).double().mean())},
        ]

"""Probes: what a model knows, as rows. A probe sees `predict`, never a module.

Shapes: B sequences, L positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ablate.core.blocks import Grid, offset_of
from ablate.core.corpus import Corpus, Domain, Oracle, Posterior, Query, Split, Stale, unscored
from ablate.decoding.loop import decode
from ablate.decoding.predictor import Predict
from ablate.decoding.protocol import Protocol
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
from ablate.evaluation.score_rows import score_rows

WHOLE: Row = {"block_size": None}  # of contexts that have no blocks


@dataclass
class Probe:
    """What to ask about one split: decoding, contexts of decoding, and (train split, real text) the bound over
    sequences.

    The bound is the unclipped one, whatever was trained on: blocks of size 1 are AR, of the length random masks, those
    between are `bounds`. An oracle has the same bits under all of them; a network has not.
    block_sizes: decoded most confident first, one token a pass. decoding: protocols beside these. grids: where the
    blocks of all of them, of contexts and of bounds are counted from.
    questions: decoded under each protocol, but no more than can be decoded by reading `decoded` tokens (a token a pass
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
    decoding: tuple[Protocol, ...] = ()
    grids: tuple[Grid, ...] = (Grid.answer,)
    by_question: bool = False

    @property
    def protocols(self) -> list[Protocol]:
        """All that is decoded, each once: blocks of one token are the same on every grid."""
        asked = [*(Protocol(size) for size in self.block_sizes), *self.decoding]
        first, others = self.grids[0], self.grids[1:]
        once = [replace(p, grid=first) for p in asked]
        return once + [replace(p, grid=grid) for grid in others for p in asked if p.block_size > 1]

    def prepare(self, corpus: Corpus, seed: int) -> ProbeSet:
        """The probe's questions on `corpus`, which has its domain and split, with the oracle's answers."""
        pool = corpus.queries(self.contexts, seed)
        everything_BL = torch.ones_like(pool.answer_BL)
        everything_BL[:, 0] = False
        v, unscored_BL = corpus.vocabulary, unscored(pool.tokens_BL, corpus.vocabulary.boundary)
        context_sets = []
        for name, sampler, asked_BL in self._samplers(corpus, pool.answer_BL, everything_BL):
            scored_BL = asked_BL & ~unscored_BL
            contexts = sampler.draw(pool.tokens_BL, scored_BL, v.mask_id, seed)
            if v.boundary is not None:
                contexts = contexts.within_documents(unscored_BL, scored_BL, v.mask_id)
            answers = None if corpus.oracle is None else corpus.oracle.posterior(contexts.inputs_BL)
            rate = tokens_per_byte_of(corpus, pool.tokens_BL, scored_BL)
            where = self._where(sampler, scored_BL) if name in ("block", "bound") else [WHOLE]
            context_sets.append(ContextSet(name, where, contexts, scored_BL, answers, rate, len(v)))
        cost = int(pool.answer_BL.sum(1).max()) * corpus.length
        questions = corpus.queries(min(self.questions, max(1, self.decoded // cost)), seed)
        listed = listed_contexts(corpus, everything_BL, seed)
        bindings = stale_bindings(corpus, self.contexts, seed)
        return ProbeSet(self, questions, context_sets, listed, bindings, v.mask_id, corpus.oracle, seed)

    def _samplers(
        self, corpus: Corpus, answer_BL: Tensor, everything_BL: Tensor
    ) -> Iterator[tuple[str, Blocks, Tensor]]:
        """(contexts, sampler, tokens that can be asked for) of every context set."""
        for grid in self.grids:
            for size in self.block_sizes:
                if size > 1 or grid is self.grids[0]:
                    yield "block", Blocks(size, grid=grid), answer_BL
        if self.split is Split.train or corpus.oracle is None:
            # a world's test split is a distribution of its own, known to its oracle and never shown in training: over
            # whole sequences the distance to it would measure that mismatch, not what was learned
            yield "ar", Blocks(1), everything_BL
            yield "random", Blocks(corpus.length), everything_BL
            for grid in self.grids:
                for size in (size for size in self.bounds if size < corpus.length - 1):
                    yield "bound", Blocks(size, grid=grid), everything_BL

    def _where(self, sampler: Blocks, scored_BL: Tensor) -> list[Row]:
        """The columns of block and grid, once for each grid that has these blocks."""
        return [
            {"block_size": sampler.size, "grid": str(grid), "offset": offset_of(scored_BL, sampler.size, grid)}
            for grid in (self.grids if sampler.size == 1 else (sampler.grid,))
        ]

    def measure(
        self, predict: Predict, corpus: Corpus, seed: int, left_to_right: bool = False, attention_size: int = 0
    ) -> list[Row]:
        """Rows of one measurement; see `ProbeSet.measure`."""
        return self.prepare(corpus, seed).measure(predict, left_to_right, attention_size)


@dataclass(frozen=True)
class ProbeSet:
    """A probe's questions, drawn once and asked of every model of a run. oracle: of the corpus, where it has one."""

    probe: Probe
    query: Query
    context_sets: list[ContextSet]
    listed: list[Listed]
    bindings: tuple[Stale, Posterior] | None
    mask_id: int
    oracle: Oracle | None
    seed: int

    def measure(self, predict: Predict, left_to_right: bool = False, attention_size: int = 0) -> list[Row]:
        """Rows with metric, contexts, value and the columns of records that say in which blocks, see
        `ablate.core.records`; domain and split are the probe's.

        left_to_right: on clean text predict reads only what is left of a token. Bits per byte under AR contexts are
        then exact, over every token, instead of sampled. attention_size: blocks in which the model attends, 0 for none.
        """
        rows = self._scores(predict, attention_size)
        for context_set in self.context_sets:
            first = self.probe.by_question and context_set is self.context_sets[0]
            rows += knowledge_rows(predict, context_set, left_to_right and context_set.name == "ar", first)
        rows += [row for listed in self.listed for row in memorisation_rows(predict, listed)]
        if self.bindings is not None:
            rows += spurious_rows(predict, *self.bindings)
        return [{"domain": str(self.probe.domain), "split": str(self.probe.split), **row} for row in rows]

    def _scores(self, predict: Predict, attention_size: int) -> list[Row]:
        prompt_BL, answer_BL = self.query.prompt(self.mask_id), self.query.answer_BL
        read = FirstPassShared(predict)
        found = [
            decode(
                read,
                prompt_BL,
                answer_BL,
                protocol,
                self.mask_id,
                seed=self.seed,
                oracle=self.oracle,
                attention_size=attention_size,
            )
            for protocol in self.probe.protocols
        ]
        found += [
            replace(decoded, protocol=replace(decoded.protocol, grid=grid))  # the same on every grid
            for decoded in found
            for grid in self.probe.grids[1:]
            if decoded.protocol.block_size == 1
        ]
        judge = self.oracle if self.probe.decoding else None  # which costs as much as a pass for each protocol
        return [row for decoded in found for row in score_rows(decoded, self.query, self.mask_id, judge)]


class FirstPassShared:
    """`predict`, but what it is asked first is read once: every protocol begins with the same questions."""

    def __init__(self, predict: Predict):
        self.predict = predict
        self.first: tuple[Tensor, Tensor] | None = None

    def __call__(self, tokens_BL: Tensor) -> Tensor:
        if self.first is None:
            self.first = tokens_BL, self.predict(tokens_BL)
        asked_BL, logp_BLV = self.first
        return logp_BLV if torch.equal(asked_BL, tokens_BL) else self.predict(tokens_BL)

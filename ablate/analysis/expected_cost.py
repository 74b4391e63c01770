"""What tables that share nothing between contexts would pay at inference, averaged over a run's training.

Each adds 1/2 to its counts, of the whole vocabulary or of C(c), which only the null theory's table knows. After t
steps an objective has shown a context c about n(t) pi_train(c) times, n(t) being the tokens scored so far. The expected
excess at the contexts of inference is then exact (`Tabular.excess`), but for pi_train(c), which is estimated from a
sample. The mean over the steps of a run is in bits a token, as the mean of measured excess bits is.

Shapes: C contexts, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ablate.analysis.context_visits import Answers, Questions, Visits, canonical_keys, essential, questions
from ablate.analysis.tabular_learner import Tabular
from ablate.core.corpus import Corpus, Domain, Split
from ablate.core.rng import address
from ablate.evaluation.contexts import Blocks, ContextSampler, RandomMasks
from ablate.evaluation.metrics import hill_numbers

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Showing:
    """What an objective shows in training: its contexts, and the share of a sequence's tokens that it scores."""

    sampler: ContextSampler
    share: float


SHOWN = {"ar": Showing(Blocks(1), 1.0), "bidllm": Showing(RandomMasks(), 0.5)}


@dataclass(frozen=True)
class Expected:
    """Of one objective, means over the horizon, in bits a token. cost: of the table over the vocabulary. known: of the
    one that knows C(c), about (K-1)/(2n). visits: the first in a world in which each context has one answer, so that
    visits alone count. k, entropy: mean K_1, and mean entropy in bits, of the contexts that training shows."""

    cost: float
    known: float
    visits: float
    k: float
    entropy: float


def expected(
    corpus: Any, looks: Sequence[int], batch: int, sample: int, seed: int, shown: Mapping[str, Showing] = SHOWN
) -> dict[str, Expected]:
    """Of each objective on the new domain of a world, over steps 0..looks[-1].

    looks: steps, from which the mean over training is taken by trapezoids. sample: contexts that are drawn of each
    objective, and of inference: AR's, of every token of fresh sequences. Raises ValueError for a corpus without an
    oracle.
    """
    if corpus.oracle is None:
        raise ValueError(f"corpus={corpus.name}: wanted a world with an oracle; type corpus=trace")
    read = replace(corpus, domain=Domain.new, split=Split.train)
    samplers = {"": Blocks(1), **{name: one.sampler for name, one in shown.items()}}
    keys, truth = _keyed(read, [_asked(read, sampler, sample, i, seed) for i, sampler in enumerate(samplers.values())])
    infer, *trained = (slice(i * sample, (i + 1) * sample) for i in range(len(samplers)))
    there = Visits.of(keys[infer], truth.part(infer))
    found = {}
    for (name, one), part in zip(shown.items(), trained, strict=True):
        tokens = [step * batch * one.share * (corpus.length - 1) for step in (0, *looks)]
        met = Counter(keys[part])
        hill = hill_numbers(truth.p_QV[part], truth.support_QV[part])
        paid = _mean_costs(there, met, tokens, corpus.vocabulary.mask_id)
        found[name] = Expected(**paid, k=float(hill.k1.mean()), entropy=float(hill.k1.log2().mean()))
    return found


def _asked(corpus: Any, sampler: ContextSampler, sample: int, part: int, seed: int) -> Questions:
    """As many asked tokens of as many sequences, other ones for each part; each counts once, whatever it weighs in the
    loss: so a table counts."""
    tokens_BL = corpus.batch(range(part * sample, (part + 1) * sample), seed)
    scored_BL = torch.ones_like(tokens_BL, dtype=torch.bool)
    scored_BL[:, 0] = False
    contexts = sampler.draw(tokens_BL, scored_BL, corpus.vocabulary.mask_id, address(seed, "expected", part) % 2**63)
    return questions(replace(contexts, weight_BL=contexts.count_BL), sample, seed)


def _keyed(corpus: Corpus, parts: list[Questions]) -> tuple[list[Hashable], Answers]:
    """Canonical keys and answers of all parts together."""
    together = Questions.joined(parts)
    kept, truth = essential(corpus.oracle, together, corpus.vocabulary.mask_id)  # type: ignore[arg-type]  # has one
    return canonical_keys(kept, truth, corpus.vocabulary.mask_id, corpus.vocabulary.names), truth


def _mean_costs(infer: Visits, met: Counter[Hashable], tokens: Sequence[float], vocabulary: int) -> dict[str, float]:
    """Mean over the horizon of each table's expected excess, the contexts of inference weighted as they came."""
    keys = list(infer.counts)
    weight_C = np.array([infer.counts[key] for key in keys]) / sum(infer.counts.values())
    share_C = _shares(keys, met)
    p_CV, support_CV = (np.stack([table[key] for key in keys]) for table in (infer.p, infer.support))
    whole_CV = np.broadcast_to(np.arange(p_CV.shape[1]) < vocabulary, p_CV.shape)
    certain_CV = np.eye(p_CV.shape[1])[p_CV.argmax(1)]
    found = {}
    for name, possible_CV, true_CV in (
        ("cost", whole_CV, p_CV),
        ("known", support_CV, p_CV),
        ("visits", whole_CV, certain_CV),
    ):
        paid = [float(weight_C @ Tabular(possible_CV).excess(true_CV, round(n), share_C)) for n in tokens]
        found[name] = float(np.trapezoid(paid, tokens) / tokens[-1])
    return found


def _shares(keys: Sequence[Hashable], met: Counter[Hashable]) -> Array:
    """Estimated share of training that each context has. Those that were not met share their whole mass (Good, 1953)
    alike, over as many as there are at least (Chao, 1984)."""
    total, once, twice = sum(met.values()), *(sum(n == k for n in met.values()) for k in (1, 2))
    others = once * (once - 1) / (2 * (twice + 1))
    unmet = once / total / others if others else 0.0
    return np.array([(met[key] / total if key in met else unmet) for key in keys])

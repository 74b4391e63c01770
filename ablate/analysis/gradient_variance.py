"""Where the noise of a gradient comes from, at fixed parameters: which data, which mask rates, which masks.

By the law of total variance, Var g = Var E[g | x] + E Var E[g | x, t] + E Var[g | x, t] for sequences x, levels t and
masks; each is estimated without bias by a balanced nested design (Searle, Casella & McCulloch, 1992, ch. 3). Variances
of gradients are traces: sums over all parameters.

Shapes: X sequences, T levels of each, Z masks of each level.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ablate.core.corpus import Corpus, unscored
from ablate.model.transformer import Transformer
from ablate.noise.options import BatchAddress
from ablate.objectives.loss import score
from ablate.objectives.problem import Objective

Array = np.ndarray[Any, Any]
MOST = 10_000  # sequences: a constant in their addresses, so that noise does not depend on how many there are


@dataclass(frozen=True)
class Parts:
    """Variance components, per sequence. mean_square: squared norm of the mean. Estimates may fall below 0."""

    data: float
    rate: float
    mask: float
    mean_square: float

    @property
    def total(self) -> float:
        return self.data + self.rate + self.mask


@dataclass(frozen=True)
class Sums:
    """What the components are made of, by sequence: the mean over its T * Z vectors, as a Gram matrix over sequences,
    and the means of squared norms of single vectors and of level means."""

    gram_XX: Array
    square_X: Array
    level_square_X: Array
    levels: int
    masks: int

    def parts(self, kept: Array | None = None) -> Parts:
        """Components from all sequences, or those kept. Raises ValueError for a design without replicates."""
        x = np.arange(len(self.square_X)) if kept is None else kept
        if min(len(x), self.levels, self.masks) < 2:
            came = f"{len(x)}, {self.levels} and {self.masks}"
            raise ValueError(f"variance: wanted at least 2 sequences, levels and masks, got {came}")
        gram, own = self.gram_XX[np.ix_(x, x)], np.diag(self.gram_XX)[x]
        overall = float(gram.mean())
        mask = float((self.square_X[x] - self.level_square_X[x]).mean()) * self.masks / (self.masks - 1)
        between_levels = float((self.level_square_X[x] - own).mean()) * self.levels / (self.levels - 1)
        between_data = (float(own.mean()) - overall) * len(x) / (len(x) - 1)
        return Parts(
            between_data - between_levels / self.levels,
            between_levels - mask / self.masks,
            mask,
            overall - between_data / len(x),
        )

    def errors(self) -> Parts:
        """Standard errors by the jackknife over sequences."""
        count = len(self.square_X)
        left_out = [dataclasses.astuple(self.parts(np.delete(np.arange(count), i))) for i in range(count)]
        return Parts(*(np.sqrt((count - 1) * np.var(left_out, axis=0))).tolist())


def nested(vectors_XTZP: Tensor) -> Sums:
    """Sums of given vectors, for a design that fits into memory."""
    t, z = vectors_XTZP.shape[1:3]
    levels_XTP = vectors_XTZP.mean(2)
    means_XP = levels_XTP.mean(1)
    return Sums(
        (means_XP @ means_XP.T).numpy(),
        vectors_XTZP.square().sum(-1).mean((1, 2)).numpy(),
        levels_XTP.square().sum(-1).mean(1).numpy(),
        t,
        z,
    )


def gradient_sums(
    network: Transformer, objective: Objective, corpus: Corpus, seed: int, sequences: int, rates: int, masks: int
) -> tuple[Sums, Sums]:
    """Sums of the gradient, and of the loss (nats a scorable token), of single sequences under an objective.

    Levels should be independent of each other: give objectives `strata=none`. One without noise gives the same vector
    each time, so its rate and mask parts are 0.
    """
    parameters, v = list(network.parameters()), corpus.vocabulary
    tokens_XL = corpus.batch(range(sequences), seed)
    scorable = (
        float((~unscored(tokens_XL, v.boundary)).sum()) / sequences
    )  # as in training, where losses are summed first
    losses_XTZ1 = torch.zeros(sequences, rates, masks, 1, dtype=torch.float64)
    squares, level_squares, means = [], [], []
    for i in range(sequences):
        levels = []
        for j in range(rates):
            drawn = []
            for k in range(masks):
                tokens_1L = tokens_XL[i : i + 1]
                problem = objective.pose(tokens_1L, BatchAddress(seed, j, np.array([i]), MOST, k), v)
                loss = score(network, problem, scorable).loss
                drawn.append(_flat(torch.autograd.grad(loss, parameters, allow_unused=True), parameters))
                losses_XTZ1[i, j, k] = float(loss.detach())
            levels.append(torch.stack(drawn))
        found = nested(torch.stack(levels)[None])
        squares.append(found.square_X)
        level_squares.append(found.level_square_X)
        means.append(torch.stack(levels).mean((0, 1)))
    means_XP = torch.stack(means).double()
    gram_XX = (means_XP @ means_XP.T).numpy()
    gradients = Sums(gram_XX, np.concatenate(squares), np.concatenate(level_squares), rates, masks)
    return gradients, nested(losses_XTZ1)


def _flat(gradients: tuple[Tensor | None, ...], parameters: list[torch.nn.Parameter]) -> Tensor:
    """One vector, double: differences of squares lose digits."""
    parts = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
    return torch.cat([part.flatten() for part in parts]).double()


def scored_share(objective: Objective, corpus: Corpus, seed: int, sequences: int) -> float:
    """Mean share of scorable tokens that are scored, over all copies of a sequence."""
    address, v = BatchAddress(seed, 0, np.arange(sequences), sequences), corpus.vocabulary
    tokens_XL = corpus.batch(range(sequences), seed)
    problem = objective.pose(tokens_XL, address, v)
    return float((problem.weight_RL > 0).sum()) / int((~unscored(tokens_XL, v.boundary)).sum())

"""Floating-point operations of a training step: what is computed, and what convention counts.

Shapes: R rows that the network reads for one sequence, L positions, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

from ablate.compute.device import Recompute
from ablate.model.attention import Attention, Pattern
from ablate.model.config import ModelConfig

TRAINED = 3  # a product of matrices and its two gradients
FORMULA = (
    "FLOPs a processed token = 6 * (matrix parameters + width * vocabulary) + 12 * layers * heads * head width * "
    "length; MFU = that * processed tokens a second / the device's peak"
)


def visible_pairs(pattern: Pattern, length: int) -> tuple[int, int]:
    """Pairs of query and key that may see each other in one pass over one sequence: of the noisy copies (or of the
    sequence as it is), and of the clean sequence below them."""
    if pattern.kind is Attention.full:
        return length * length, 0
    if pattern.kind is Attention.causal:
        return length * (length + 1) // 2, 0
    if pattern.kind is Attention.anticausal:
        others = length - 1  # position 0 sees itself alone, the others it and what is right of them
        return 1 + others * (others + 1) // 2 + others, 0
    whole, short = divmod(length, pattern.size)
    pairs = pattern.size**2 * whole * (whole + 1) // 2 + short * length
    return (pattern.draws * pairs, pairs) if pattern.draws else (pairs, 0)


@dataclass(frozen=True)
class Work:
    """FLOPs of training on one sequence of `length` tokens, of which `scored` outputs are scored.

    The network reads 1 row, or as many noisy copies as the pattern has and the clean sequence. Counted are products of
    matrices and attention; the rest is less than a hundredth of it.
    """

    shape: ModelConfig
    vocabulary: int
    pattern: Pattern
    length: int
    scored: float

    @property
    def rows(self) -> int:
        """Tokens that are processed for each clean one."""
        return self.pattern.draws + 1

    @property
    def matrices(self) -> float:
        """Of the layers' and the head's matrices, backward pass included, as the network multiplies them."""
        head = self.scored * self.shape.width * self.vocabulary
        return 2 * TRAINED * (sum(self._layer(i)[0] for i in range(self.shape.layers)) + head)

    @property
    def attention(self) -> float:
        """Of scores and mixtures of pairs that see each other, backward pass included."""
        return 2 * TRAINED * sum(self._layer(i)[1] for i in range(self.shape.layers))

    @property
    def computed(self) -> float:
        """All of it, nothing recomputed."""
        return self.matrices + self.attention

    @property
    def convention(self) -> float:
        """As MFU counts: every row as if it were read whole, every output scored, every key seen."""
        return float(self.shape.flops(self.length, self.vocabulary)) * self.length * self.rows

    def again(self, recompute: Recompute, every: int = 1) -> float:
        """What is computed a second time where every `every`-th layer recomputes its activations: its forward pass but
        for the last matrix, whose output no gradient needs. Selective recomputation keeps all products."""
        if recompute is not Recompute.full:
            return 0.0
        unneeded = self.shape.hidden * self.shape.width * self.length
        return sum(2 * (sum(self._layer(i)) - self._rows(i) * unneeded) for i in range(0, self.shape.layers, every))

    def _rows(self, i: int) -> int:
        """Rows whose outputs layer i makes: the last one not those of the clean sequence, if nothing is read there."""
        spared = i == self.shape.layers - 1 and self.pattern.draws > 0 and not self.pattern.clean_outputs
        return self.rows - spared

    def _layer(self, i: int) -> tuple[int, int]:
        """Multiplications of layer i's forward pass, by its matrices and by attention."""
        shape, rows = self.shape, self._rows(i)
        keys = 2 * shape.width * shape.kv_heads * shape.head_width  # parameters of what is made of every row
        asked, clean = visible_pairs(self.pattern, self.length)
        pairs = asked + (clean if rows == self.rows else 0)
        products = self.rows * keys + rows * (shape.matrices // shape.layers - keys)
        return products * self.length, 2 * shape.heads * shape.head_width * pairs

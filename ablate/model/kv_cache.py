"""Keys and values of what a network has read, kept so that they need not be made again.

Shapes: B sequences, R rows of them that are read in a pass, H heads of keys, L positions, T places read, D head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablate.model.config import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Past:
    """What one layer keeps (B, H, L, D), as one pass reads and writes it: the places (R, T) of the rows (R,); keys are
    seen of the first `length` places. row_R None: all rows, and all at the same places, which costs no copies."""

    keys_BHLD: Tensor
    values_BHLD: Tensor
    row_R: Tensor | None
    place_RT: Tensor
    length: int

    def put(self, k_RHTD: Tensor, v_RHTD: Tensor) -> tuple[Tensor, Tensor]:
        """Keeps those of the places; returns those of the rows so far, (R, H, length, D)."""
        return self._put(self.keys_BHLD, k_RHTD), self._put(self.values_BHLD, v_RHTD)

    def _put(self, kept_BHLD: Tensor, fresh_RHTD: Tensor) -> Tensor:
        if self.row_R is None:
            kept_BHLD[:, :, self.length - fresh_RHTD.shape[2] : self.length] = fresh_RHTD
            return kept_BHLD[:, :, : self.length]
        kept_BHLD[self.row_R[:, None], :, self.place_RT] = fresh_RHTD.transpose(1, 2)
        return kept_BHLD[self.row_R, :, : self.length]


class KeyValueCache:
    """Keys and values of all layers. Which of them are final is for the reader to know."""

    def __init__(self, config: ModelConfig, rows: int, length: int, like: Tensor):
        shape = rows, config.kv_heads, length, config.head_width
        self.layers = [(like.new_zeros(shape), like.new_zeros(shape)) for _ in range(config.layers)]

    def pasts(self, row_R: Tensor, place_RT: Tensor, length: int) -> list[Past]:
        """A pass over these places, one after another, of these rows, each once; layer by layer. The last place of the
        row that has come farthest is `length` - 1."""
        alike = len(row_R) == len(self.layers[0][0]) and bool((place_RT[:, 0] == place_RT[0, 0]).all())
        return [Past(keys, values, None if alike else row_R, place_RT, length) for keys, values in self.layers]

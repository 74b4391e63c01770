"""The data feed: micro-batches of the training steps, the same whichever process or worker asks.

Shapes: B rows of this process and micro-batch, L positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ablate.core import rng
from ablate.core.child_processes import spawning
from ablate.core.corpus import Corpus, unscored
from ablate.noise.options import BatchAddress

AHEAD = 2**14  # tokens that are made at once, whole micro-batches: a world's cost a call as much as thousands of tokens
NOISE_AHEAD = 2**13  # tokens whose masks are drawn at once: 140 kB a seed
LISTED = 2**22  # sequences up to which an epoch's order is listed, in .2 s; of more, places are looked up one by one


class Batch(NamedTuple):
    """A micro-batch of one process. scorable: tokens of the whole global batch that can be scored."""

    tokens_BL: Tensor
    address: BatchAddress
    scorable: int


@dataclass(frozen=True)
class DataFeed(Dataset):
    """Micro-batches of the training steps first..first+steps: item i is the same whichever process or worker asks.

    unique: sequences that there are, 0 if every one is fresh; they come in a new order with new noise every epoch.
    noise: number of the draw of the noise; the same data come under each.
    """

    corpus: Corpus
    seed: int
    batch: int
    accumulate: int
    first: int
    steps: int
    rank: int = 0
    world: int = 1
    unique: int = 0
    noise: int = 0
    counted: dict[int, int] = field(default_factory=dict, compare=False, repr=False)  # of the last step, see `scorable`
    ahead: dict[int, Tensor] = field(
        default_factory=dict, compare=False, repr=False
    )  # items that are made, see `_made`

    def __len__(self) -> int:
        return self.steps * self.accumulate

    def __getitem__(self, i: int) -> Batch:
        if i not in self.ahead:
            self._make(i)
        address = self._address(i)
        return Batch(self.ahead[i], address, self.scorable(address))

    def _address(self, i: int) -> BatchAddress:
        step, part = divmod(i, self.accumulate)
        size = self.batch // (self.accumulate * self.world)
        start = (part * self.world + self.rank) * size
        seed = rng.address(self.seed, "noise", self.noise) if self.noise else self.seed
        ahead = max(1, NOISE_AHEAD // (size * self.corpus.length))
        return BatchAddress(seed, self.first + step, np.arange(start, start + size), self.batch, ahead=ahead)

    def _make(self, i: int) -> None:
        """Reads item i and those that follow; a worker of the loader reads it alone, as it is asked for others."""
        rows = self._address(i).sample_numbers
        count = 1 if get_worker_info() else max(1, AHEAD // (len(rows) * self.corpus.length))
        items = range(i, min(i + count, len(self)))
        numbers = np.concatenate([self.sequences(self._address(item).sample_numbers) for item in items])
        self.ahead.clear()
        self.ahead.update(zip(items, self.corpus.batch(numbers, self.seed).split(len(rows)), strict=True))

    def scorable(self, address: BatchAddress) -> int:
        """Tokens of the global batch that can be scored. Where windows hold several documents all of them are read for
        it: that costs less than an exchange between processes, and is the same for any number of these."""
        boundary = self.corpus.vocabulary.boundary
        if boundary is None:
            return self.batch * (self.corpus.length - 1)
        if address.step not in self.counted:  # else every micro-batch would read the whole step's sequences
            everything_BL = self.corpus.batch(self.sequences(address.whole_batch.sample_numbers), self.seed)
            self.counted.clear()
            self.counted[address.step] = int((~unscored(everything_BL, boundary)).sum())
        return self.counted[address.step]

    def sequences(self, addresses: np.ndarray) -> np.ndarray:
        """Number of the sequence that is read at each address."""
        if not self.unique:
            return addresses
        epochs, places = np.divmod(addresses, self.unique)
        numbers = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            numbers[here] = _shuffled(self.seed, epoch, self.unique, places[here])
        return numbers


def _shuffled(seed: int, epoch: int, unique: int, places: np.ndarray) -> np.ndarray:
    """What an epoch's order of so many sequences has at these places."""
    if unique > LISTED:
        return rng.permuted(seed, "epoch", epoch, unique, places)
    return _order(seed, epoch, unique)[places]


@lru_cache(maxsize=2)  # a batch lies in one epoch or two
def _order(seed: int, epoch: int, unique: int) -> np.ndarray:
    return rng.generator(seed, "epoch", epoch).permutation(unique)


@dataclass(frozen=True)
class PackFeed(Dataset):
    """The feeds of runs that train together: item i has the i-th micro-batch of each."""

    feeds: tuple[DataFeed, ...]

    def __len__(self) -> int:
        return len(self.feeds[0])

    def __getitem__(self, i: int) -> list[Batch]:
        return [feed[i] for feed in self.feeds]


def loader(feeds: Sequence[DataFeed], workers: int) -> DataLoader:
    """The feeds as a Lightning data loader. Items are whole micro-batches, the same whichever worker makes them."""
    context = spawning() if workers else None  # a fork would copy locks that other threads hold
    whole = PackFeed(tuple(feeds))
    return DataLoader(whole, batch_size=None, shuffle=False, num_workers=workers, multiprocessing_context=context)

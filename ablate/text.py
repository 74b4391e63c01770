"""Real text: the standard library's source, or a user's own folder, in windows of byte-level BPE tokens.

The general domain is English, the new domain what is to be learned. Token ids come from `ablate.shards`; a law's
documents are joined and cut into windows that do not overlap.

Shapes: B sequences, L positions, T tokens of a law, W windows of a law.
"""

from __future__ import annotations

import functools
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ablate.corpus import SPLITS, Domain, Query, Split, Vocabulary, choice_of, split_of
from ablate.files import Shelf, code_shelf, english_shelf, folder_shelf
from ablate.seeds import generator
from ablate.shards import Packed, cached
from ablate.store import digest

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]


@dataclass
class RealText(ABC):
    """What the corpora of real text share; they differ in where documents come from.

    tokens: size of the vocabulary apart from MASK (BPE may find fewer). length: tokens in a window, L.
    answer: tokens at a window's end that a question asks for. max_bytes: UTF-8 bytes used of each domain.
    cache: folder of the token ids; empty means $ABLATE_CACHE, or ~/.cache/ablate where that is not set.
    The separator and MASK stand for 0 bytes. Raises ValueError for sizes out of range.
    """

    name: ClassVar[str]
    splits: ClassVar[tuple[Split, ...]] = SPLITS
    tokens: int = 512
    length: int = 128
    answer: int = 32
    max_bytes: int = 4_000_000
    cache: str = ""
    domain: Domain = Domain.new
    split: Split = Split.train

    def __post_init__(self) -> None:
        self.domain, self.split = choice_of(Domain, "domain", self.domain), split_of(self, self.split, self.splits)
        _require("tokens", self.tokens, 257, 65_535, 512)  # 256 bytes and the separator
        _require("length", self.length, 2, 1_048_576, 128)
        _require("answer", self.answer, 1, self.length - 1, min(32, self.length // 2))
        _require("max_bytes", self.max_bytes, 1, 2**40, 4_000_000)

    @abstractmethod
    def shelves(self) -> dict[Domain, Shelf]:
        """The files of both domains; where a file is on both, the first domain keeps it. Raises ValueError."""

    def check(self) -> None:
        """Build or load the data now, so that a fault shows before anything else is written.

        Raises ValueError for a missing folder, for one without a usable document, for a law (domain, split) that
        is shorter than one window and for a cache that cannot be written. Every first use of the data does the same.
        """
        _ = self._packed

    @property
    def vocabulary(self) -> Vocabulary:
        return self._packed.vocabulary

    @property
    def oracle(self) -> None:
        return None

    @property
    def empirical(self) -> None:
        return None

    def batch(self, indices: Sequence[int] | Array, seed: int) -> Tensor:
        """(B, L) int64. Each run of W indices from a multiple of W is an epoch: every window once, in a new order."""
        return self._draw(np.asarray(indices, dtype=np.int64), seed, "text")

    def queries(self, n: int, seed: int) -> Query:
        """n windows of this law, all different while n <= W; the last `answer` tokens are asked for.

        verify: share of them equal to the reference. That is agreement with one continuation, not correctness.
        """
        import torch

        tokens_BL = self._draw(np.arange(n), seed, "text/queries")
        answer_BL = torch.zeros_like(tokens_BL, dtype=torch.bool)
        answer_BL[:, -self.answer :] = True

        def verify(decoded_BL: Tensor) -> Tensor:
            return (decoded_BL == tokens_BL)[:, -self.answer :].double().mean(1)

        return Query(tokens_BL, answer_BL, verify)

    def stale(self, n: int, seed: int) -> None:
        return None

    def fingerprint(self) -> str:
        """Hash of this law's token ids, of the tokeniser and of how they are cut."""
        files = [self._packed.sha256[file] for file in (f"{self._law}.npy", "tokenizer.json")]
        return digest([files, self._law, self.length, self.answer])

    @property
    def _law(self) -> str:
        return f"{self.domain}.{self.split}"

    @cached_property
    def _packed(self) -> Packed:
        root = Path(self.cache or os.environ.get("ABLATE_CACHE") or "~/.cache/ablate").expanduser()
        packed = cached(root, self.shelves(), self.tokens, self.max_bytes)
        law, ids_T = min(packed.ids_T.items(), key=lambda item: len(item[1]))
        if len(ids_T) < self.length:
            raise ValueError(
                f"{self.name}: the law {law} has {len(ids_T)} tokens, wanted at least one window of {self.length}; "
                f"add text to that domain, or try a smaller corpus.length or a larger corpus.max_bytes than "
                f"{self.max_bytes}"
            )
        return packed

    @cached_property
    def _windows_WL(self) -> Array:
        ids_T = self._packed.ids_T[self._law]
        return ids_T[: len(ids_T) // self.length * self.length].reshape(-1, self.length)

    def _draw(self, indices: Array, seed: int, stream: str) -> Tensor:
        import torch

        epochs, places = np.divmod(indices, len(self._windows_WL))
        rows = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            here, law = epochs == epoch, f"{stream}/{self.domain}/{self.split}"
            rows[here] = _permutation(len(self._windows_WL), seed, law, epoch)[places[here]]
        return torch.from_numpy(self._windows_WL[rows].astype(np.int64))


@dataclass
class PythonSource(RealText):
    """Real text that every machine has: Python's standard library, and the English with it.

    New: the library's source files, without their tests. General: the English of the same installation, see
    `english_shelf`; its files are no part of the new domain.
    Differs between Python versions: compare fingerprints before comparing records of two machines.
    """

    name: ClassVar[str] = "python_source"

    def shelves(self) -> dict[Domain, Shelf]:
        return {Domain.new: code_shelf(), Domain.general: english_shelf()}


@dataclass
class Text(RealText):
    """The user's own text, out of a folder.

    New: `folder`; general: the folder `general`, or where empty PythonSource's English.
    Reads .py .txt .md files and the rows (`text`, else `content`) of .jsonl and .parquet; hidden names are left out.
    Files that cannot be used are named on stderr when the data are built.
    """

    name: ClassVar[str] = "text"
    folder: str = ""
    general: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for place, folder in (("folder", self.folder), ("general", self.general)):
            if folder and not Path(folder).expanduser().is_dir():
                raise ValueError(f"corpus.{place}: wanted a folder, got {folder!r}, which is none; "
                                 f"try corpus.{place}=PATH")  # fmt: skip

    def shelves(self) -> dict[Domain, Shelf]:
        if not self.folder:
            raise ValueError("corpus.folder: wanted the folder with your text, got nothing; try corpus.folder=PATH")
        general = folder_shelf(self.general) if self.general else english_shelf()
        return {Domain.new: folder_shelf(self.folder), Domain.general: general}


@functools.lru_cache(maxsize=8)
def _permutation(windows: int, seed: int, stream: str, epoch: int) -> Array:
    return generator(seed, stream, epoch).permutation(windows)


def _require(field: str, value: int, least: int, most: int, example: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"corpus.{field}: wanted {least} to {most}, got {value}; try corpus.{field}={example}")

"""Real text: the standard library's source, or a user's own folder, in windows of tokens.

The general domain is English, the new domain what is to be learned. Token ids come from `ablate.text.dataset_cache`; a
split's documents are cut into windows that do not overlap, joined or each by itself.

Shapes: B sequences, L positions, W windows of a split.
"""

from __future__ import annotations

import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ablate.core.corpus import SPLITS, Domain, Query, Split, Vocabulary, choice_of, split_of, unscored
from ablate.core.storage import LATER, digest
from ablate.core.validation import Rules, path_of, refuse, require, require_range, require_ranges
from ablate.text import tokenizer as tokenizers
from ablate.text.dataset_build import Recipe
from ablate.text.dataset_cache import Packed, cached
from ablate.text.near_duplicates import Duplicates
from ablate.text.packing import Array, Packing, Windows
from ablate.text.sources import Shelf, code_shelf, english_shelf, folder_shelf

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class RealText(ABC):
    """What the corpora of real text share; they differ in where documents come from.

    tokens: size of the vocabulary apart from MASK (BPE may find fewer). length: tokens in a window, L. answer: tokens
    at a window's end that a question asks for. max_bytes: UTF-8 bytes used of each domain. duplicates: which documents
    are left out as having been there before. tokenizer: a checkpoint's tokenizer.json, or its folder, in place of BPE
    learned from the text; then separator and mask_token name tokens of it, and where empty the checkpoint says (see
    `ablate.text.tokenizer.checkpoint_tokenizer`). packing: see `Packing`. eos: whether every document ends with the
    separator.
    document_mask: is attention limited to documents? Then `vocabulary.boundary` is the separator. workers: processes
    that tokenize; 0 for one where the data are small, else one a core; they change no token. cache: folder of the token
    ids; empty means $ABLATE_CACHE, or ~/.cache/ablate where that is not set. The separator and MASK stand for 0 bytes.
    Raises ValueError for sizes out of range and illegal combinations.
    """

    name: ClassVar[str]
    splits: ClassVar[tuple[Split, ...]] = SPLITS
    tokens: int = 512
    length: int = 128
    answer: int = 32
    max_bytes: int = 4_000_000
    duplicates: Duplicates = field(default=Duplicates.near, metadata=LATER)
    tokenizer: str = field(default="", metadata=LATER)
    separator: str = field(default="", metadata=LATER)
    mask_token: str = field(default="", metadata=LATER)
    packing: Packing = field(default=Packing.joined, metadata=LATER)
    eos: bool = field(default=True, metadata=LATER)
    document_mask: bool = field(default=False, metadata=LATER)
    workers: int = field(default=0, metadata=LATER)
    cache: str = ""
    domain: Domain = Domain.new
    split: Split = Split.train

    def __post_init__(self) -> None:
        self.domain, self.split = choice_of(Domain, "domain", self.domain), split_of(self.name, self.split, self.splits)
        self.duplicates = choice_of(Duplicates, "duplicates", self.duplicates)
        self.packing = choice_of(Packing, "packing", self.packing)
        require_range("corpus.tokens", self.tokens, 257, 65_535, example=512)  # 256 bytes and the separator
        require_range("corpus.length", self.length, 2, 1_048_576, example=128)
        require_range("corpus.answer", self.answer, 1, self.length - 1, example=min(32, self.length // 2))
        require_ranges(self, {"max_bytes": (1, 2**40), "workers": (0, 1024)}, "corpus.")
        refuse(self._rules())

    def _rules(self) -> Rules:
        needs = "document_mask=true" if self.document_mask else "packing=padded"
        yield (
            self.eos or not (self.document_mask or self.packing is Packing.padded),
            f"corpus.eos=false: documents must end with the separator for corpus.{needs}, which tells "
            "them apart by it; type corpus.eos=true",
        )
        message = f"corpus.tokens={self.tokens}: has no effect with corpus.tokenizer, whose ids are kept; leave it out"
        yield not self.tokenizer or self.tokens == RealText.tokens, message
        for name, value in (("separator", self.separator), ("mask_token", self.mask_token)):
            yield (
                not value or bool(self.tokenizer),
                f"corpus.{name}={value}: names a token of corpus.tokenizer, which is not set; "
                "try corpus.tokenizer=PATH",
            )

    @abstractmethod
    def shelves(self) -> dict[Domain, Shelf]:
        """The files of both domains; where a file is on both, the first domain keeps it. Raises ValueError."""

    def check(self) -> None:
        """Build or load the data now, so that a fault shows before anything else is written.

        Raises ValueError for a missing folder, for one without a usable document, for a split (domain, split) that
        is shorter than one window and for a cache that cannot be written. Every first use of the data does the same.
        """
        _ = self._packed

    @property
    def vocabulary(self) -> Vocabulary:
        boundary = self.built_tokenizer.separator[1] if self.document_mask else None
        return dataclasses.replace(self._packed.vocabulary(self._key), boundary=boundary)

    @property
    def built_tokenizer(self) -> tokenizers.TextTokenizer:
        return self._packed.tokenizer

    @property
    def byte_scale(self) -> float:
        """Bytes of this split's texts over those that its tokens stand for by themselves: 1 where the tokenizer changes
        no text."""
        return self._packed.byte_scale.get(self._key, 1.0)

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
        """n windows of this split, all different while there are so many; the last `answer` tokens are asked for.

        Padding and unscored tokens are not asked for, and windows of nothing else are passed over. Raises ValueError
        where all are such. verify: share of a row's answer equal to the reference. That is agreement with one
        continuation, not correctness.
        """
        import torch

        rows_BL = self._draw(np.arange(min(n, 1)), seed, "text/queries")[:0]
        answers_BL, seen = rows_BL.bool(), 0
        while len(rows_BL) < n:
            fresh_BL = self._draw(np.arange(seen, seen + n - len(rows_BL)), seed, "text/queries")
            answer_BL = self._answers(fresh_BL)
            seen, asked_B = seen + len(fresh_BL), answer_BL.any(1)
            rows_BL, answers_BL = torch.cat((rows_BL, fresh_BL[asked_B])), torch.cat((answers_BL, answer_BL[asked_B]))
            if not len(rows_BL) and seen > len(self._windows):
                raise ValueError(
                    f"{self.name}: no window of {self._key} has a token to be asked for; try a larger corpus.length"
                )

        def verify(decoded_BL: Tensor) -> Tensor:
            return ((decoded_BL == rows_BL) & answers_BL).sum(1) / answers_BL.sum(1).double()

        return Query(rows_BL, answers_BL, verify)

    def stale(self, n: int, seed: int) -> None:
        return None

    def fingerprint(self) -> str:
        """Hash of this split's token ids, of the tokenizer and of how they are cut and read."""
        files = [self._packed.sha256[name] for name in (self._key, "tokenizer")]
        return digest([files, self._key, self.length, self.answer, self.packing, self.eos, self.document_mask])

    @property
    def _key(self) -> str:
        return f"{self.domain}.{self.split}"

    @cached_property
    def _packed(self) -> Packed:
        root = path_of("corpus.cache", self.cache or os.environ.get("ABLATE_CACHE") or "~/.cache/ablate")
        tokenizer = (
            tokenizers.checkpoint_tokenizer(self.tokenizer, self.separator, self.mask_token) if self.tokenizer else None
        )
        recipe = Recipe(self.shelves(), self.tokens, self.max_bytes, self.duplicates, self.eos, tokenizer)
        packed = cached(root, recipe, self.workers)
        split, tokens = min(packed.splits.items(), key=lambda item: len(item[1]))
        if len(tokens) < (self.length if self.packing is Packing.joined else 1):
            raise ValueError(
                f"{self.name}: the split {split} has {len(tokens)} tokens, wanted at least one "
                f"window of {self.length}; "
                f"add text to that domain, or try a smaller corpus.length or a larger corpus.max_bytes than "
                f"{self.max_bytes}"
            )
        return packed

    @cached_property
    def _windows(self) -> Windows:
        padded = self.packing is Packing.padded
        lengths_D = self._packed.lengths(self.domain, self.split) if padded else None
        return Windows(self._packed.splits[self._key], self.length, self._packed.tokenizer.separator[1], lengths_D)

    def _answers(self, tokens_BL: Tensor) -> Tensor:
        """(B, L) bool: the last `answer` tokens of each row that are neither unscored nor padding."""
        apart = self.document_mask or self.packing is Packing.padded
        free_BL = ~unscored(tokens_BL, self._packed.tokenizer.separator[1] if apart else None)
        return free_BL & (free_BL.flip(1).cumsum(1).flip(1) <= self.answer)

    def _draw(self, indices: Array, seed: int, stream: str) -> Tensor:
        import torch

        split = f"{stream}/{self.domain}/{self.split}"
        return torch.from_numpy(self._windows.rows(self._windows.shuffled(indices, seed, split)))


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
    Reads .py .txt .md files and the rows (`text`, else `content`) of .jsonl, .parquet and of data sets that
    `datasets` has saved to disk; hidden names are left out. follow: are files read to which links out of a folder lead?
    Files that cannot be used are named on stderr when the data are built.
    """

    name: ClassVar[str] = "text"
    folder: str = ""
    general: str = ""
    follow: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        for place, folder in (("folder", self.folder), ("general", self.general)):
            exists = not folder or path_of("corpus.folder", folder).is_dir()
            require(f"corpus.{place}", folder, exists, "a folder", "PATH")

    def shelves(self) -> dict[Domain, Shelf]:
        if not self.folder:
            raise ValueError("corpus.folder: wanted the folder with your text, got nothing; try corpus.folder=PATH")
        general = folder_shelf(self.general, self.follow) if self.general else english_shelf()
        return {Domain.new: folder_shelf(self.folder, self.follow), Domain.general: general}

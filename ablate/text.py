"""Real text: byte-level BPE, packed to windows; the standard library's source, or a user's own folder.

The general domain is English, the new domain what is to be learned. Near-duplicates are removed over both, whole
documents are held out for the test split, and the tokeniser learns from the train split of both domains. Every
document ends with the separator `<|doc|>`; a law's documents are joined and cut into windows that do not overlap.
Token ids are kept in a cache whose name is a hash of all that determines them; what fails its checksum is rebuilt.

Shapes: B sequences, L positions, V vocabulary, T tokens of a law, W windows of a law.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ablate.corpus import Domain, Query, Split, Vocabulary
from ablate.files import Seen, Shelf, code_shelf, collect, english_shelf, file_hash, folder_shelf, hold_out
from ablate.seeds import generator

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

Array = np.ndarray[Any, Any]
SEPARATOR, MASK = "<|doc|>", "<mask>"
LAWS = tuple((domain, side) for domain in Domain for side in Split)
FORMAT = 1  # raise it when the same files would give other tokens


@dataclass(frozen=True)
class Packed:
    """Token ids of the four laws, memory-mapped, with the SHA-256 of every file and the vocabulary they share."""

    ids_T: dict[str, Array]  # "<domain>.<split>"
    sha256: dict[str, str]
    vocabulary: Vocabulary


@dataclass
class RealText(ABC):
    """What the corpora of real text share; they differ in where documents come from.

    tokens: size of the vocabulary apart from MASK (BPE may find fewer). length: tokens in a window, L.
    answer: tokens at a window's end that a question asks for. max_bytes: UTF-8 bytes used of each domain.
    cache: folder of the token ids; empty means $ABLATE_CACHE, or ~/.cache/ablate where that is not set.
    The separator and MASK stand for 0 bytes. Raises ValueError for sizes out of range.
    """

    name: ClassVar[str]
    tokens: int = 512
    length: int = 128
    answer: int = 32
    max_bytes: int = 4_000_000
    cache: str = ""
    domain: Domain = Domain.new
    split: Split = Split.train

    def __post_init__(self) -> None:
        self.domain, self.split = Domain(self.domain), Split(self.split)
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

    def fingerprint(self) -> str:
        """Hash of this law's token ids, of the tokeniser and of how they are cut."""
        files = [self._packed.sha256[file] for file in (f"{self._law}.npy", "tokenizer.json")]
        return _hash([files, self._law, self.length, self.answer])

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
    """Real text that every machine has. New: the standard library's source files, without their tests. General: the
    English of the same installation, see `english_shelf`; its files are no part of the new domain.

    Differs between Python versions: compare fingerprints before comparing records of two machines.
    """

    name: ClassVar[str] = "python_source"

    def shelves(self) -> dict[Domain, Shelf]:
        return {Domain.new: code_shelf(), Domain.general: english_shelf()}


@dataclass
class Text(RealText):
    """The user's own text. New: `folder`; general: the folder `general`, or where empty PythonSource's English.

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


def cached(root: Path, shelves: dict[Domain, Shelf], tokens: int, max_bytes: int) -> Packed:
    """The shelves' data from the cache folder `root`; built where absent, stale or damaged, by one process at a time.

    Raises ValueError for a shelf without a usable document and for a folder that cannot be written.
    """
    recipe = {
        "format": FORMAT,
        "python": sys.version,
        "tokenizers": importlib.metadata.version("tokenizers"),
        "files": {domain: shelf.manifest() for domain, shelf in shelves.items()},
        "tokens": tokens,
        "max_bytes": max_bytes,
    }
    folder = root / _hash(recipe)[:32]
    packed = _load(folder)
    if packed is not None:
        return packed
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock")):
            packed = _load(folder)
            if packed is None:
                _replace(folder, lambda fresh: _build(fresh, shelves, tokens, max_bytes))
                packed = _load(folder)
    except OSError as error:
        raise ValueError(f"corpus.cache: cannot write {root} ({error}); try corpus.cache=PATH") from error
    if packed is None:
        raise ValueError(f"corpus.cache: {folder} does not read back as written; try corpus.cache=PATH on another disk")
    return packed


def _replace(folder: Path, build: Callable[[Path], None]) -> None:
    """Fill a folder beside `folder`, then give it that name: a folder of this name is whole."""
    fresh = folder.with_suffix(".tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        build(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _build(folder: Path, shelves: dict[Domain, Shelf], tokens: int, max_bytes: int) -> None:
    problems: list[str] = []
    seen, texts = Seen(), {}
    for domain, shelf in shelves.items():
        documents = collect(shelf, max_bytes, seen, problems.append)
        if not documents:
            _complain(problems)
            raise ValueError(
                f"corpus: no usable document for the {domain} domain among the {len(shelf.names)} files under "
                f"{shelf.root}; wanted {shelf.wanted}; try corpus=text corpus.folder=PATH (new) corpus.general=PATH"
            )
        texts |= {f"{domain}.{side}": part for side, part in hold_out(documents).items()}
    _complain(problems)
    tokenizer = _train_bpe([text for domain in Domain for text in texts[f"{domain}.{Split.train}"]], tokens)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    for law, parts in texts.items():
        np.save(folder / f"{law}.npy", _encode(tokenizer, parts))
    sha256 = {path.name: file_hash(path) for path in sorted(folder.iterdir())}
    meta = {"sha256": sha256, "documents": {law: len(parts) for law, parts in texts.items()}, "left_out": problems}
    (folder / "meta.json").write_text(json.dumps({**meta, "self": _hash(meta)}, indent=1), encoding="utf-8")


def _load(folder: Path) -> Packed | None:
    """The data, or None where they are absent or any byte of them is not as written."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta.pop("self") != _hash(meta):
            return None
        if any(file_hash(folder / file) != digest for file, digest in meta["sha256"].items()):
            return None
        ids_T = {f"{d}.{s}": np.load(folder / f"{d}.{s}.npy", mmap_mode="r") for d, s in LAWS}
        bpe = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    symbols = (*sorted(bpe, key=bpe.__getitem__), SEPARATOR, MASK)
    # In a byte-level BPE every character of a symbol stands for one byte.
    bytes_V = (*(len(symbol) for symbol in symbols[:-2]), 0, 0)
    return Packed(ids_T, meta["sha256"], Vocabulary(symbols, mask_id=len(symbols) - 1, bytes_V=bytes_V))


def _train_bpe(texts: list[str], tokens: int) -> Tokenizer:
    """Byte-level BPE. It knows no separator, so that a text that spells `<|doc|>` keeps all of its bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=tokens - 1, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _encode(tokenizer: Tokenizer, texts: list[str]) -> Array:
    separator, parts = tokenizer.get_vocab_size(), [np.empty(0, dtype=np.uint16)]
    for first in range(0, len(texts), 64):
        for encoding in tokenizer.encode_batch_fast(texts[first : first + 64]):
            parts.append(np.array([*encoding.ids, separator], dtype=np.uint16))
    return np.concatenate(parts)


@functools.lru_cache(maxsize=8)
def _permutation(windows: int, seed: int, stream: str, epoch: int) -> Array:
    return generator(seed, stream, epoch).permutation(windows)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _complain(problems: list[str]) -> None:
    for line in problems[:10]:
        print(f"corpus: not used: {line}", file=sys.stderr)
    if len(problems) > 10:
        print(f"corpus: and {len(problems) - 10} more", file=sys.stderr)


def _require(field: str, value: int, least: int, most: int, example: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"corpus.{field}: wanted {least} to {most}, got {value}; try corpus.{field}={example}")

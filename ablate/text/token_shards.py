"""Shards: the token ids of one bundle of files, written once, whole or absent, and known by their checksums.

A bundle leaves `<domain>.<number>.<split>.bin`, plain token ids, and `<domain>.<number>.json`, which says what it is.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ablate.core.corpus import Split
from ablate.core.storage import digest, file_hash, whole_file, write_bytes
from ablate.text.document_split import Chosen
from ablate.text.tokenizer import TextTokenizer

AT_ONCE, AT_ONCE_CHARACTERS = 64, 2**20  # documents, and what they may hold, that are tokenized together


@dataclass(frozen=True)
class Order:
    """A bundle to be tokenized: which documents, with what, where to.

    sha256: of the tokenizer that lies in the folder. eos: is every document ended with the separator?
    """

    chosen: Chosen
    folder: Path
    sha256: str
    eos: bool

    @property
    def path(self) -> Path:
        return self.folder / f"{self.chosen.bundle.name}.json"

    @property
    def stamp(self) -> str:
        """Hash of what determines the shard, so that one of another build is not taken for it."""
        chosen = [getattr(self.chosen, f"{name}_N").tolist() for name in ("document", "start", "stop", "held")]
        return digest([chosen, self.sha256, self.eos])


def tokenize(order: Order, texts: Iterable[str] | None = None) -> dict[str, Any]:
    """The shard's description: as it lies there, if it is whole, else after making it.

    texts: of all documents of the bundle; read from its files where None. Description: `files`, by split, each
    with name, sha256, tokens, bytes of text, bytes that the tokens stand for and `lengths`, the tokens of every
    document.
    """
    known = read_sealed(order.path)
    if known is not None and known["stamp"] == order.stamp and _are_whole(order.folder, known):
        return known
    tokenizer = _tokenizer(order.folder, order.sha256)
    with ExitStack() as stack:
        sides = {side: _Side(order, side, tokenizer, stack) for side in (Split.train, Split.test)}
        found = order.chosen.bundle.texts() if texts is None else texts
        for batch in _batches(order.chosen.texts(found)):
            ids = tokenizer.encode([text for _, text in batch])
            for (held, text), row in zip(batch, ids, strict=True):
                sides[Split.test if held else Split.train].add(text, row)
        files = {side: content for side in sides if (content := sides[side].finish())}
    description = {"stamp": order.stamp, "files": files}
    write_sealed(order.path, description)
    return description


def dtype_of(tokenizer: TextTokenizer) -> str:
    """The smallest type that holds every id."""
    return "<u2" if len(tokenizer.vocabulary) <= 2**16 else "<u4"


def write_tokenizer(folder: Path, tokenizer: TextTokenizer) -> str:
    """Puts the tokenizer into the folder; returns its hash."""
    write_bytes(folder / "tokenizer.json", tokenizer.content.encode())
    said = {"separator": tokenizer.separator, "mask": tokenizer.mask, "sha256": file_hash(folder / "tokenizer.json")}
    write_sealed(folder / "special.json", said)
    return digest(said)


def read_tokenizer(folder: Path) -> tuple[TextTokenizer, str] | None:
    """The folder's tokenizer and its hash, or None where it is absent or not as written."""
    said = read_sealed(folder / "special.json")
    try:
        if said is None or file_hash(folder / "tokenizer.json") != said["sha256"]:
            return None
        content = (folder / "tokenizer.json").read_text(encoding="utf-8")
    except OSError:
        return None
    return TextTokenizer(content, tuple(said["separator"]), tuple(said["mask"])), digest(said)


@functools.lru_cache(maxsize=1)
def _tokenizer(folder: Path, sha256: str) -> TextTokenizer:
    known = read_tokenizer(folder)
    if known is None or known[1] != sha256:
        raise ValueError(f"corpus.cache: {folder} changed while it was built; type the same command again")
    return known[0]


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """JSON with a checksum of itself."""
    write_bytes(path, json.dumps({**content, "self": digest(content)}).encode())


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What `write_sealed` wrote, or None where it is absent or any byte of it is not as written."""
    try:
        raw = path.read_bytes()
        content = json.loads(raw)
        seal = content.pop("self")
        return content if seal == digest(content) and raw == json.dumps({**content, "self": seal}).encode() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _are_whole(folder: Path, description: dict[str, Any]) -> bool:
    try:
        return all(file_hash(folder / file["name"]) == file["sha256"] for file in description["files"].values())
    except OSError:
        return False


def _batches(texts: Iterable[tuple[bool, str]]) -> Iterator[list[tuple[bool, str]]]:
    batch, size = [], 0
    for item in texts:
        batch.append(item)
        size += len(item[1])
        if len(batch) == AT_ONCE or size >= AT_ONCE_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Side:
    """One split's file while it is written, under a temporary name."""

    def __init__(self, order: Order, side: Split, tokenizer: TextTokenizer, stack: ExitStack):
        self.name = f"{order.chosen.bundle.name}.{side}.bin"
        self.temporary = stack.enter_context(whole_file(order.folder / self.name))
        self.dtype, self.end = dtype_of(tokenizer), [tokenizer.separator[1]] if order.eos else []
        self.hashed, self.lengths, self.bytes, self.token_bytes = hashlib.sha256(), [], 0, 0
        self.bytes_V = np.array(tokenizer.vocabulary.bytes_V)
        self.file: IO[bytes] = stack.enter_context(self.temporary.open("wb"))

    def add(self, text: str, ids: list[int]) -> None:
        raw = np.array([*ids, *self.end], dtype=self.dtype).tobytes()
        self.file.write(raw)
        self.hashed.update(raw)
        self.lengths.append(len(ids) + len(self.end))
        self.bytes += len(text.encode())
        self.token_bytes += int(self.bytes_V[ids].sum())

    def finish(self) -> dict[str, Any] | None:
        """Closes and describes the file; None, and no file, where this split has no document here."""
        self.file.close()
        if not self.lengths:
            self.temporary.unlink()
            return None
        return {
            "name": self.name,
            "sha256": self.hashed.hexdigest(),
            "tokens": sum(self.lengths),
            "bytes": self.bytes,
            "token_bytes": self.token_bytes,
            "lengths": self.lengths,
        }

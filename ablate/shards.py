"""Token ids of real text: documents shared out to the laws, byte-level BPE, a checked cache.

Near-duplicates are removed over both domains, whole documents are held out for the test split, and the tokeniser
learns from the train split of both domains. Every document ends with the separator `<|doc|>`. Token ids are kept in
a folder whose name is a hash of all that determines them; what fails its checksum is rebuilt.

Shapes: V vocabulary, T tokens of a law.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ablate.corpus import SPLITS, Domain, Split, Vocabulary
from ablate.duplicates import Seen
from ablate.files import Document, Report, Shelf, file_hash, order
from ablate.store import digest, locked, whole_folder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]
SEPARATOR, MASK = "<|doc|>", "<mask>"
LAWS = tuple((domain, side) for domain in Domain for side in SPLITS)
LONG_WORD = re.compile(r"\S{1000}")
CODE = ("duplicates.py", "files.py", "shards.py")  # what decides which tokens the same files give


@dataclass(frozen=True)
class Packed:
    """Token ids of the four laws, memory-mapped, with the SHA-256 of every file and the vocabulary they share."""

    ids_T: dict[str, Array]  # "<domain>.<split>"
    sha256: dict[str, str]
    vocabulary: Vocabulary


def cached(root: Path, shelves: dict[Domain, Shelf], tokens: int, max_bytes: int) -> Packed:
    """The shelves' data from the cache folder `root`; built where absent, stale or damaged, by one process at a time.

    Raises ValueError for a shelf without a usable document and for a folder that cannot be written.
    """
    recipe = {
        "code": [file_hash(Path(__file__).with_name(name)) for name in CODE],
        "python": sys.version,
        "tokenizers": importlib.metadata.version("tokenizers"),
        "files": {domain: shelf.manifest() for domain, shelf in shelves.items()},
        "tokens": tokens,
        "max_bytes": max_bytes,
    }
    folder = root / digest(recipe)[:32]
    packed = _load(folder)
    if packed is not None:
        return packed
    problems: list[str] = []
    texts = _texts(shelves, max_bytes, problems)  # before the lock: what is refused leaves no file behind
    try:
        with locked(folder.with_suffix(".lock")):
            packed = _load(folder)
            if packed is None:
                with whole_folder(folder) as fresh:
                    _build(fresh, texts, tokens, problems)
                packed = _load(folder)
    except OSError as error:
        raise ValueError(f"corpus.cache: cannot write {root} ({error}); try corpus.cache=PATH") from error
    if packed is None:
        raise ValueError(f"corpus.cache: {folder} does not read back as written; try corpus.cache=PATH on another disk")
    return packed


def collect(shelf: Shelf, max_bytes: int, seen: Seen, report: Report) -> list[Document]:
    """The shelf's distinct documents, up to `max_bytes` of UTF-8; the last one is cut there."""
    kept, left = [], max_bytes
    report = (lambda line: None) if shelf.quiet else report
    for document in shelf.documents(report):
        if not seen.admits(document.text):
            continue
        raw = document.text.encode()
        if len(raw) > left:
            report(f"{shelf.root}: only {max_bytes:,} bytes are used; corpus.max_bytes says how many")
            kept.append(Document(document.name, raw[:left].decode(errors="ignore")))
            break
        kept.append(document)
        left -= len(raw)
    return [document for document in kept if document.text]


def hold_out(documents: list[Document]) -> dict[Split, list[str]]:
    """Train and test texts, whole documents: about a tenth of the bytes is held out, chosen by the documents' names.

    A document of more than a fifth of the bytes is held out only where all are so large: then the smallest is.
    A single document is cut: the first 90 % of its lines, and the rest.
    """
    if len(documents) == 1:
        lines = documents[0].text.splitlines(keepends=True)
        cut = len(lines) * 9 // 10
        halves = {Split.train: "".join(lines[:cut]), Split.test: "".join(lines[cut:])}
        return {side: [text] if text else [] for side, text in halves.items()}
    sizes = {document.name: len(document.text.encode()) for document in documents}
    total, held, held_bytes = sum(sizes.values()), set(), 0
    for name in sorted(sizes, key=lambda name: order(name, "split")):
        if sizes[name] <= total / 5 and held_bytes < total / 10:
            held.add(name)
            held_bytes += sizes[name]
    if not held and sizes:
        held = {min(sizes, key=lambda name: (sizes[name], name))}
    return {
        Split.train: [document.text for document in documents if document.name not in held],
        Split.test: [document.text for document in documents if document.name in held],
    }


def _texts(shelves: dict[Domain, Shelf], max_bytes: int, problems: list[str]) -> dict[str, list[str]]:
    """Texts of the four laws; what cannot be used is added to `problems` and named on stderr."""
    seen, texts = Seen(), {}
    try:
        for domain, shelf in shelves.items():
            documents = collect(shelf, max_bytes, seen, problems.append)
            if not documents:
                raise ValueError(
                    f"corpus: no usable document for the {domain} domain among the {len(shelf.names)} files under "
                    f"{shelf.root}; wanted {shelf.wanted}; try corpus=text corpus.folder=PATH (new) corpus.general=PATH"
                )
            texts |= {f"{domain}.{side}": part for side, part in hold_out(documents).items()}
    finally:
        _complain(problems)
    return texts


def _build(folder: Path, texts: dict[str, list[str]], tokens: int, problems: list[str]) -> None:
    tokenizer = _train_bpe([text for domain in Domain for text in texts[f"{domain}.{Split.train}"]], tokens)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    for law, parts in texts.items():
        np.save(folder / f"{law}.npy", _encode(tokenizer, parts))
    sha256 = {path.name: file_hash(path) for path in sorted(folder.iterdir())}
    meta = {"sha256": sha256, "documents": {law: len(parts) for law, parts in texts.items()}, "left_out": problems}
    (folder / "meta.json").write_text(json.dumps({**meta, "self": digest(meta)}, indent=1), encoding="utf-8")


def _load(folder: Path) -> Packed | None:
    """The data, or None where they are absent or any byte of them is not as written."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta.pop("self") != digest(meta):
            return None
        if any(file_hash(folder / file) != sha256 for file, sha256 in meta["sha256"].items()):
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
    # training is quadratic in the length of a word, and base64 or minified text is one word
    tokenizer.train_from_iterator((LONG_WORD.sub(r"\g<0> ", text) for text in texts), trainer)
    return tokenizer


def _encode(tokenizer: Tokenizer, texts: list[str]) -> Array:
    separator, parts = tokenizer.get_vocab_size(), [np.empty(0, dtype=np.uint16)]
    for first in range(0, len(texts), 64):
        for encoding in tokenizer.encode_batch_fast(texts[first : first + 64]):
            parts.append(np.array([*encoding.ids, separator], dtype=np.uint16))
    return np.concatenate(parts)


def _complain(problems: list[str]) -> None:
    for line in problems[:10]:
        print(f"corpus: not used: {line}", file=sys.stderr)
    if len(problems) > 10:
        print(f"corpus: and {len(problems) - 10} more", file=sys.stderr)

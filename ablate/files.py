"""Documents out of files: a user's folder, the interpreter's own library; near-duplicates; the held-out documents."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
import re
import sysconfig
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ablate.corpus import Split

Array = np.ndarray[Any, Any]
Report = Callable[[str], None]  # receives one line for each thing that is left out
Texts = Iterator[tuple[str, str]]  # (suffix to the file's name, text)

TOPICS = "pydoc_data/topics.py"
FOREIGN = {"site-packages", "dist-packages", "__pycache__"}
TESTS = {"test", "tests", "idle_test"}
WORD = re.compile(r"\w+")
SHINGLE, SKETCH, SAME = 5, 128, 0.8


@dataclass(frozen=True)
class Document:
    """A text, named by its file's path below the shelf's root (and its place in the file, where it has several)."""

    name: str
    text: str


@dataclass(frozen=True)
class Shelf:
    """Files of one domain in their order of use, and the reader that turns one file into texts.

    names: paths below `root`. read(path, report): raises ValueError or OSError for a file that gives nothing.
    wanted: the kinds of file, in words. quiet: what cannot be used is nobody's concern.
    """

    root: Path
    names: tuple[str, ...]
    read: Callable[[Path, Report], Texts]
    wanted: str
    quiet: bool = False

    def manifest(self) -> list[tuple[str, int, str]]:
        """Name, size in bytes and SHA-256 of every file; size -1 for those that cannot be read."""
        return [(name, *_identity(self.root / name)) for name in self.names]

    def documents(self, report: Report) -> Iterator[Document]:
        """Documents in order of use; what cannot be used is left out and reported, one line each."""
        for name in self.names:
            try:
                yield from (Document(name + suffix, text) for suffix, text in self.read(self.root / name, report))
            except (OSError, ValueError) as error:
                report(f"{self.root / name}: {getattr(error, 'strerror', None) or error}")


def folder_shelf(folder: str) -> Shelf:
    """A user's folder with its subfolders; rows of .jsonl and .parquet are documents. Hidden names are left out."""
    root, kinds = Path(folder).expanduser(), (".py", ".txt", ".md", ".jsonl", ".parquet")
    return Shelf(root, _listing(root, kinds), _read_any, " ".join(kinds))


def code_shelf() -> Shelf:
    """Source files of the running interpreter's standard library, apart from those of `english_shelf`."""
    names = tuple(name for name in _library() if name.endswith(".py") and not _is_english(name))
    return Shelf(_library_root(), names, _read_any, "the standard library's .py files", quiet=True)


def english_shelf() -> Shelf:
    """English of the running interpreter's installation: pydoc's topics, text files (licence, news), docstrings.

    Docstrings are those of the test folders and of every third file of the library; no code of these files is used.
    """
    names = tuple(name for name in _library() if _is_english(name))
    return Shelf(_library_root(), names, _read_english, "the installation's documentation", quiet=True)


def decode(raw: bytes) -> str:
    """The text of a file. Raises ValueError with the reason: empty, binary, not UTF-8."""
    if b"\0" in raw:
        raise ValueError("binary")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    if not text.strip():
        raise ValueError("empty")
    return text


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def order(name: str, stream: str) -> int:
    """Place of a name in a fixed order that has nothing to do with the alphabet."""
    return int.from_bytes(hashlib.blake2b(f"{stream}\0{name}".encode(errors="replace"), digest_size=8).digest())


@dataclass
class Seen:
    """Near-duplicate detector: bottom-k sketches of the sets of word 5-grams (Broder, 1997), all pairs of them.

    Two texts are the same when the estimated Jaccard index of their sets is at least 0.8; spacing, case and
    punctuation do not count, and up to 128 different 5-grams the index is exact.
    """

    sketches: list[Array] = field(default_factory=list)
    holders: dict[int, list[int]] = field(default_factory=dict)

    def admits(self, text: str) -> bool:
        """Whether the text is new; if so it is remembered."""
        new = _sketch(text)
        shared = Counter(i for value in new.tolist() for i in self.holders.get(value, ()))
        if any(n >= SAME * len(new) and _jaccard(new, self.sketches[i]) >= SAME for i, n in shared.items()):
            return False
        for value in new.tolist():
            self.holders.setdefault(value, []).append(len(self.sketches))
        self.sketches.append(new)
        return True


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


def _listing(root: Path, suffixes: tuple[str, ...]) -> tuple[str, ...]:
    found: list[str] = []  # folders that cannot be opened are listed too, so that the reader names them
    for folder, folders, names in os.walk(root, onerror=lambda error: found.append(str(error.filename))):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in FOREIGN]
        plain = [name for name in names if not name.startswith(".")]
        found.extend(f"{folder}/{name}" for name in plain if name.lower().endswith(suffixes))
    below = (Path(path).relative_to(root).as_posix() for path in found)
    return tuple(sorted(below, key=lambda name: (order(name, "use"), name)))


def _identity(path: Path) -> tuple[int, str]:
    try:
        stat = path.stat()
        return stat.st_size, _digest(path, stat.st_size, stat.st_mtime_ns)
    except OSError:
        return -1, ""


@functools.lru_cache(maxsize=100_000)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    return file_hash(path)


def _read_any(path: Path, report: Report) -> Texts:
    """One text per file, or per row of `text`, else of `content`."""
    rows = {".jsonl": _jsonl, ".parquet": _parquet}
    if path.suffix.lower() not in rows:
        yield "", decode(path.read_bytes())
        return
    for number, value in enumerate(rows[path.suffix.lower()](path), 1):
        try:
            if not isinstance(value, str):
                raise ValueError("no string in `text` or `content`")
            yield f"#{number}", decode(value.encode("utf-8", errors="surrogatepass"))
        except ValueError as error:
            report(f"{path}, row {number}: {error}")


def _jsonl(path: Path) -> Iterator[object]:
    for line in decode(path.read_bytes()).strip().split("\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        row = row if isinstance(row, dict) else {}
        yield row["text"] if "text" in row else row.get("content")


def _parquet(path: Path) -> Iterator[object]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        column = next((name for name in ("text", "content") if name in file.schema_arrow.names), None)
        if column is None:
            raise ValueError("no column `text` or `content`")
        for batch in file.iter_batches(batch_size=256, columns=[column]):
            yield from batch.column(0).to_pylist()
    except pa.ArrowException as error:
        raise ValueError(f"not a readable parquet file ({str(error).splitlines()[0]})") from None


def _library_root() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _library() -> tuple[str, ...]:
    return _listing(_library_root(), (".py", ".txt", ".rst", ".md"))


def _is_english(name: str) -> bool:
    is_test = not TESTS.isdisjoint(Path(name).parts[:-1])
    if not name.endswith(".py"):
        return not is_test  # there, text files are fixtures
    return is_test or name == TOPICS or order(name, "english") % 3 == 0


def _read_english(path: Path, report: Report) -> Texts:
    text = decode(path.read_bytes())
    if path.suffix != ".py":
        yield "", text
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, RecursionError) as error:
        raise ValueError("not Python of this version") from error
    if path.as_posix().endswith(TOPICS):
        topics = next(node.value for node in tree.body if isinstance(node, ast.Assign))
        yield from ((f"#{topic}", text) for topic, text in ast.literal_eval(topics).items())
        return
    scopes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, scopes)]
    yield "", decode("\n\n".join(filter(None, docstrings)).encode("utf-8", errors="surrogatepass"))


def _sketch(text: str) -> Array:
    words = WORD.findall(text.lower()) or ["".join(text.split())]
    words_N = np.array([zlib.crc32(word.encode()) for word in words], dtype=np.uint64)
    grams = max(1, len(words) - SHINGLE + 1)
    hash_G = np.zeros(grams, dtype=np.uint64)
    for i in range(min(SHINGLE, len(words))):
        hash_G = (hash_G + words_N[i : i + grams] + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        hash_G ^= hash_G >> np.uint64(29)
    return np.unique(hash_G)[:SKETCH]


def _jaccard(a: Array, b: Array) -> float:
    union = np.union1d(a, b)[:SKETCH]
    return float(np.isin(union, np.intersect1d(a, b)).mean())

"""Documents out of files: a user's folder, or the library and the English of the running interpreter."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

Report = Callable[[str], None]  # receives one line for each thing that is left out
Texts = Iterator[tuple[str, str]]  # (suffix to the file's name, text)

TOPICS = "pydoc_data/topics.py"
FOREIGN = {"site-packages", "dist-packages", "__pycache__"}
TESTS = {"test", "tests", "idle_test"}


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


def _listing(root: Path, suffixes: tuple[str, ...]) -> tuple[str, ...]:
    found: list[str] = []  # folders that cannot be opened are listed too, so that the reader names them
    for folder, folders, names in os.walk(root, onerror=lambda error: found.append(str(error.filename))):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in FOREIGN]
        plain = [name for name in names if not name.startswith(".") and not _waits(Path(folder, name))]
        found.extend(f"{folder}/{name}" for name in plain if name.lower().endswith(suffixes))
    below = (Path(path).relative_to(root).as_posix() for path in found)
    return tuple(sorted(below, key=lambda name: (order(name, "use"), name)))


def _waits(path: Path) -> bool:
    """True for pipes, sockets and devices, whose reading may never end."""
    return path.exists() and not path.is_file()


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

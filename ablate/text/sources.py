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

from ablate.core.corpus import Domain
from ablate.core.storage import file_hash
from ablate.text.readers import Found, Piece, cut, decode, has_rows, rows, usable

Report = Callable[[str], None]  # receives one line for each thing that is left out
Read = Callable[[Path, Piece], Iterator[Found]]

TOPICS = "pydoc_data/topics.py"
FOREIGN = {"site-packages", "dist-packages", "__pycache__"}
TESTS = {"test", "tests", "idle_test"}
KINDS = (".py", ".txt", ".md", ".jsonl", ".parquet")
BUNDLE = 16 * 2**20  # bytes of files that are read together
HASHED = 2**31  # bytes of a shelf up to which its files are told by content, not by size and time


@dataclass(frozen=True)
class Bundle:
    """Pieces of a domain's files that are read, and later tokenized, together; `number` is its place in that order."""

    domain: Domain
    number: int
    root: Path
    read: Read
    pieces: tuple[Piece, ...]

    @property
    def name(self) -> str:
        return f"{self.domain}.{self.number:06}"

    @property
    def size(self) -> int:
        """Bytes, about."""
        return sum(piece.size for piece in self.pieces)

    def found(self) -> Iterator[tuple[int, Found]]:
        """What stands in the pieces, in order, each with the number of its piece; what cannot be read says why."""
        for i, piece in enumerate(self.pieces):
            try:
                yield from ((i, found) for found in self.read(self.root / piece.name, piece))
            except (OSError, ValueError) as error:
                yield i, Found("", problem=str(getattr(error, "strerror", None) or error))

    def texts(self) -> Iterator[str]:
        """Texts of the documents, in order."""
        return (found.text for _, found in self.found() if found.text)


@dataclass(frozen=True)
class Shelf:
    """Files of one domain in their order of use, and the reader that turns a piece of a file into texts.

    names: paths below `root`. read(path, piece): raises ValueError or OSError for a file that gives nothing (more).
    wanted: the kinds of file, in words. quiet: what cannot be used is nobody's concern.
    """

    root: Path
    names: tuple[str, ...]
    read: Read
    wanted: str
    quiet: bool = False

    def size(self) -> int:
        """Bytes of all files that are there."""
        paths = (self.root / name for name in self.names)
        return sum(path.stat().st_size for path in paths if path.exists())

    def manifest(self) -> list[tuple[str, int, str]]:
        """Name, size in bytes and SHA-256 of every file; size -1 for those that cannot be read.

        Where all together are more than 2 GiB, the time of the last change stands in for the SHA-256.
        """
        hashed = self.size() <= HASHED
        return [(name, *_identity(self.root / name, hashed)) for name in self.names]

    def bundles(self, domain: Domain) -> Iterator[Bundle]:
        """All files in order of use, in bundles of about `BUNDLE` bytes: small ones together, large ones in pieces."""
        pieces: list[Piece] = []
        number = size = 0
        for piece in (piece for name in self.names for piece in cut(self.root / name, name, BUNDLE)):
            if pieces and size + piece.size > BUNDLE:
                yield Bundle(domain, number, self.root, self.read, tuple(pieces))
                pieces, number, size = [], number + 1, 0
            pieces.append(piece)
            size += piece.size
        if pieces:
            yield Bundle(domain, number, self.root, self.read, tuple(pieces))


def folder_shelf(folder: str) -> Shelf:
    """A user's folder with its subfolders; rows of .jsonl, .parquet and saved data sets are documents.

    Hidden names are left out. Of a folder that `datasets` has saved, the files are those that its state.json names.
    """
    root = Path(folder).expanduser()
    return Shelf(root, _listing(root, KINDS), _read_any, f"{' '.join(KINDS)} and what datasets.load_from_disk opens")


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


def order(name: str, stream: str) -> int:
    """Place of a name in a fixed order that has nothing to do with the alphabet."""
    return int.from_bytes(hashlib.blake2b(f"{stream}\0{name}".encode(errors="replace"), digest_size=8).digest())


def _listing(root: Path, suffixes: tuple[str, ...]) -> tuple[str, ...]:
    found: list[str] = []  # folders that cannot be opened are listed too, so that the reader names them
    for folder, folders, names in os.walk(root, onerror=lambda error: found.append(str(error.filename))):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in FOREIGN]
        plain = [name for name in names if not name.startswith(".") and not _waits(Path(folder, name))]
        found.extend(f"{folder}/{name}" for name in plain if name.lower().endswith(suffixes))
        found.extend(f"{folder}/{name}" for name in (_saved(Path(folder)) if "state.json" in names else []))
    below = (Path(path).relative_to(root).as_posix() for path in found)
    return tuple(sorted(below, key=lambda name: (order(name, "use"), name)))


def _waits(path: Path) -> bool:
    """True for pipes, sockets and devices, whose reading may never end."""
    return path.exists() and not path.is_file()


def _saved(folder: Path) -> list[str]:
    """Names of the arrow files of a data set that `datasets` saved here; others (caches) are no part of it."""
    try:
        files = json.loads((folder / "state.json").read_bytes())["_data_files"]
        return [str(file["filename"]) for file in files if Path(file["filename"]).name == file["filename"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # some other program's state.json


def _identity(path: Path, hashed: bool) -> tuple[int, str]:
    try:
        stat = path.stat()
        named = _digest(path, stat.st_size, stat.st_mtime_ns) if hashed else str(stat.st_mtime_ns)
        return stat.st_size, named
    except OSError:
        return -1, ""


@functools.lru_cache(maxsize=100_000)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    return file_hash(path)


def _read_any(path: Path, piece: Piece) -> Iterator[Found]:
    """The rows of a file that has such, else its text."""
    if has_rows(path):
        yield from rows(path, piece)
    else:
        yield Found("", decode(path.read_bytes()))


def _library_root() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _library() -> tuple[str, ...]:
    return _listing(_library_root(), (".py", ".txt", ".rst", ".md"))


def _is_english(name: str) -> bool:
    is_test = not TESTS.isdisjoint(Path(name).parts[:-1])
    if not name.endswith(".py"):
        return not is_test  # there, text files are fixtures
    return is_test or name == TOPICS or order(name, "english") % 3 == 0


def _read_english(path: Path, _: Piece) -> Iterator[Found]:
    text = decode(path.read_bytes())
    if path.suffix != ".py":
        yield Found("", text)
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, RecursionError) as error:
        raise ValueError("not Python of this version") from error
    if path.as_posix().endswith(TOPICS):
        topics = next(node.value for node in tree.body if isinstance(node, ast.Assign))
        yield from (Found(f"#{topic}", text) for topic, text in ast.literal_eval(topics).items())
        return
    scopes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, scopes)]
    yield Found("", usable("\n\n".join(filter(None, docstrings))))

"""Documents out of files: a user's folder, or the library and the English of the running interpreter."""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ablate.core.corpus import Domain
from ablate.core.foreign_files import read_json, require_plain, size_of
from ablate.core.storage import file_hash
from ablate.core.validation import path_of
from ablate.text.readers import Found, Piece, cut, decode, has_rows, rows, usable, whole

Report = Callable[[str], None]  # receives one line for each thing that is left out
Read = Callable[[Path, Piece], Iterator[Found]]

TOPICS = "pydoc_data/topics.py"
FOREIGN = {"site-packages", "dist-packages", "__pycache__"}
TESTS = {"test", "tests", "idle_test"}
KINDS = (".py", ".txt", ".md", ".jsonl", ".parquet")
BUNDLE = 16 * 2**20  # bytes of files that are read together
ROOM, GROWTH = 8, 100  # of a bundle's size in any case, and of its files': what may come out of compressed ones
COST = 256  # characters that a row counts for beside its text: what is kept of a document, and time
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
        """What stands in the pieces, in order, each with the number of its piece; what cannot be read says why.

        A piece that turns out to hold far more than its bytes, as a compressed file may, is not read to its end.
        """
        sizes = [size_of(self.root / piece.name) for piece in self.pieces]
        left = BUNDLE * ROOM + GROWTH * sum(dict(zip((p.name for p in self.pieces), sizes, strict=True)).values())
        for i, (piece, size) in enumerate(zip(self.pieces, sizes, strict=True)):
            mine = most = min(left, max(2 * BUNDLE, GROWTH * size))
            try:
                for found in self.read(self.root / piece.name, piece):
                    mine -= len(found.text) + COST * bool(found.text or found.problem)
                    if mine < 0:
                        raise ValueError(f"it makes more than {most:,} characters of {size:,} bytes: not read further")
                    yield i, found
            except (OSError, ValueError) as error:
                yield i, Found("", problem=str(getattr(error, "strerror", None) or error))
            left -= most - mine

    def texts(self) -> Iterator[str]:
        """Texts of the documents, in order."""
        return (found.text for _, found in self.found() if found.text)


@dataclass(frozen=True)
class Shelf:
    """Files of one domain in their order of use, and the reader that turns a piece of a file into texts.

    names: paths below `root`. read(path, piece): raises ValueError or OSError for a file that gives nothing (more).
    wanted: the kinds of file, in words. quiet: what cannot be used is nobody's concern. barred: (name, reason) of files
    that are not opened at all.
    """

    root: Path
    names: tuple[str, ...]
    read: Read
    wanted: str
    quiet: bool = False
    barred: tuple[tuple[str, str], ...] = ()

    def size(self) -> int:
        """Bytes of all files that are there."""
        return sum(size_of(self.root / name) for name in self.names)

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


def folder_shelf(folder: str, follow: bool = False) -> Shelf:
    """A user's folder with its subfolders; rows of .jsonl, .parquet and saved data sets are documents.

    Hidden names are left out. Of a folder that `datasets` has saved, the files are those that its state.json names.
    follow: are files read that links out of the folder lead to? Links to folders are not followed in any case.
    """
    root = path_of("corpus.folder", folder)
    listed = _listing(root, KINDS)
    barred = tuple((name, reason) for name in listed if (reason := _barred(root, name, follow)))
    names = tuple(name for name in listed if name not in dict(barred))
    wanted = f"{' '.join(KINDS)} and what datasets.load_from_disk opens"
    return Shelf(root, names, _read_any, wanted, barred=barred)


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
        plain = [name for name in names if not name.startswith(".")]
        found.extend(f"{folder}/{name}" for name in plain if name.lower().endswith(suffixes))
        found.extend(f"{folder}/{name}" for name in (_saved(Path(folder)) if "state.json" in names else []))
    below = (Path(path).relative_to(root).as_posix() for path in found)
    return tuple(sorted(below, key=lambda name: (order(name, "use"), name)))


def _barred(root: Path, name: str, follow: bool) -> str:
    """Why a file is not opened; empty where it is, if only for its reader to say why it cannot be read."""
    path = root / name
    try:
        require_plain(path)
        if not follow and path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            return "a link out of the folder; type corpus.follow=true to read it"
    except ValueError as error:
        return str(error)
    except OSError:
        pass
    return ""


def _saved(folder: Path) -> list[str]:
    """Names of the arrow files of a data set that `datasets` saved here; others (caches) are no part of it."""
    try:
        names = [file["filename"] for file in read_json(folder / "state.json")["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # some other program's state.json
    return [name for name in names if isinstance(name, str) and name.endswith(".arrow") and not {"/", "\0"} & set(name)]


def _identity(path: Path, hashed: bool) -> tuple[int, str]:
    try:
        stat = require_plain(path)
        named = _digest(path, stat.st_size, stat.st_mtime_ns) if hashed else str(stat.st_mtime_ns)
        return stat.st_size, named
    except (OSError, ValueError):
        return -1, ""


@functools.lru_cache(maxsize=100_000)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    return file_hash(path)


def _read_any(path: Path, piece: Piece) -> Iterator[Found]:
    """The rows of a file that has such, else its text."""
    if has_rows(path):
        yield from rows(path, piece)
    else:
        yield Found("", decode(whole(path)))


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

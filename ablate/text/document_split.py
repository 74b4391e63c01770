"""Which documents are used, and where: a census of every bundle, then one pass over the counts in order of use.

Duplicates are removed over both domains, the first `max_bytes` of each are kept and whole documents are held out for
the test split. No text is kept: of a document its size and its sketch are known.

Shapes: D documents of a bundle, P pieces of a bundle, N documents of a bundle that are used, S values of all sketches.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ablate.core.storage import write_bytes
from ablate.text.near_duplicates import Duplicates, Seen, sketch
from ablate.text.readers import Found
from ablate.text.sources import Bundle, Report, order

Array = np.ndarray[Any, Any]
ARRAYS = ("piece_D", "bytes_D", "ends_D", "values_S")
HASH = hashlib.sha256().digest_size
COMPLAINTS = 20  # reasons that a bundle keeps; of further ones the number is told


@dataclass(frozen=True)
class Census:
    """What a bundle holds: place (see `Found`), piece, bytes and sketch of every document, and what cannot be used.

    rows_P: places counted in each piece, so that rows are numbered through a file that is read in pieces. problems:
    (piece, place, reason), the first few of `complaints`.
    """

    places: list[int | str]
    piece_D: Array
    bytes_D: Array
    ends_D: Array  # of the sketches in values_S
    values_S: Array
    rows_P: list[int]
    problems: list[tuple[int, int | str, str]]
    complaints: int

    def sketches(self) -> list[Array]:
        return np.split(self.values_S, self.ends_D[:-1]) if len(self.ends_D) else []

    def write(self, path: Path) -> None:
        """A hash, which says whether the file is whole, and the arrays."""
        plain = json.dumps([self.places, self.rows_P, self.problems, self.complaints]).encode()
        arrays: dict[str, Any] = {name: getattr(self, name) for name in ARRAYS}
        held = io.BytesIO()
        np.savez(held, plain=np.frombuffer(plain, dtype=np.uint8), **arrays)
        write_bytes(path, hashlib.sha256(held.getbuffer()).digest() + held.getbuffer())


def read_census(path: Path) -> Census | None:
    """A census as it was written, or None where it is absent or damaged."""
    try:
        content = memoryview(path.read_bytes())
    except OSError:
        return None
    written, held = content[:HASH], content[HASH:]
    if hashlib.sha256(held).digest() != written:  # a zip file's own checksums say nothing of its directory
        return None
    with np.load(io.BytesIO(held)) as file:
        places, rows_P, problems, complaints = json.loads(file["plain"].tobytes())
        piece_D, bytes_D, ends_D, values_S = (file[name] for name in ARRAYS)
    problems = [(piece, place, reason) for piece, place, reason in problems]
    return Census(places, piece_D, bytes_D, ends_D, values_S, rows_P, problems, complaints)


def count(bundle: Bundle, kind: Duplicates, folder: Path | None) -> Census:
    """The bundle's census: read from `folder` where a whole one lies there, else counted and written there."""
    path = folder / f"{bundle.name}.npz" if folder else None
    known = read_census(path) if path else None
    if known is not None:
        return known
    made = census_of(bundle.found(), len(bundle.pieces), kind)
    if path:
        made.write(path)
    return made


def census_of(found: Iterable[tuple[int, Found]], pieces: int, kind: Duplicates) -> Census:
    """A census of what stands in so many pieces; it holds one text at a time."""
    places, piece, sizes, sketches = [], [], [], []
    rows_P, problems, complaints = [0] * pieces, [], 0
    for i, item in found:
        if isinstance(item.place, int):
            rows_P[i] = item.place
        if item.problem:
            complaints += 1
            problems += [(i, item.place, item.problem)] * (len(problems) < COMPLAINTS)
        elif item.text:
            places.append(item.place)
            piece.append(i)
            sizes.append(len(item.text.encode()))
            sketches.append(sketch(item.text, kind))
    ends_D = np.cumsum([len(values) for values in sketches], dtype=np.int64)
    values_S = np.concatenate(sketches) if sketches else np.empty(0, dtype=np.uint64)
    return Census(
        places,
        np.array(piece, dtype=np.int64),
        np.array(sizes, dtype=np.int64),
        ends_D,
        values_S,
        rows_P,
        problems,
        complaints,
    )


@dataclass(frozen=True)
class Chosen:
    """The documents of a bundle that are used: their places among its documents, in order, and what of each is used.

    held_N: held out for the test split? start_N, stop_N: bytes of its UTF-8. size_N: all of its bytes. A document that
    is cut between the splits is there twice.
    """

    bundle: Bundle
    document_N: Array
    size_N: Array
    start_N: Array
    stop_N: Array
    held_N: Array

    def texts(self, found: Iterable[str]) -> Iterator[tuple[bool, str]]:
        """(held out, text) of every document that is used, from the texts of all documents of the bundle.

        Raises ValueError if these are not those that were counted.
        """
        at = 0
        for number, text in enumerate(found):
            while at < len(self.document_N) and self.document_N[at] == number:
                size, start, stop = (int(x_N[at]) for x_N in (self.size_N, self.start_N, self.stop_N))
                raw = text.encode()
                if len(raw) != size:
                    break
                used = text if stop - start == size else raw[start:stop].decode(errors="ignore")
                if used:
                    yield bool(self.held_N[at]), used
                at += 1
            if at == len(self.document_N):
                return
        if at < len(self.document_N):
            raise ValueError(f"{self.bundle.root}: files changed while they were read; type the same command again")


def choose(counted: Iterable[tuple[Bundle, Census]], max_bytes: int, seen: Seen, report: Report) -> list[Chosen]:
    """The distinct documents of one domain, up to `max_bytes` of UTF-8 (the last one is cut there), some held out."""
    kept, keys, left, base = [], [], max_bytes, {}
    for bundle, census in counted:
        bases = _number_rows(bundle, census, base)
        for line in _complaints(bundle, census, bases):
            report(line)
        chosen, full = [], False
        for i, values in enumerate(census.sketches()):
            if not seen.admits(values):
                continue
            piece, size = int(census.piece_D[i]), int(census.bytes_D[i])
            used, full = min(size, left), size > left
            if used:
                keys.append(order(bundle.pieces[piece].name + _suffix(census.places[i], bases[piece]), "split"))
                chosen.append((i, size, used))
            left -= used
            if full:
                break
        document_N, size_N, stop_N = np.array(chosen, dtype=np.int64).reshape(-1, 3).T
        kept.append((bundle, document_N, size_N, stop_N))
        if full:
            report(f"{bundle.root}: only {max_bytes:,} bytes are used; corpus.max_bytes says how many")
            break
    if not kept:
        return []
    sizes_D = np.concatenate([stop_N for *_, stop_N in kept])
    if len(sizes_D) == 1:
        return [_halves(*part) for part in kept if len(part[1])]
    held_D, ends = hold_out(np.array(keys, dtype=np.uint64), sizes_D), np.cumsum([len(part[1]) for part in kept])
    return [
        Chosen(bundle, document_N, size_N, np.zeros_like(stop_N), stop_N, held_N)
        for (bundle, document_N, size_N, stop_N), held_N in zip(kept, np.split(held_D, ends[:-1]), strict=True)
        if len(document_N)
    ]


def hold_out(keys_D: Array, sizes_D: Array) -> Array:
    """(D,) bool: about a tenth of the bytes, in whole documents, in the order of their keys.

    A document of more than a fifth of the bytes is held out only where all are so large: then the smallest is.
    """
    held_D, total = np.zeros(len(sizes_D), dtype=bool), sizes_D.sum()
    (small_D,) = np.nonzero(sizes_D <= total / 5)
    small_D = small_D[np.argsort(keys_D[small_D], kind="stable")]
    before_D = np.cumsum(sizes_D[small_D]) - sizes_D[small_D]
    held_D[small_D[before_D < total / 10]] = True
    if len(sizes_D) and not held_D.any():
        held_D[sizes_D.argmin()] = True
    return held_D


def _halves(bundle: Bundle, document_N: Array, size_N: Array, stop_N: Array) -> Chosen:
    """A single document is cut: the first 90 % of its lines, and the rest."""
    text = next(text for i, text in enumerate(bundle.texts()) if i == document_N[0])
    lines = text.encode()[: stop_N[0]].decode(errors="ignore").splitlines(keepends=True)
    cut = len("".join(lines[: len(lines) * 9 // 10]).encode())
    return Chosen(
        bundle,
        document_N.repeat(2),
        size_N.repeat(2),
        np.array([0, cut]),
        np.array([cut, int(stop_N[0])]),
        np.array([False, True]),
    )


def _number_rows(bundle: Bundle, census: Census, base: dict[str, int]) -> list[int]:
    """Rows of the same file that stand before each piece; `base` counts them through the bundles."""
    before = []
    for piece, rows in zip(bundle.pieces, census.rows_P, strict=True):
        before.append(base.get(piece.name, 0) if piece.start else 0)
        if piece.start or piece.stop is not None:
            base[piece.name] = before[-1] + rows
    return before


def _suffix(place: int | str, base: int) -> str:
    return f"#{base + place}" if isinstance(place, int) else place


def _complaints(bundle: Bundle, census: Census, bases: list[int]) -> Iterator[str]:
    for piece, place, reason in census.problems:
        row = f", row {bases[piece] + place}" if isinstance(place, int) else ""
        yield f"{bundle.root / bundle.pieces[piece].name}{row}: {reason}"
    if census.complaints > len(census.problems):
        yield f"{bundle.root / bundle.pieces[0].name} and others: {census.complaints - len(census.problems)} more"

"""Builds the token ids of a corpus: census, choice of documents, tokenizer, shards.

A build reads its files twice and holds no text, unless the data are small. It works in a folder of its own where all
that is whole is kept, so that a build that was killed goes on where it was. Neither the number of workers nor an
interruption changes a byte of what it leaves.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ablate.core.corpus import SPLITS, Domain
from ablate.core.foreign_files import printable
from ablate.core.storage import digest, file_hash
from ablate.core.terminal import terminal
from ablate.text.document_split import Census, Chosen, census_of, choose, count
from ablate.text.near_duplicates import Duplicates, Seen
from ablate.text.process_pool import Pool, pool
from ablate.text.readers import Found
from ablate.text.sources import Bundle, Shelf
from ablate.text.token_shards import Order, dtype_of, read_tokenizer, tokenize, write_sealed, write_tokenizer
from ablate.text.tokenizer import TextTokenizer, trained

Advance = Callable[[int], None]  # told the bytes that are done
CODE = (
    "../core/foreign_files.py",
    "dataset_build.py",
    "document_split.py",
    "near_duplicates.py",
    "sources.py",
    "readers.py",
    "column_files.py",
    "token_shards.py",
    "tokenizer.py",
)
SMALL = 32 * 2**20  # bytes up to which a build keeps texts in memory and starts no processes
SAMPLE = 32 * 2**20  # characters of each domain that a tokenizer learns from


@dataclass(frozen=True)
class Recipe:
    """All that determines the tokens. tokenizer: None where one is learned. eos: do documents end with a separator?"""

    shelves: dict[Domain, Shelf]
    tokens: int
    max_bytes: int
    duplicates: Duplicates = Duplicates.near
    eos: bool = True
    tokenizer: TextTokenizer | None = None

    def key(self) -> str:
        """Hash of the files, of the settings and of the code that decides which tokens the same files give."""
        fixed = self.tokenizer
        return digest(
            {
                "code": [file_hash(Path(__file__).parent / name) for name in CODE],
                "python": sys.version,
                "tokenizers": importlib.metadata.version("tokenizers"),
                "files": {domain: shelf.manifest() for domain, shelf in self.shelves.items()},
                "settings": [self.tokens, self.max_bytes, self.duplicates, self.eos],
                "tokenizer": fixed and [fixed.content, fixed.separator, fixed.mask],
            }
        )

    @property
    def sizes(self) -> dict[Domain, int]:
        """Bytes of each domain's files that are read, about."""
        return {domain: min(shelf.size(), self.max_bytes) for domain, shelf in self.shelves.items()}

    @property
    def small(self) -> bool:
        return sum(self.sizes.values()) <= SMALL


@dataclass
class Build:
    """A build in the folder `part`, where a former one may have left off.

    workers: processes; 0 for one where the data are small, else one a core. texts: of the bundles read, where the data
    are small; room: characters that they may still take. problems: what cannot be used, a line each.
    """

    recipe: Recipe
    part: Path
    workers: int = 0
    chosen: dict[Domain, list[Chosen]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    room: int = SMALL

    def run(self) -> None:
        """Fills the folder; `meta.json` comes last. Raises ValueError where a domain has no usable document."""
        (self.part / "census").mkdir(parents=True, exist_ok=True)
        with pool(self.workers or (1 if self.recipe.small else _cores())) as workers:
            if not self.chosen:
                self.choose(workers)
            sha256, dtype = self._tokenizer()
            orders = [
                Order(each, self.part, sha256, self.recipe.eos) for parts in self.chosen.values() for each in parts
            ]
            shards = {}
            with _bar("tokenising", sum(order.chosen.bundle.size for order in orders)) as advance:
                for order, shard in zip(orders, self._tokenized(workers, orders), strict=True):
                    shards[order.path.name] = shard
                    advance(order.chosen.bundle.size)
        self._seal(shards, dtype)

    def choose(self, workers: Pool) -> None:
        """Decides which documents are used; what cannot be used is named on stderr."""
        seen = Seen()
        try:
            for domain, shelf in self.recipe.shelves.items():
                report = (lambda line: None) if shelf.quiet else self.problems.append
                for name, reason in shelf.barred:
                    report(f"{shelf.root / name}: {reason}")
                with (
                    _bar(f"reading {domain}", self.recipe.sizes[domain]) as advance,
                    closing(self._counted(workers, shelf.bundles(domain), advance)) as counted,
                ):
                    chosen = choose(counted, self.recipe.max_bytes, seen, report)
                if not chosen:
                    shutil.rmtree(self.part, ignore_errors=True)  # of no use to the command that is typed next
                    raise ValueError(
                        f"corpus: no usable document for the {domain} domain among the {len(shelf.names)} files under "
                        f"{shelf.root}; wanted {shelf.wanted}; "
                        "try corpus=text corpus.folder=PATH (new) corpus.general=PATH"
                    )
                self.chosen[domain] = chosen
        finally:
            _complain(self.problems)

    def _counted(
        self, workers: Pool, bundles: Iterable[Bundle], advance: Advance
    ) -> Generator[tuple[Bundle, Census], None, None]:
        work = self._remember if self.recipe.small else partial(_count, self.recipe.duplicates, self.part / "census")
        for bundle, census in (map if self.recipe.small else workers.each)(work, bundles):
            yield bundle, census
            advance(bundle.size)

    def _remember(self, bundle: Bundle) -> tuple[Bundle, Census]:
        texts: list[str] = []

        def remembered() -> Iterator[tuple[int, Found]]:
            for i, item in bundle.found():
                self.room -= len(item.text)
                texts.extend([item.text] * bool(item.text and self.room >= 0))
                yield i, item

        census = census_of(remembered(), len(bundle.pieces), self.recipe.duplicates)
        if self.room >= 0:  # else it is small on disk alone, and is read again
            self.texts[bundle.name] = texts
        return bundle, census

    def _tokenizer(self) -> tuple[str, str]:
        """Hash of the tokenizer that lies in the folder now, and the type of its ids."""
        known = read_tokenizer(self.part)
        if known is None:
            made = self.recipe.tokenizer or trained(self._sample(), self.recipe.tokens)
            known = made, write_tokenizer(self.part, made)
        return known[1], dtype_of(known[0])

    def _sample(self) -> Iterator[str]:
        """Texts of the train splits, the first `SAMPLE` characters of each domain."""
        for domain in Domain:
            left = SAMPLE
            for chosen in self.chosen[domain]:
                for held, text in chosen.texts(self._texts(chosen) or chosen.bundle.texts()):
                    if not held:
                        yield text[:left]
                        left -= len(text[:left])
                    if not left:
                        break
                if not left:
                    break

    def _texts(self, chosen: Chosen) -> list[str] | None:
        return self.texts.get(chosen.bundle.name)

    def _tokenized(self, workers: Pool, orders: list[Order]) -> Iterator[dict[str, Any]]:
        if workers.workers > 1:
            return workers.each(tokenize, orders)
        return (tokenize(order, self._texts(order.chosen)) for order in orders)

    def _seal(self, shards: dict[str, dict[str, Any]], dtype: str) -> None:
        """Leaves the shards, the tokenizer and, at last, `meta.json`, which names them all."""
        splits = {
            f"{domain}.{side}": [
                shard["files"][side]
                for name, shard in shards.items()
                if name.startswith(f"{domain}.") and side in shard["files"]
            ]
            for domain in Domain
            for side in SPLITS
        }
        known = {file["name"]: file["sha256"] for split in splits.values() for file in split}
        kept = {*shards, "tokenizer.json", "special.json", *known}
        for path in self.part.iterdir():
            if path.name not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        files = {
            path.name: [path.stat().st_size, known.get(path.name) or file_hash(path)]
            for path in sorted(self.part.iterdir())
        }
        write_sealed(
            self.part / "meta.json",
            {
                "files": files,
                "splits": {
                    split: [[file["name"], file["tokens"]] for file in parts] for split, parts in splits.items()
                },
                "documents": {split: sum(len(file["lengths"]) for file in parts) for split, parts in splits.items()},
                **{
                    size: {split: sum(file[size] for file in parts) for split, parts in splits.items()}
                    for size in ("bytes", "token_bytes")  # of the texts, and as their tokens say
                },
                "dtype": dtype,
                "shards": list(shards),
                "left_out": self.problems,
            },
        )


def _count(kind: Duplicates, folder: Path, bundle: Bundle) -> tuple[Bundle, Census]:
    return bundle, count(bundle, kind, folder)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _complain(problems: list[str]) -> None:
    told = [f"not used: {printable(line)}" for line in problems[:10]]
    for line in told + [f"and {len(problems) - 10} more"] * (len(problems) > 10):
        print(f"corpus: {line}", file=sys.stderr)


@contextmanager
def _bar(title: str, total: int) -> Iterator[Advance]:
    """A progress bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=terminal(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)

"""Texts for tests, and folders of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

VERBS = ["reads", "writes", "folds", "splits", "merges", "drops", "copies", "sorts", "joins", "moves"]
NOUNS = ["row", "file", "word", "page", "list", "line", "tree", "node", "edge", "path", "ünit", "数"]


def prose(seed: int, lines: int = 40) -> str:
    """Lines of words in an order of their own, so that no two documents are near-duplicates."""
    rng = np.random.default_rng(seed)
    pick = [(rng.choice(NOUNS), rng.choice(VERBS), rng.choice(NOUNS), rng.integers(1000)) for _ in range(lines)]
    return "".join(f"the {a} {b} a {c} {n}.\n" for a, b, c, n in pick)


def fill(folder: Path, first: int, n: int = 6, lines: int = 40) -> Path:
    """n files of prose, half of them in a folder below."""
    (folder / "below").mkdir(parents=True)
    for i in range(n):
        (folder / ("below" if i % 2 else ".") / f"{i}.txt").write_text(prose(first + i, lines), encoding="utf-8")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Bytes of all files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

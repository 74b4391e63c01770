"""Desk: where the rows of a figure lie, which are drawn each by itself, and what to type where there are none."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

OPTIONS = {"runs": "--from", "survey": "--survey"}


@dataclass(frozen=True)
class Rows:
    """Where a figure's rows lie in results/, how they are read, and what to type to make them.

    apart: columns, each of whose values is drawn for itself. has: what some row of such a part must match, a regular
    expression by column; parts without are left out. option: what names other rows to draw from, a key of OPTIONS.
    """

    files: str
    read: Callable[[Path], pd.DataFrame]
    make: str
    apart: tuple[str, ...] = ()
    has: dict[str, str] = field(default_factory=dict)
    option: str = ""

    def parts(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Rows to be drawn each by itself, by the end of its file's name."""
        if not self.apart:
            return {"": rows} if self._fits(rows) else {}
        found = {"".join(f"_{value}" for value in key if value): part for key, part in rows.groupby(list(self.apart))}
        return {end: part for end, part in found.items() if self._fits(part)}

    def _fits(self, part: pd.DataFrame) -> bool:
        return all(part[column].str.fullmatch(value).any() for column, value in self.has.items())


@dataclass(frozen=True)
class Drawing:
    """A figure and its rows; `beside`: further ones, which every part gets whole."""

    draw: Callable[..., Figure]
    rows: Rows | None = None
    beside: Rows | None = None

    @property
    def needs(self) -> list[Rows]:
        return [rows for rows in (self.rows, self.beside) if rows]


@dataclass
class Desk:
    """Rows at hand: those of results/, each file read once, or what was given in their place, by option."""

    results: Path
    given: dict[str, pd.DataFrame]
    kept: dict[str, pd.DataFrame] = field(default_factory=dict)

    def missing(self, drawing: Drawing) -> str:
        """Where rows were wanted, what came and what to type; "" where a figure can be drawn."""
        for rows in drawing.needs:
            where = OPTIONS[rows.option] if rows.option in self.given else str(self.results / rows.files)
            if rows.option not in self.given and not any(self.results.glob(rows.files)):
                return f"wanted rows in {where}; nothing there; type {rows.make}"
            if rows is drawing.rows and not rows.parts(self.rows(rows)):
                wanted = " and ".join(f"{column} {value}" for column, value in rows.has.items()) or "rows"
                return f"wanted {wanted} in the rows of {where}; came none; type {rows.make}"
        return ""

    def rows(self, rows: Rows) -> pd.DataFrame:
        if rows.option in self.given:
            return self.given[rows.option]
        if rows.files not in self.kept:
            files = sorted(self.results.glob(rows.files))
            self.kept[rows.files] = pd.concat([rows.read(file) for file in files], ignore_index=True)
        return self.kept[rows.files]

    def tasks(self, drawing: Drawing) -> Iterator[tuple[Callable[..., Figure], list[pd.DataFrame], str]]:
        """Part by part: what draws, what it is given, and the end of the file's name."""
        if drawing.rows is None:
            yield drawing.draw, [], ""
            return
        beside = [self.rows(drawing.beside)] if drawing.beside else []
        for end, part in drawing.rows.parts(self.rows(drawing.rows)).items():
            yield drawing.draw, [part, *beside], end

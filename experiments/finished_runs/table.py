"""What the terminal shows of an evaluation."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Table

Frame = Any  # a pandas frame or one row of it, whose columns no type checker knows
BY = ["objective", "grid", "block_size", "order", "pace"]


def table(title: str, rows: Frame) -> Table:
    """A line a protocol and a bound: mean and standard error, how many were asked, at which pace."""
    shown = Table(title=title, title_justify="left")
    for name in ("model", "grid", "block", "order", "pace"):
        shown.add_column(name, no_wrap=True)
    for name in ("score", "exact", "in left-to-right place", "impossible", "tokens a pass", "n"):
        shown.add_column(name, justify="right")
    decoded = rows[rows["contexts"] == "decode"]
    for key, part in decoded.groupby([*BY, "question_seed", "n"], sort=False):
        at = part.set_index("metric")
        cells = [cell(at.loc[name]) for name in ("score", "exact")]
        values = at["value"]
        cells += [f"{values[name]:.2f}" if name in values else "-" for name in ("left_to_right", "inconsistent")]
        shown.add_row(*map(str, key[:5]), *cells, f"{values['tokens_a_pass']:.2f}", str(key[-1]))
    shown.add_section()
    for _, row in rows[rows["contexts"] == "bound"].iterrows():
        where = f"bound, offset {row['offset']}"
        shown.add_row(
            row["objective"],
            row["grid"],
            str(row["block_size"]),
            where,
            "",
            f"{cell(row)} bits",
            *[""] * 4,
            str(row["n"]),
        )
    return shown


def cell(row: Frame) -> str:
    """A mean and its standard error."""
    return f"{row['value']:.3f}" if math.isnan(row["error"]) else f"{row['value']:.3f} ± {row['error']:.3f}"

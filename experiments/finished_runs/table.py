"""What the terminal shows of an evaluation."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Table

CAPTION = (
    "± standard error over the n questions. left to right: share of tokens revealed after all on their left, in order. "
    "impossible: share of questions in which the decoder met a state that the oracle holds impossible. Of sequences, "
    "wholly right are those that break no rule."
)
Frame = Any  # a pandas frame or one row of it, whose columns no type checker knows
BY = ["objective", "contexts", "grid", "block_size", "order", "pace"]


def table(title: str, rows: Frame) -> Table:
    """A line a protocol and a bound: mean and standard error, how many were asked, at which pace."""
    shown = Table(title=title, title_justify="left", caption=CAPTION, caption_justify="left")
    for name in ("model", "asked", "grid", "block", "order", "pace"):
        shown.add_column(name, no_wrap=True)
    for name in ("right", "wholly right", "left to right", "impossible", "tokens a pass", "n"):
        shown.add_column(name, justify="right", no_wrap=True)
    decoded = rows[rows["contexts"].isin(["decode", "sequence"])]
    by = [*BY, "protocol", "question_seed", "n"]
    for (model, contexts, *where, protocol, _, n), part in decoded.groupby(by, sort=False):
        at = part.set_index("metric")
        cells = [cell(at.loc[name]) if name in at.index else "" for name in ("score", "exact")]
        values = at["value"]
        if contexts == "sequence":
            cells = ["", cell(at.loc["possible"])]
        cells += [f"{values[name]:.2f}" if name in values else "" for name in ("left_to_right", "inconsistent")]
        asked = {"decode": "answer", "sequence": "sequence"}[contexts]
        where[-1] += ", prefix cache" if "approximate" in protocol else ""
        shown.add_row(model, asked, *map(str, where), *cells, f"{values['tokens_a_pass']:.2f}", str(n))
    shown.add_section()
    for _, row in rows[rows["contexts"] == "bound"].iterrows():
        where = [row["objective"], "bound", row["grid"], str(row["block_size"]), f"offset {row['offset']}", ""]
        shown.add_row(*where, f"{cell(row)} bits", *[""] * 4, str(row["n"]))
    return shown


def cell(row: Frame) -> str:
    """A mean and its standard error."""
    return f"{row['value']:.3f}" if math.isnan(row["error"]) else f"{row['value']:.3f} ± {row['error']:.3f}"

"""Question: how often does a block get no training signal? Command: `python experiments/no_signal.py` (see --help).

Cost: under 20 s, no GPU. Closed forms of P(no masked token), of token weights and of the share of clean contexts beside
quadrature and the objectives' own masks: tables, rows and figures. Exit code 1 where they disagree.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from ablate.analysis.block_loss_checks import validate_blocks
from ablate.analysis.noise_checks import DRAWS, validate, validate_weights
from ablate.core.storage import write_bytes
from ablate.core.terminal import terminal
from ablate.core.validation import UsageError
from experiments.cli.guard import guarded, refuse
from experiments.cli.places import require_place
from experiments.reports.clean_context_share import shares
from figures.drawing import style
from figures.noise import clean_context, empty_blocks

Frame = Any  # a pandas frame or one row of it, whose columns no type checker knows
LEVEL = 1e-3  # of Holm-adjusted p-values, below which an estimate contradicts its closed form
QUADRATURE = 1e-8
LEAST, MOST = 100, 10_000_000


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 where all agree, 1 where an estimate or a quadrature contradicts a closed form, 2 for bad input."""
    asked = _parser().parse_args(arguments)
    try:
        require_place(asked.out, "--out")
        rows: Frame = pd.DataFrame(validate(draws=asked.draws, seed=asked.seed))
        weights: Frame = pd.DataFrame(validate_weights(draws=asked.draws, seed=asked.seed))
        blocks: Frame = pd.DataFrame(validate_blocks(draws=asked.draws, seed=asked.seed))
        clean: Frame = pd.DataFrame(shares(draws=asked.draws, seed=asked.seed))
        tables: dict[str, Frame] = {"no_signal": rows, "token_weights": weights, "block_losses": blocks}
        tables["clean_share"] = clean
        for name, frame in tables.items():
            write_bytes(asked.out / f"{name}.csv", frame.to_csv(index=False).encode())
        drawn = {"no_signal": empty_blocks.draw(rows), "clean_share": clean_context.draw(clean)}
        paths = [path for name, figure in drawn.items() for path in style.save(figure, asked.out / name)]
    except (UsageError, OSError) as error:
        return refuse(error)
    console = terminal()
    console.width = max(console.width, 24 + 16 * rows["block_size"].nunique())  # a number cut short is lost
    console.print(table(rows), weights_table(weights), blocks_table(blocks))
    off = max(float((frame["quadrature"] - frame["closed_form"]).abs().max()) for frame in (rows, blocks))
    least = float(min(frame["p_holm"].min() for frame in tables.values()))
    console.print(f"largest distance of quadrature {off:.1e}; smallest Holm-adjusted p {least:.2g}", highlight=False)
    for path in (*paths, *(asked.out / f"{name}.csv" for name in tables)):
        console.print(f"  {path}", soft_wrap=True, highlight=False)
    return int(least < LEVEL or off > QUADRATURE)


def table(rows: Frame) -> Table:
    """A line per schedule, a column per block size: closed form, and the estimate below it."""
    out = Table(
        title=f"P(no masked token in a block of B), {rows['draws'].iloc[0]:,} blocks drawn each",
        title_justify="left",
        show_edge=False,
        pad_edge=False,
        caption=f"closed form, then the share among drawn masks; ! where Holm-adjusted p < {LEVEL:g}",
        caption_justify="left",
    )
    out.add_column("B", no_wrap=True)
    sizes = sorted(rows["block_size"].unique())
    for size in sizes:
        out.add_column(str(size), justify="right", no_wrap=True)
    for name, part in rows.groupby("schedule", sort=False):
        at = part.set_index("block_size")
        out.add_row(str(name), *(_cell(at.loc[size]) if size in at.index else "–" for size in sizes))
    return out


def _cell(row: Frame) -> str:
    mark = "!" if row["p_holm"] < LEVEL else ""
    return f"{_number(row['closed_form'])} {_number(row['estimate'])}{mark}"


def _number(value: float) -> str:
    return f"{value:.4f}" if value >= 5e-4 or value == 0 else f"{value:.0e}"


def weights_table(rows: Frame) -> Table:
    """Mean weight of a token after the atom clip, by guard and weight: a column per block size."""
    title = "Mean weight of a token, rates clipped at 1/B: exact, then drawn ± standard error"
    return _by_size(rows, ["guard", "weight"], "closed_form", title, "1 where the loss is unbiased")


def blocks_table(rows: Frame) -> Table:
    """Masked tokens, the loss's variance and the weight's tail: a line per schedule, guard and weight."""
    title = "Of a block: masked tokens, variance of its loss, tail of its weight: exact, then drawn ± standard error"
    caption = "exact: by quadrature; the variance is that of sum(weight) / B, each token's cross-entropy being 1"
    return _by_size(rows, ["quantity", "schedule", "guard", "weight"], "quadrature", title, caption)


def _by_size(rows: Frame, names: list[str], exact: str, title: str, caption: str) -> Table:
    """A line for each combination of these columns, a column per block size; ! marks what draws contradict."""
    out = Table(
        title=title, title_justify="left", show_edge=False, pad_edge=False, caption=caption, caption_justify="left"
    )
    out.add_column(", ".join(names), no_wrap=True)
    for size in sorted(rows["block_size"].unique()):
        out.add_column(f"B = {size}", justify="right", no_wrap=True)
    for values, part in rows.groupby(names, sort=False):
        cells = (
            f"{row[exact]:.3f} {row['estimate']:.3f} ± {row['error']:.3f}{'!' if row['p_holm'] < LEVEL else ''}"
            for _, row in part.iterrows()
        )
        out.add_row(", ".join(map(str, values)), *cells)
    return out


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="P(no masked token) of every schedule and block size: closed form, quadrature, and masks as the "
        "objectives draw them (exact binomial tests, Holm-adjusted); mean weights of a token; share of clean contexts. "
        "Exit code 1 where they disagree."
    )
    parser.add_argument("--draws", type=_count, default=DRAWS, metavar="N", help=f"blocks a test (default {DRAWS})")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="of the masks (default 0)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/no_signal"),
        metavar="DIR",
        help="folder of rows and figures (default runs/no_signal)",
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not LEAST <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"wanted a whole number from {LEAST} to {MOST}, got {text!r}")
    return int(text)


if __name__ == "__main__":
    guarded(main)

"""What the terminal says at the end of a run: a short table, the figure, the paths."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ablate.core import records

Frame = Any  # a pandas frame or one row of it, whose columns no type checker knows


def report(folder: Path, console: Console) -> None:
    """Draws the run's training dynamics into its folder and prints what was learned."""
    from figures.drawing import arms, style
    from figures.learning import training_dynamics

    rows = records.read(folder)
    metric = training_dynamics.headline(rows)
    style.save(training_dynamics.draw(rows, metric=metric, grid=arms.own_grid(rows)), folder / "training_dynamics")
    shown = summary(rows, metric)
    console.width = max(console.width, 24 + 9 * len(shown.columns))  # a number cut short is lost
    console.print(shown)
    manifest = json.loads((folder / "manifest.json").read_text())
    seconds = {name: f"{manifest[f'{name}_seconds']:.0f} s" for name in ("wall", "cpu", "evaluation")}
    spent = f"{seconds['wall']} wall ({seconds['evaluation']} of them in probes), {seconds['cpu']} CPU"
    console.print(f"{rows['run'].iloc[0]}: {spent}", soft_wrap=True)
    for name in ("training_dynamics.png", "training_dynamics.pdf", "records.parquet", "config.yaml", "manifest.json"):
        console.print(f"  {folder / name}", soft_wrap=True)


def summary(rows: Frame, metric: str) -> Table:
    """Held-out new domain by block size: baseline, before and after the switch, at the end; forgetting below, and the
    unclipped bound over whole sequences by block size."""
    from figures.drawing import arms

    table = Table(title=f"{rows['run'].iloc[0]}: held-out {metric}", title_justify="left")
    marks = moments(rows)
    table.add_column("block", no_wrap=True)
    for name in marks:
        table.add_column(name, justify="right", min_width=6)
    grid = arms.own_grid(rows)
    wanted = records.under(rows[(rows["metric"] == metric) & rows["contexts"].isin(["decode", "block"])], grid)
    for (domain, split), note in {
        ("new", "test"): "",
        ("new", "train"): " (train split)",
        ("general", "test"): " (general)",
    }.items():
        part = wanted[(wanted["domain"] == domain) & (wanted["split"] == split)]
        for size, group in sorted(part.groupby("block_size"), reverse=True):
            at = group.set_index(["stage", "step"])["value"]
            table.add_row(f"{size}{note}", *(f"{at[mark]:.3f}" for mark in marks.values()))
    table.add_section()
    unit = "byte" if metric == "bits_per_byte" else "token"
    table.caption = (
        f"blocks counted from the {grid}; decoded most confident first, one token a pass\n"
        f"bound: unclipped, over whole sequences in blocks of so many tokens, bits a {unit}"
    )
    table.caption_justify = "left"
    for words, part in arms.bounds(rows, grid=grid).items():
        at = part.set_index(["stage", "step"])["value"]
        table.add_row(f"bound {words}", *(f"{at[mark]:.3f}" for mark in marks.values()))
    return table


def moments(rows: Frame) -> dict[str, tuple[int, int]]:
    """(stage, step) of the baseline, of both sides of each switch and of the end, in order."""
    probed = rows[rows["contexts"] != ""]
    stages = sorted(set(probed["stage"]) - {-1})
    out = {"base": (-1, 0)}
    for before, after in pairwise(stages):
        step = int(probed[probed["stage"] == after]["step"].min())
        out[f"{step} before"], out[f"{step} after"] = (before, step), (after, step)
    last = int(probed["step"].max())
    return {**out, f"{last} end": (stages[-1], last)}

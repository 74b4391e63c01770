"""What the terminal says at the end of a run: a short table, the figure, the paths."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from ablate import records


def report(folder: Path, console: Console) -> None:
    """Draws the run's training dynamics into its folder and prints what was learned."""
    from figures import style, training_dynamics

    rows = records.read(folder)
    metric = headline(rows)
    style.save(training_dynamics.draw(rows, metric=metric), folder / "training_dynamics")
    console.print(summary(rows, metric))
    manifest = json.loads((folder / "manifest.json").read_text())
    console.print(
        f"{rows['run'].iloc[0]}: {manifest['wall_seconds']:.0f} s wall, {manifest['cpu_seconds']:.0f} s CPU, of the wall "
        f"{manifest['evaluation_seconds']:.0f} s in probes"
    )
    for name in ("training_dynamics.png", "training_dynamics.pdf", "records.parquet", "config.yaml", "manifest.json"):
        console.print(f"  {folder / name}", soft_wrap=True)


def headline(rows: pd.DataFrame) -> str:
    """The metric of the main figure: decoding score, or bits per byte where no oracle can verify an answer."""
    return "bits_per_byte" if "bits_per_byte" in set(rows["metric"]) else "score"


def summary(rows: pd.DataFrame, metric: str) -> Table:
    """Held-out new domain by block size: baseline, before and after the switch, at the end; forgetting below."""
    table = Table(title=f"{metric} on held-out new-domain questions", title_justify="left")
    marks = moments(rows)
    table.add_column("block")
    for name in marks:
        table.add_column(name, justify="right")
    wanted = rows[(rows["metric"] == metric) & (rows["contexts"] != "ar") & rows["block_size"].notna()]
    for domain, split in (("new", "test"), ("new", "train"), ("general", "test")):
        part = wanted[(wanted["domain"] == domain) & (wanted["split"] == split)]
        for size, group in sorted(part.groupby("block_size"), reverse=True):
            label = f"{size}" if (domain, split) == ("new", "test") else f"{size} ({domain}, {'seen' if split == 'train' else 'held out'})"
            values = (group[(group["stage"] == stage) & (group["step"] == step)]["value"] for stage, step in marks.values())
            table.add_row(label, *(f"{v.iloc[0]:.3f}" if len(v) else "" for v in values))
    return table


def moments(rows: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """(stage, step) of the baseline, of both sides of each switch and of the end, in order."""
    probed = rows[rows["contexts"] != ""]
    stages = sorted(set(probed["stage"]) - {-1})
    out = {"base": (-1, 0)}
    for before, after in zip(stages, stages[1:], strict=False):
        step = int(probed[probed["stage"] == after]["step"].min())
        out[f"{step} before"], out[f"{step} after"] = (before, step), (after, step)
    last = int(probed["step"].max())
    return {**out, f"{last} end": (stages[-1], last)}

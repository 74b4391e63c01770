"""Claim: the order of objectives, not their number of steps, sets what a model can decode at each block size."""

from collections.abc import Iterable

import pandas as pd
from matplotlib.figure import Figure

from figures.drawing import arms, curves

YLABELS = {
    "score": "Share of answer items right",
    "exact": "Share of answers wholly right",
    "bits_per_byte": "Bits per byte",
    "bits": "Cross-entropy (bits per token)",
}
SHARES = {"score", "exact"}


def draw(
    rows: pd.DataFrame, metric: str = "score", domain: str = "new", split: str = "test", grid: str = "answer"
) -> Figure:
    """Metric against training steps on the new domain, a panel per block size from large to small.

    ValueError where the rows hold no such measurement or mix corpora, protocols or two runs of one seed.
    """
    chosen = arms.select(rows[rows["contexts"] != "bound"], metric, domain, split, grid)
    keys = order(arms.panels(chosen))
    limits = (-0.02, 1.02) if metric in SHARES else None
    return curves.figure(chosen, keys, YLABELS.get(metric, metric), limits)


def order(keys: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Keys (contexts, block size) as the paper orders its panels: block sizes from large to small, behind the rest."""
    return sorted(keys, key=lambda key: (key[1] > 0, key[0], -key[1]))


def headline(rows: pd.DataFrame) -> str:
    """Metric that says how good a run is: "bits_per_byte" on real text, else "score"; ValueError on neither."""
    for metric in ("bits_per_byte", "score"):
        if (rows["metric"] == metric).any():
            return metric
    held = ", ".join(sorted(rows["metric"].unique())) or "no rows"
    raise ValueError(f"runs: wanted measurements of score or bits_per_byte; came {held}; let the runs reach a probe")

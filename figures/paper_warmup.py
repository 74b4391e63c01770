"""Claim of the paper: its Figure 4 (arXiv 2601.15892), redrawn from the numbers in its vector graphics."""

from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import style, warmup

FILE = Path(__file__).parent / "paper" / "stable_diffcoder_fig4.csv"
AR, DIFFUSION = warmup.COLOURS["ar"], warmup.COLOURS["cap_drop"]
# Series of loss and gradient norm, by panel; the paper shows no AR beside the run without warmup.
COLUMNS = {
    "Without warmup": {"noWU_loss noWU_gn": DIFFUSION},
    "With warmup": {"WU_loss_AR WU_gn_AR": AR, "WU_loss_DLLM WU_gn_DLLM": DIFFUSION},
    "Block diffusion, no shift": {"Block_AR_loss Block_AR_gn": AR, "Block_loss Block_gn": DIFFUSION},
}
END = 1000  # steps of warmup


def draw() -> Figure:
    """Loss and gradient norm against training steps, log axes."""
    points = pd.read_csv(FILE)
    points = points[points["step"] > 0].assign(seed=0)
    with matplotlib.rc_context(style.RC):
        drawing = Figure(figsize=(7.2, 3.6), layout="constrained")
        grid = drawing.subplots(2, len(COLUMNS), sharex=True, sharey="row")
        for column, (title, series) in zip(grid.T, COLUMNS.items(), strict=True):
            for names, colour in series.items():
                for axis, name in zip(column, names.split(), strict=True):
                    warmup.draw_series(axis, points[points["series"] == name], colour)
            if title != "Without warmup":
                for axis in column:
                    axis.axvline(END, color=style.NEUTRAL, linewidth=0.6, zorder=1)
        warmup.dress(grid, list(COLUMNS))
        for axis, label in zip(grid[:, 0], ("Loss (nats)", "Gradient norm"), strict=True):
            axis.set_ylabel(label)
        handles = [Line2D([], [], color=DIFFUSION, label="diffusion"), Line2D([], [], color=AR, label="AR")]
        drawing.legend(handles=handles, ncols=2, loc="outside lower center",
                       title="Stable-DiffCoder (2601.15892), Figure 4. Thin: as published; thick: median of "
                             "neighbouring steps; vertical: end of warmup.")  # fmt: skip
    return drawing

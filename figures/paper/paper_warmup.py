"""Claim of the paper: its Figure 4 (arXiv 2601.15892), redrawn from the numbers in its vector graphics, alone or beside
our own runs."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.drawing import style
from figures.learning import warmup_dynamics

FILE = Path(__file__).parent / "stable_diffcoder_fig4.csv"
# Arm by series of loss and gradient norm, by panel; the paper shows no AR beside the run without warmup.
COLUMNS = {
    "Without warmup": {"noWU_loss noWU_gn": "none"},
    "With warmup": {"WU_loss_AR WU_gn_AR": "ar", "WU_loss_DLLM WU_gn_DLLM": "both"},
    "Block diffusion, no shift": {"Block_AR_loss Block_AR_gn": "ar", "Block_loss Block_gn": "both"},
}
BESIDE = ("Without warmup", "With warmup")
LABELS = {"none": "diffusion, no warmup", "both": "diffusion, with warmup", "ar": "AR"}
END = 1000  # steps of warmup
CAPTION = (
    "Stable-DiffCoder (2601.15892), Figure 4, one run a line: thin, as published; thick, median of neighbouring steps; "
    f"vertical: end of its warmup, step {END}."
)


def draw() -> Figure:
    """Loss and gradient norm against training steps, log axes."""
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(7.2, 3.5, CAPTION)
        grid = body.subplots(2, len(COLUMNS), sharex=True, sharey="row")
        _draw_columns(grid, list(COLUMNS))
        warmup_dynamics.dress(grid, list(COLUMNS))
        for axis, label in zip(grid[:, 0], ("Loss (nats)", "Gradient norm"), strict=True):
            axis.set_ylabel(label)
        body.legend(handles=warmup_dynamics.entries(LABELS), ncols=3, loc="outside lower center")
    return drawing


def beside(ours: pd.DataFrame, end: int | None = None) -> Figure:
    """The paper's panels, and on the same axes ours: loss and gradient norm as trained, before clipping.

    end: our warmup's last step, where the arms' names do not say its length. ValueError where no run has logged a loss.
    """
    logged = warmup_dynamics.select(ours, end)
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(7.2, 3.6, f"Left: {CAPTION} Right: {warmup_dynamics.caption(logged)}")
        grid = body.subplots(2, 2 * len(BESIDE), sharex="col", sharey="row")
        _draw_columns(grid[:, : len(BESIDE)], BESIDE)
        for column, title in zip(grid[:, len(BESIDE) :].T, BESIDE, strict=True):
            for axis, metric in zip(column, ("loss", "grad_norm"), strict=True):
                warmup_dynamics.draw_panel(axis, logged, metric, warmup_dynamics.COLUMNS[title])
        where = [*("Paper",) * len(BESIDE), *("Here",) * len(BESIDE)]
        warmup_dynamics.dress(
            grid, [f"{place}, {title.lower()}" for place, title in zip(where, BESIDE * 2, strict=True)]
        )
        for axis, label in zip(grid[:, 0], ("Loss as trained\n(nats)", "Gradient norm"), strict=True):
            axis.set_ylabel(label)
        handles = [*warmup_dynamics.entries(LABELS), *warmup_dynamics.lengths(logged, warmup_dynamics.COLOURS["both"])]
        body.legend(handles=handles, ncols=len(handles), loc="outside lower center")
    return drawing


def _draw_columns(grid: np.ndarray, titles: list[str] | tuple[str, ...]) -> None:
    """The paper's series, a column of loss and gradient norm per title."""
    points = pd.read_csv(FILE)
    points = points[points["step"] > 0].assign(seed=0)
    for column, title in zip(grid.T, titles, strict=True):
        for names, arm in COLUMNS[title].items():
            for axis, name in zip(column, names.split(), strict=True):
                warmup_dynamics.draw_series(axis, points[points["series"] == name], warmup_dynamics.COLOURS[arm])
        if title != "Without warmup":
            for axis in column:
                axis.axvline(END, color=style.NEUTRAL, linewidth=0.6, zorder=1)

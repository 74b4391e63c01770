"""Claim: random masks seldom show a token all that it depends on, less often the more that is; low mask rates do."""

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from figures.drawing import style
from figures.noise import empty_blocks

PANELS = {"loss": "weighted as in the loss", "token": "each masked token counts once"}


def draw(rows: pd.DataFrame) -> Figure:
    """Share of masked tokens that see all their parents, by number of parents: closed forms and drawn masks.

    ValueError where there are no rows.
    """
    if rows.empty:
        raise ValueError("rows: wanted those of experiments/no_signal.py, got none; run it again")
    size, draws = rows["block_size"].iloc[0], rows["draws"].iloc[0]
    caption = (
        "A parent is a token of the same block without which the masked one cannot be told. AR shows all those that "
        f"come before it. Lines: closed forms. Points: {draws:,} blocks of B = {size} drawn by the training code, n = "
        f"{rows['asked'].min():,} to {rows['asked'].max():,} masked tokens asked, with 95 % intervals (right "
        "Clopper-Pearson, left normal). Hollow, without interval: the weight 1/t has no variance, so a mean over "
        "draws settles slowly."
    )
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(7.0, 3.0, caption)
        axes = body.subplots(1, len(PANELS), sharey=True)
        for axis, (weighting, title) in zip(axes, PANELS.items(), strict=True):
            for name in rows.groupby("schedule")["closed_form"].mean().sort_values(ascending=False).index:
                chosen = (rows["weighting"] == weighting) & (rows["schedule"] == name)
                _draw_law(axis, rows[chosen].sort_values("parents"), str(name))
            axis.set_title(title[0].upper() + title[1:])
            axis.set_xlabel("Parents $r$ in the block")
            axis.xaxis.set_major_locator(FixedLocator(sorted(rows["parents"].unique())))
            axis.set_ylim(0, 1.02)
        axes[0].set_ylabel("Share with all parents visible")
        body.legend(*axes[1].get_legend_handles_labels(), loc="outside right center", title="Mask rate $u$")
    return drawing


def _draw_law(axis: Axes, part: pd.DataFrame, name: str) -> None:
    colour, marker, label = empty_blocks.look(name)
    axis.plot(part["parents"], part["closed_form"], color=colour, linewidth=1.0, zorder=2)
    known = part["low"].notna()
    reach = [(part["estimate"] - part["low"])[known], (part["high"] - part["estimate"])[known]]
    if known.any():
        axis.errorbar(
            part["parents"][known],
            part["estimate"][known],
            yerr=reach,
            fmt=marker,
            color=colour,
            markersize=3.2,
            elinewidth=0.8,
            capsize=1.5,
            label=label,
            zorder=3,
        )
    rest = part[~known]
    axis.plot(
        rest["parents"], rest["estimate"], marker, color=colour, markersize=3.8, markerfacecolor="white", zorder=3
    )

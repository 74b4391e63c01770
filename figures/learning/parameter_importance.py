"""Claim under test: of what a sweep varies, few parameters decide how good it is. Their importance, how sure it is."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.drawing import style

COLUMNS = {"sweep": "str", "parameter": "str", "importance": "float64", "low": "float64", "high": "float64"}
WORDS = {
    "block_size": "block size",
    "warmup": "warmup of the mask rate",
    "clip": "clip and guard",
    "shift": "shift",
    "lr": "learning rate",
}


def draw(rows: pd.DataFrame) -> Figure:
    """A line per parameter, the weightiest on top: importance, and its interval where there is one.

    ValueError where there are no rows, or a parameter comes twice.
    """
    if rows.empty or rows["parameter"].duplicated().any():
        raise ValueError(
            f"rows: wanted the importance of every parameter of one sweep, once; came {len(rows)} rows; type "
            "python experiments/sweep.py again"
        )
    ordered = rows.sort_values("importance", ascending=False, ignore_index=True)
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(5.6, 0.26 * len(ordered) + 0.65, _caption(ordered))
        axis = body.subplots()
        lines, known = np.arange(len(ordered)), ordered["low"].notna() & ordered["high"].notna()
        axis.barh(lines, ordered["importance"], height=0.55, color=style.PALE, zorder=1)
        look = {"color": style.PALETTE["blue"], "markersize": 4.5, "linestyle": "", "zorder": 3}
        axis.plot(ordered["importance"], lines, marker="o", gid="importance", **look)
        axis.hlines(
            lines[known],
            ordered["low"][known],
            ordered["high"][known],
            color=look["color"],
            linewidth=1.2,
            zorder=2,
            gid="interval",
        )
        axis.set_yticks(lines, [WORDS.get(name, name) for name in ordered["parameter"]])
        axis.set_ylim(len(ordered) - 0.4, -0.6)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="y", visible=False)
        axis.set_xlim(0, max(1.0, 1.05 * ordered["high"].max(skipna=True)) if known.any() else 1.0)
        axis.set_xlabel("Importance, a share of all parameters'")
    return drawing


def _caption(rows: pd.DataFrame) -> str:
    missing = "" if rows["low"].notna().all() else " No bar: too few trials for an interval."
    return (
        f"Sweep {rows['sweep'].iloc[0]}. Importance: how far the values of a parameter in the best quarter of the "
        "trials differ from those in all trials (PED-ANOVA; Watanabe et al., 2023). It says what set good trials "
        f"apart, not in which direction. Bars: 95 % interval over resampled trials.{missing}"
    )

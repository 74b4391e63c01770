"""No claim: what one finished run scores under every protocol that it was decoded with."""

import matplotlib
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.drawing import style

SHARES = {
    "score": "Right answer tokens",
    "exact": "Wholly right answers",
    "left_to_right": "Tokens revealed left to right",
    "inconsistent": "Questions with an impossible state",
    "possible": "Sequences that break no rule",
}
TITLES = SHARES | {"tokens_a_pass": "Tokens a forward pass"}
PANEL = ["objective", "grid", "cache"]
CELL = (0.62, 0.34)  # inches, wide and high
MARGINS = (1.75, 1.0)


def draw(rows: pd.DataFrame, metric: str) -> Figure:
    """A heat map: a row an order and pace, a column a block size, a panel a model, grid and cache; the mean and its
    standard error in each cell.

    rows: columns `records.EVALUATION` of one run, question seed and number of questions. ValueError where none are of
    this metric, and where a cell has several values.
    """
    found = rows[(rows["metric"] == metric) & (rows["order"] != "")]
    found = found.assign(
        line=found["order"].str.replace("_", " ") + ", " + found["pace"],
        cache=found["protocol"].str.contains("approximate").map({True: ", prefix cache", False: ""}),
    )
    if found.empty:
        raise ValueError(f"rows: wanted decoded answers with the metric {metric}, came none")
    if found.duplicated([*PANEL, "order", "pace", "block_size"]).any():
        raise ValueError("rows: wanted one run and one set of questions, came several")
    lines, sizes = list(dict.fromkeys(found["line"])), sorted(found["block_size"].unique())
    panels = list(found.groupby(PANEL, sort=False))
    whole = metric in SHARES
    limits = (0.0, 1.0) if whole else (1.0, max(2.0, float(found["value"].max())))
    with matplotlib.rc_context(style.RC):
        wide = MARGINS[0] + max(2.2, CELL[0] * len(sizes)) * len(panels) + 0.4 * (len(panels) - 1)
        drawing, body = style.sheet(wide, MARGINS[1] + CELL[1] * len(lines), _caption(found, metric))
        axes = body.subplots(1, len(panels), squeeze=False)[0]
        for axis, ((objective, grid, cache), part) in zip(axes, panels, strict=True):
            _map(axis, part, lines, sizes, limits, named=axis is axes[0], barred=axis is axes[-1])
            axis.set_title(f"{objective}, grid {grid}{cache}")
            axis.set(xlabel="Block size, tokens", ylabel="")
    return drawing


def _map(
    axis: Axes,
    part: pd.DataFrame,
    lines: list[str],
    sizes: list[int],
    limits: tuple[float, float],
    *,
    named: bool,
    barred: bool,
) -> None:
    table = {
        name: part.pivot(index="line", columns="block_size", values=name).reindex(index=lines, columns=sizes)
        for name in ("value", "error")
    }
    words = np.vectorize(_words, otypes=[object])(table["value"].to_numpy(float), table["error"].to_numpy(float))
    seaborn.heatmap(
        table["value"].astype(float),
        ax=axis,
        vmin=limits[0],
        vmax=limits[1],
        cmap=style.MAP,
        annot=words,
        fmt="",
        annot_kws={"fontsize": 6.5, "linespacing": 1.1},
        linewidths=1,
        cbar=barred,
        cbar_kws={"shrink": 0.8, "aspect": 25, "pad": 0.02} if barred else None,
        yticklabels=lines if named else False,
    )
    axis.tick_params(length=0)
    axis.tick_params(axis="y", labelrotation=0)


def _words(value: float, error: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.2f}" if np.isnan(error) else f"{value:.2f}\n± {error:.2f}"


def _caption(rows: pd.DataFrame, metric: str) -> str:
    first = rows.iloc[0]
    asked = "sequences drawn at temperature 1" if first["contexts"] == "sequence" else "questions"
    errors = "; ± standard error over them" if rows["error"].notna().any() else ""
    note = " The prefix cache is approximate." if rows["cache"].any() else ""
    name = str(first["run"]).replace("$", r"\$")
    return f"{TITLES[metric]}. {name} on {first['corpus']}, {int(first['n'])} {asked}{errors}.{note}"

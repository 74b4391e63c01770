"""Claim under test: schedules differ in how noisy their gradients are, by the data, by the mask rate or by the mask."""

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from figures.drawing import style

PARTS = {
    "data": ("which data", "blue", "o"),
    "rate": ("which mask rate", "vermillion", "s"),
    "mask": ("which mask", "green", "^"),
}
CAPTION = (
    "Variance of the gradient of one sequence at the base model, by where it comes from. Bars: standard errors, by "
    "the jackknife over sequences; at the left edge: less than a thousandth. * no finite variance: what is estimated "
    "grows with the number of draws."
)
LINE = 0.19  # inches an arm takes
FLOOR = 1e-3  # of the largest value: less is not shown


def draw(rows: pd.DataFrame) -> Figure:
    """A line per arm, log axis: parts of the variance of one sequence's gradient, and their sum as a bar.

    ValueError where there are no rows of gradients.
    """
    gradients = rows[(rows["quantity"] == "gradient") & rows["part"].isin(PARTS)]
    if gradients.empty:
        raise ValueError("rows: wanted gradient rows of experiments/variance.py, got none; run it again")
    values = gradients.pivot(index="arm", columns="part", values="value").loc[list(gradients["arm"].unique())]
    errors = gradients.pivot(index="arm", columns="part", values="error").loc[values.index]
    totals = values.sum(axis=1)
    low = float(totals.max()) * FLOOR
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(6.4, LINE * len(values) + 0.8, CAPTION)
        axis = body.subplots()
        lines = range(len(values))
        axis.barh(lines, totals, left=low, color=style.PALE, height=0.75, zorder=1, label="sum")
        for part, (label, colour, marker) in PARTS.items():
            at = values[part].clip(lower=low)
            reach = [
                (at - (values[part] - errors[part]).clip(lower=low)).clip(lower=0),
                errors[part].where(at > low, 0),
            ]
            look = {"color": style.PALETTE[colour], "fmt": marker, "elinewidth": 0.7, "zorder": 3}
            axis.errorbar(at, lines, xerr=reach, label=label, **look)
        axis.set_xscale("log")
        axis.set_xlim(low, float((values + errors).max().max()) * 1.6)
        axis.set_yticks(list(lines), list(values.index))
        axis.set_ylim(len(values) - 0.4, -0.6)
        axis.set_xlabel("Variance of one sequence's gradient (trace)")
        body.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return drawing

"""Claim under test: what an arm knows in the end changes with one condition. A dial, setting by setting."""

import re

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.drawing import arms, style

SETTING = re.compile(r"(?P<dial>.+)_(?P<setting>[0-9.]+)")  # a condition, as studies of dials name them


def draw(rows: pd.DataFrame) -> Figure:
    """Excess bits at the end against the dial's settings, evenly spaced: a line an arm, thin every seed; a panel per
    decoding block size, or, of a study with one condition, one panel over block sizes.

    ValueError where the rows hold no excess bits, or conditions that are no settings of one dial.
    """
    ends = _ends(rows)
    conditions = sorted(rows["condition"].unique(), key=_place)
    by_size = len(conditions) == 1
    if not by_size and len({_dial(name) for name in conditions}) != 1:
        raise ValueError(f"rows: wanted the settings of one dial, DIAL_<number>; came {', '.join(conditions)}")
    sizes = sorted(int(size) for size in ends["block_size"].unique())
    panels = {"": ends} if by_size else {f"Block size {size}": ends[ends["block_size"] == size] for size in sizes}
    column, settings = ("block_size", sizes) if by_size else ("condition", conditions)
    labels = [str(size) for size in sizes] if by_size else [f"{_place(name):g}" for name in conditions]
    looks = style.looks(rows["arm"])
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(max(4.6, 2.4 * len(panels)), 2.5, _caption(ends))
        axes = body.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for axis, (title, part) in zip(axes, panels.items(), strict=True):
            _draw_panel(axis, part, column, settings, looks)
            axis.set_title(title)
            axis.set_xticks(range(len(labels)), labels)
            axis.set_xlabel("Decoding block size" if by_size else f"Setting of {_dial(conditions[0])}")
        axes[0].set_ylabel("Excess bits a token, at the end")
        handles = [Line2D([], [], color=c, marker=m, label=style.label(name)) for name, (c, m) in looks.items()]
        body.legend(handles=handles, ncols=len(handles), loc="outside lower center")
    return drawing


def _dial(condition: str) -> str:
    match = SETTING.fullmatch(condition)
    return match["dial"] if match else condition


def _place(condition: str) -> float:
    match = SETTING.fullmatch(condition)
    return float(match["setting"]) if match else 0.0


def _ends(rows: pd.DataFrame) -> pd.DataFrame:
    """The last reading of every run, at every decoding block size."""
    grid = arms.own_grid(rows)  # blocks as they were trained; of one token they are the same on every grid
    parts = [arms.select(part, "excess_bits", "new", "test", grid) for _, part in rows.groupby("condition")]
    block = pd.concat(parts, ignore_index=True)
    block = block[block["contexts"] == "block"].sort_values(["step", "stage"])
    return block.groupby(["run", "block_size"], as_index=False).last()


def _draw_panel(
    axis: Axes, rows: pd.DataFrame, column: str, settings: list[str] | list[int], looks: dict[str, tuple[str, str]]
) -> None:
    for name, (colour, marker) in looks.items():
        part = rows[rows["arm"] == name]
        values = part.pivot_table(index=column, columns="seed", values="value").reindex(settings)
        for seed in values:
            axis.plot(range(len(settings)), values[seed], color=colour, linewidth=0.4, alpha=0.45, gid="seed")
        found = [arms.interval(row.dropna().to_numpy()) for _, row in values.iterrows()]
        means, halves = [mean for mean, _ in found], [half for _, half in found]
        bars = {"color": colour, "marker": marker, "capsize": 1.5, "zorder": 3}
        axis.errorbar(range(len(settings)), means, yerr=halves, gid="mean", **bars)


def _caption(rows: pd.DataFrame) -> str:
    return (
        f"Marks: mean over n = {arms.seed_count(rows)} seeds with its 95 % t-interval; thin: each seed. Excess bits:"
        " divergence from the exact posterior on held-out questions, every revealed token being the true one. The "
        "same seeds stand at every setting, so the verdicts judge the change of each seed."
    )

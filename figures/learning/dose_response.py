"""Claim under test: what an arm knows in the end changes with one condition. A dial, setting by setting."""

import re
from dataclasses import dataclass

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.drawing import arms, style

SETTING = re.compile(r"(?P<dial>.+)_(?P<setting>[0-9.]+)")  # a condition or an arm, as studies of dials name them
RATE = r"^(?P<way>.+)_(?P<rate>lr_[0-9.]+)$"  # an arm, as studies of learning rates name them
AXES = {
    "choices": "K, values that may stand there",
    "unique": "Sequences to see",
    "bits": "Entropy of AR's answers, bits",
    "ar_share": "Share of the steps under AR",
    "lr": "Second learning rate, thousandths",
}
UNITS = {"lr": 1e-3}


@dataclass(frozen=True)
class Dial:
    """The column that holds its settings, these in order, their labels, that of their axis, and the column of lines."""

    column: str
    settings: list[str] | list[int]
    labels: list[str]
    axis: str
    lines: str


def draw(rows: pd.DataFrame) -> Figure:
    """Excess bits at the end against the dial's settings, evenly spaced; thin every seed. A dial are conditions, with a
    line an arm, or arms, with a line a condition, or learning rates of arms, with a line a way, and a panel per
    decoding block size; or, of a study with one condition, block sizes.

    ValueError where the rows hold no excess bits, or conditions and arms that are no settings of one dial.
    """
    ways = rows["arm"].str.extract(RATE)
    if by_rate := bool(ways.notna().all(axis=None)):
        rows = rows.assign(**ways)
    ends = _ends(rows)
    sizes = sorted(int(size) for size in ends["block_size"].unique())
    dial = (
        _named(rows, "rate", "way") if by_rate else _named(rows, "condition", "arm") or _named(rows, "arm", "condition")
    )
    if dial is None:
        dial = _block_sizes(rows, sizes)
    by_size = dial.column == "block_size"
    panels = {"": ends} if by_size else _panels(ends, sizes)
    looks = style.looks(rows[dial.lines])
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(max(4.6, 2.4 * len(panels)), 2.5, _caption(ends))
        axes = body.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for axis, (title, part) in zip(axes, panels.items(), strict=True):
            _draw_panel(axis, part, dial, looks)
            axis.set_title(title)
            axis.set_xticks(range(len(dial.labels)), dial.labels)
            axis.set_xlabel(dial.axis)
        axes[0].set_ylabel("Excess bits a token, at the end")
        handles = [Line2D([], [], color=c, marker=m, label=style.label(name)) for name, (c, m) in looks.items()]
        body.legend(handles=handles, ncols=len(handles), loc="outside lower center")
    return drawing


def _panels(ends: pd.DataFrame, sizes: list[int]) -> dict[str, pd.DataFrame]:
    """One for each block size; one for all where they agree, as answers of one token have it."""
    of_size = [ends[ends["block_size"] == size] for size in sizes]
    first, *others = (part.set_index(["condition", "run"])["value"] for part in of_size)
    if others and all(first.equals(other) for other in others):
        return {"": of_size[0]}
    return {f"Block size {size}": part for size, part in zip(sizes, of_size, strict=True)}


def _named(rows: pd.DataFrame, column: str, lines: str) -> Dial | None:
    """The dial whose settings the names of a column are; None where they are not of one."""
    found = {name: SETTING.fullmatch(name) for name in rows[column].unique()}
    dials = {match["dial"] if match else name for name, match in found.items()}
    if len(found) < 2 or len(dials) > 1:
        return None
    (name,) = dials
    at = dict(sorted((float(match["setting"]), setting) for setting, match in found.items() if match))
    return Dial(
        column,
        list(at.values()),
        [f"{place / UNITS.get(name, 1):g}" for place in at],
        AXES.get(name, f"Setting of {name}"),
        lines,
    )


def _block_sizes(rows: pd.DataFrame, sizes: list[int]) -> Dial:
    conditions = sorted(rows["condition"].unique())
    if len(conditions) > 1:
        raise ValueError(f"rows: wanted the settings of one dial, DIAL_<number>; came {', '.join(conditions)}")
    return Dial("block_size", sizes, [str(size) for size in sizes], "Decoding block size", "arm")


def _ends(rows: pd.DataFrame) -> pd.DataFrame:
    """The last reading of every run, at every decoding block size."""
    grid = arms.own_grid(rows)  # blocks as they were trained; of one token they are the same on every grid
    parts = [arms.select(part, "excess_bits", "new", "test", grid) for _, part in rows.groupby("condition")]
    block = pd.concat(parts, ignore_index=True)
    block = block[block["contexts"] == "block"].sort_values(["step", "stage"])
    return block.groupby(["condition", "run", "block_size"], as_index=False).last()


def _draw_panel(axis: Axes, rows: pd.DataFrame, dial: Dial, looks: dict[str, tuple[str, str]]) -> None:
    for name, (colour, marker) in looks.items():
        part = rows[rows[dial.lines] == name]
        values = part.pivot_table(index=dial.column, columns="seed", values="value").reindex(dial.settings)
        for seed in values:
            axis.plot(range(len(values)), values[seed], color=colour, linewidth=0.4, alpha=0.45, gid="seed")
        found = [arms.interval(row.dropna().to_numpy()) for _, row in values.iterrows()]
        means, halves = [mean for mean, _ in found], [half for _, half in found]
        bars = {"color": colour, "marker": marker, "capsize": 1.5, "zorder": 3}
        axis.errorbar(range(len(values)), means, yerr=halves, gid="mean", **bars)


def _caption(rows: pd.DataFrame) -> str:
    return (
        f"Marks: mean over n = {arms.seed_count(rows)} seeds with its 95 % t-interval; thin: each seed. Excess bits:"
        " divergence from the exact posterior on held-out questions, every revealed token being the true one. The "
        "same seeds stand at every setting, so the verdicts judge the change of each seed."
    )

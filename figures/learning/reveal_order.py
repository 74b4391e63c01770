"""No claim: in which order a decoder revealed an answer, token by token."""

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures.drawing import style

WIDE = 32  # tokens in a line
CELL = 0.3  # inches, high


def draw(rows: pd.DataFrame, caption: str = "") -> Figure:
    """A line of cells for each sequence, longer ones in several; darker cells were revealed later.

    rows: one per token: `row`, its sequence; `place` in it; its `text`; the `pass` that revealed it, -1 in the prompt.
    ValueError where nothing was revealed.
    """
    if not (rows["pass"] >= 0).any():
        raise ValueError("rows: wanted revealed tokens, came none; ask for an answer")
    norm = Normalize(0, max(1, int(rows["pass"].max())))
    lines = {number: int(part["place"].max()) // WIDE + 1 for number, part in rows.groupby("row")}
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(7.2, CELL * sum(lines.values()) + 0.9, _caption(rows, caption))
        panels = body.subplots(len(lines), 1, squeeze=False, height_ratios=list(lines.values()))[:, 0]
        for panel, (number, part) in zip(panels, rows.groupby("row"), strict=True):
            _cells(panel, part, norm, lines[number])
        colours = ScalarMappable(norm, style.MAP)
        whole = MaxNLocator(integer=True)
        body.colorbar(
            colours, ax=list(panels), location="bottom", aspect=60, label="forward pass", fraction=0.05, ticks=whole
        )
    return drawing


def _cells(panel: Axes, part: pd.DataFrame, norm: Normalize, lines: int) -> None:
    colours = matplotlib.colormaps[style.MAP]
    for place, text, number in part[["place", "text", "pass"]].itertuples(index=False):
        down, across = divmod(place, WIDE)
        shade = "white" if number < 0 else colours(norm(number))
        box = matplotlib.patches.Rectangle((across, down), 1, 1, facecolor=shade, edgecolor="white", linewidth=1)
        panel.add_patch(box)
        ink = style.NEUTRAL if number < 0 else "white" if norm(number) > style.DARK else "black"
        word = _short(text)
        look = {"fontsize": min(6, 24 / len(word)), "color": ink, "clip_on": True}  # a long word fits its cell
        panel.text(across + 0.5, down + 0.5, word, ha="center", va="center", **look)
    panel.set(xlim=(0, min(WIDE, part["place"].max() + 1)), ylim=(lines, 0), xticks=[], yticks=[])
    panel.spines[:].set_visible(False)


def _short(text: str) -> str:
    shown = _plain(text.replace("\n", "\u21b5")).strip() or "\u2423"
    return shown if len(shown) <= 6 else shown[:5] + "\u2026"


def _caption(rows: pd.DataFrame, caption: str) -> str:
    revealed = rows[rows["pass"] >= 0]
    passes = int(revealed.groupby("row")["pass"].max().max()) + 1
    return (
        f"The pass in which each token was revealed: {len(revealed)} tokens of {rows['row'].nunique()} sequence(s), at "
        f"most {passes} passes. Grey text is the prompt. {_plain(caption)}"
    ).strip()


def _plain(text: str) -> str:
    """No formula, whatever a folder or a token is called."""
    return text.replace("$", r"\$")

"""Style: the palette, the look and label of every regime, the type, captions, and how a figure becomes files."""

import io
import textwrap
from collections.abc import Iterable
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure, SubFigure

from ablate.core.storage import write_bytes

# Every colour of every figure. First Okabe and Ito (2008), told apart under the common colour-vision deficiencies and
# by lightness in grey print; then Paul Tol's muted scheme, less the hues nearest to those.
PALETTE = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "sky": "#56B4E9",
    "orange": "#E69F00",
    "pink": "#CC79A7",
    "black": "#000000",
    "olive": "#999933",
    "wine": "#882255",
    "grey": "#7F7F7F",
    "indigo": "#332288",
    "teal": "#44AA99",
}
MAP, DARK = "cividis_r", 0.55  # of numbers, read alike with and without colour vision; from DARK on its text is white
NEUTRAL = "#555555"
PALE = "#DDDDDD"
COLOURS = {
    "ar_to_bidllm": PALETTE["blue"],
    "ardllm_to_bidllm": PALETTE["vermillion"],
    "bidllm": PALETTE["green"],
    "ar": PALETTE["sky"],
    "ardllm": PALETTE["orange"],
}
MARKERS = {"ar_to_bidllm": "o", "ardllm_to_bidllm": "s", "bidllm": "^", "ar": "D", "ardllm": "v"}
# Seven colours against five markers: the pairs repeat only after 35 regimes.
OTHER_COLOURS = [PALETTE[name] for name in ("pink", "black", "olive", "wine", "grey", "indigo", "teal")]
OTHER_MARKERS = ["P", "X", "p", "*", "h"]

WORDS = {"ar": "AR", "ardllm": "ARDLLM", "bidllm": "BiDLLM", "r2l": "R2L", "dllm": "DLLM"}
CHARACTERS = 19.5  # of a caption's type in an inch
CAPTION = {"size": 7.0, "line": 0.125, "edge": 0.06}  # points, inches, inches

RC = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same figure on every machine
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.2,
    "pdf.fonttype": 42,  # TrueType: text stays text, which journals ask for
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "savefig.dpi": 200,
    "figure.facecolor": "white",
}


def looks(regimes: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker by regime, known regimes first; the rest share out the other pairs by alphabet."""
    names = set(regimes)
    known = [name for name in COLOURS if name in names]
    others = sorted(names - set(known))
    pairs = {name: (COLOURS[name], MARKERS[name]) for name in known}
    for index, name in enumerate(others):
        pairs[name] = (OTHER_COLOURS[index % len(OTHER_COLOURS)], OTHER_MARKERS[index % len(OTHER_MARKERS)])
    return pairs


def label(regime: str) -> str:
    """Name of a regime as a reader sees it: ar_to_bidllm is AR→BiDLLM."""
    stages = [[WORDS.get(word, word) for word in stage.split("_")] for stage in regime.split("_to_")]
    return "→".join(" ".join(words) for words in stages)


def sheet(wide: float, high: float, caption: str) -> tuple[Figure, SubFigure]:
    """Figure with its caption at the bottom, and the part above, `wide` by `high` inches, for panels and legends."""
    lines = textwrap.fill(caption, round(CHARACTERS * wide))
    foot = CAPTION["line"] * (lines.count("\n") + 1) + 2 * CAPTION["edge"]
    figure = Figure(figsize=(wide, high + foot), layout="constrained")
    body, below = figure.subfigures(2, 1, height_ratios=(high, foot), hspace=0)
    below.text(
        CAPTION["edge"] / wide,
        1 - CAPTION["edge"] / foot,
        lines,
        va="top",
        ha="left",
        linespacing=1.3,
        fontsize=CAPTION["size"],
        color=NEUTRAL,
        gid="caption",
    )
    return figure, body


def save(figure: Figure, stem: str | Path) -> list[Path]:
    """Files `stem`.png and `stem`.pdf, each complete or untouched; equal figures give equal bytes. Raises WriteError
    where the system does not let them be written."""
    stem = Path(stem)
    # Dates and versions of the tools would change the bytes from day to day.
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None}}
    written = []
    for kind, fields in metadata.items():
        path = stem.with_name(f"{stem.name}.{kind}")
        drawn = io.BytesIO()  # matplotlib hides a full disk behind an error of its own
        with matplotlib.rc_context(RC):
            figure.savefig(drawn, format=kind, metadata=fields)
        write_bytes(path, drawn.getvalue())
        figure.set_layout_engine("none")  # what was laid out once stays so: half the time goes into it
        written.append(path)
    return written

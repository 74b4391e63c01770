"""Claim: the more tokens a pass reveals, the more rules break, and that is in part the decoder's doing: the exact
oracle, decoded in the same way, breaks some too."""

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from ablate.core.records import ORACLE
from figures.drawing import style

SHOWN = {
    "left_to_right": ("left to right", style.PALETTE["blue"], "o"),
    "confidence": ("most confident first", style.PALETTE["vermillion"], "s"),
    "random": ("random", style.PALETTE["green"], "^"),
    "oracle_k": ("smallest K(c) first", style.PALETTE["pink"], "D"),
}


def draw(rows: pd.DataFrame, block_size: int = 32, grid: str = "answer") -> Figure:
    """Sequences that break no rule against tokens a pass: a panel a model, the oracle last, a line an order.

    Thin, every seed; thick, their mean.

    rows: columns `records.EVALUATION`. ValueError where there are none of this block size.
    """
    decoded = rows[(rows["contexts"] == "sequence") & (rows["block_size"] == block_size) & (rows["grid"] == grid)]
    if decoded.empty:
        raise ValueError(f"rows: wanted sequences drawn in blocks of {block_size} counted from the {grid}; came none")
    if len(decoded[["question_seed", "n"]].drop_duplicates()) > 1:
        raise ValueError("rows: wanted one set of sequences; came several seeds or numbers; evaluate into another out=")
    wide = decoded.pivot(index=["objective", "regime", "order", "seed", "pace"], columns="metric", values="value")
    wide = wide.reset_index()
    wide["model"] = wide["regime"].where(wide["objective"] != ORACLE, ORACLE)
    oracle = wide["model"] == ORACLE  # which draws the same sequences for every run
    wide = pd.concat([wide[~oracle], wide[oracle].drop_duplicates(["order", "pace"])], ignore_index=True)
    models = sorted(wide["model"].unique(), key=lambda name: (name == ORACLE, name))
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(2.4 * len(models) + 0.4, 2.35, _caption(decoded, wide, block_size, grid))
        axes = body.subplots(1, len(models), sharex=True, sharey=True, squeeze=False)[0]
        for axis, model in zip(axes, models, strict=True):
            axis.set_title("Exact oracle" if model == ORACLE else style.label(model))
            for order, (words, colour, marker) in SHOWN.items():
                part = wide[(wide["model"] == model) & (wide["order"] == order)]
                for _, one in part.groupby("seed"):
                    curve = one.sort_values("tokens_a_pass")
                    axis.plot(
                        curve["tokens_a_pass"], curve["possible"], color=colour, linewidth=0.5, alpha=0.6, gid="seed"
                    )
                mean = part.groupby("pace")[["tokens_a_pass", "possible"]].mean().sort_values("tokens_a_pass")
                look = {"color": colour, "marker": marker, "label": words, "gid": "mean"}
                axis.plot(mean["tokens_a_pass"], mean["possible"], **look)
            axis.set_xscale("log", base=2)
            axis.xaxis.set_minor_locator(NullLocator())
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_xlabel("Tokens a forward pass")
            axis.set_ylim(-0.02, 1.02)
        axes[0].set_ylabel("Sequences that break no rule")
        handles, labels = axes[0].get_legend_handles_labels()
        body.legend(handles, labels, ncols=len(labels), loc="outside lower center")
    return drawing


def _caption(rows: pd.DataFrame, wide: pd.DataFrame, block_size: int, grid: str) -> str:
    first, seeds = rows.iloc[0], wide["seed"].nunique()
    return (
        f"{first['corpus']}, {int(first['n'])} sequences a run, all but the first token drawn at temperature 1, in "
        f"blocks of {block_size} from the {grid}. Thick: mean over {seeds} seed{'s' * (seeds > 1)}; thin: each. "
        "The oracle, one sample, knows every conditional exactly: the rules that it breaks are broken by the decoder."
    )

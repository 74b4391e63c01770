"""Claim under test: learning costs what a table would pay that shares nothing between contexts. Its predicted bits, law
by law, beside what the arms trained under these laws were measured to pay."""

from dataclasses import dataclass

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablate.core.records import INFERENCE, under
from figures.drawing import arms, curves, sampler_labels, style

# Of every arm the context sampler that its first stage shows.
TRAINED = {"ar_to_bidllm": "AR", "ardllm_to_bidllm": "random masks, causal", "bidllm": "random masks"}
TABLES = {"cost_vocabulary": ("s", "table over the whole vocabulary"), "cost_known": ("o", "table that knows $C(c)$")}
DASHED, DOTTED = (0, (4, 2)), (0, (1, 1.5))


@dataclass(frozen=True)
class Panel:
    """Contexts in which both are asked. measured: where the rows of a run hold it. asked: the same in a survey. own:
    only the law that is asked predicts, else every law does, asked AR's contexts."""

    title: str
    measured: dict[str, str | int]
    asked: str
    own: str = ""


PANELS = (
    Panel("Answers, AR contexts", {"contexts": "block", "block_size": 1, "split": "test"}, "answers"),
    Panel("All tokens, AR contexts", {"contexts": "ar", "split": "train"}, "all"),
    Panel("All tokens, random masks", {"contexts": "random", "split": "train"}, "all", own="random masks"),
)


def draw(rows: pd.DataFrame, surveys: pd.DataFrame) -> Figure:
    """Bits above the oracle against supervised tokens, log axes: tables (open marks) and networks (lines with bands).

    surveys: rows of `records.SURVEY` with a column `shown`, how many asked tokens a table has learned from. ValueError
    where the rows hold no excess bits or mix corpora, or where the surveys are another world's.
    """
    rows = under(rows)
    found = rows[(rows["metric"] == "excess_bits") & (rows["domain"] == "new") & rows["regime"].isin(TRAINED)]
    if found.empty:
        raise ValueError(
            f"rows: wanted excess bits in the new domain of the arms {', '.join(TRAINED)}; came none; name the runs of "
            "the study regimes in a world with an oracle"
        )
    worlds = sorted({*found["corpus"], *surveys["corpus"]})
    if len(worlds) > 1:
        raise ValueError(
            f"rows: wanted runs and surveys of one world; came {', '.join(worlds)}; survey that of the runs"
        )
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(7.2, 3.2, _caption(found, surveys))
        axes = body.subplots(1, len(PANELS), sharex=True, sharey=True)
        for axis, panel in zip(axes, PANELS, strict=True):
            axis.set_title(panel.title)
            axis.set_xlabel("Supervised tokens, new domain")
            for arm, law in TRAINED.items():
                _draw_measured(axis, _where(found, panel.measured), arm)
                _draw_predicted(axis, surveys, panel, arm, law)
            _draw_base(axis, _where(found, panel.measured))
        axes[0].set_ylabel("Bits a token above the oracle")
        axes[0].set_xscale("log")
        axes[0].set_xlim(0.6 * surveys["shown"].min(), 3 * found["loss_tokens"].max())
        sampler_labels.dress_log(axes[0], "y", (curves.FLOOR, 1.6 * max(found["value"].max(), _highest(surveys))))
        body.legend(handles=_entries(found), ncols=3, loc="outside lower center")
    return drawing


def _highest(surveys: pd.DataFrame) -> float:
    """The highest cost that a table pays."""
    return float(surveys.loc[surveys["metric"].isin(TABLES), "value"].max())


def _where(rows: pd.DataFrame, place: dict[str, str | int]) -> pd.DataFrame:
    for name, value in place.items():
        rows = rows[rows[name].fillna(0) == value] if name == "block_size" else rows[rows[name] == value]
    return rows


def _draw_measured(axis: Axes, rows: pd.DataFrame, arm: str) -> None:
    """Geometric mean over seeds of the first stage, and its interval, against the mean of supervised tokens."""
    part = rows[(rows["regime"] == arm) & (rows["stage"] == 0) & (rows["step"] > 0)]
    values = arms.seeds(part.assign(value=part["value"].clip(lower=curves.FLOOR))).dropna()
    if values.empty:
        return
    tokens = part.groupby("step")["loss_tokens"].mean().loc[values.index.get_level_values("step")]
    middle, colour = curves.spread(values, log=True), style.COLOURS[arm]
    axis.plot(
        tokens, middle["mean"], color=colour, marker=style.MARKERS[arm], markevery=2, zorder=3, gid=f"measured {arm}"
    )
    axis.fill_between(tokens, middle["low"], middle["high"], color=colour, alpha=0.15, linewidth=0, zorder=2)


def _draw_predicted(axis: Axes, surveys: pd.DataFrame, panel: Panel, arm: str, law: str) -> None:
    """What tables pay by what they were shown, and from there on, dotted, as 1/n."""
    if panel.own and law != panel.own:
        return
    infer = panel.own or INFERENCE
    chosen = surveys[
        (surveys["context_sampler"] == law) & (surveys["infer"] == infer) & (surveys["asked"] == panel.asked)
    ]
    for metric, (marker, _) in TABLES.items():
        points = chosen[(chosen["metric"] == metric) & (chosen["value"] > curves.FLOOR)].sort_values("shown")
        if points.empty:
            continue
        look = {"color": style.COLOURS[arm], "linewidth": 0.9, "zorder": 2.5}
        axis.plot(
            points["shown"],
            points["value"],
            marker=marker,
            markerfacecolor="white",
            markersize=4.0,
            linestyle=DASHED,
            gid=f"{metric} {arm}",
            **look,
        )
        last = points.iloc[-1]
        reach = last["value"] / curves.FLOOR
        axis.plot(
            [last["shown"], last["shown"] * reach],
            [last["value"], curves.FLOOR],
            linestyle=DOTTED,
            gid=f"1/n {arm}",
            **look,
        )


def _draw_base(axis: Axes, rows: pd.DataFrame) -> None:
    for height in arms.baselines(rows).values():
        axis.axhline(height, color=style.NEUTRAL, linewidth=0.8, linestyle=curves.DASHED, zorder=1, gid="baseline")


def _caption(found: pd.DataFrame, surveys: pd.DataFrame) -> str:
    shown = ", ".join(f"{int(n):,}" for n in sorted(surveys["shown"].unique()))
    return (
        f"{found['corpus'].iloc[0]}, new domain. Lines: networks in their first stage, geometric mean over n seeds "
        "with its 95 % t-interval. Open marks: the null theory's prediction for tables that share nothing between "
        f"contexts, after {shown} asked tokens of the law that the arm of that colour trains under; one sample, no "
        "interval; dotted: continued as 1/n, which is how a table improves once it has met every context. Less than "
        f"{curves.FLOOR:g} is not shown: where one token is valid, as for answers in AR contexts, a table that knows "
        "it pays nothing. Tables are told which visible tokens matter, networks have to find out. A network below its "
        "table shares between contexts; one above it has yet to find what matters."
    )


def _entries(found: pd.DataFrame) -> list[Line2D]:
    counts = found.groupby("regime")["seed"].nunique()
    networks = [
        Line2D(
            [], [], color=style.COLOURS[arm], marker=style.MARKERS[arm], label=f"{style.label(arm)} (n = {counts[arm]})"
        )
        for arm in TRAINED
        if arm in counts
    ]
    grey = {"color": style.NEUTRAL}
    look = {**grey, "markerfacecolor": "white", "markersize": 4.0, "linewidth": 0.9, "linestyle": DASHED}
    tables = [Line2D([], [], marker=marker, label=label, **look) for marker, label in TABLES.values()]
    rest = [
        Line2D([], [], linewidth=0.9, linestyle=DOTTED, label="continued as 1/n", **grey),
        Line2D([], [], linewidth=0.8, linestyle=curves.DASHED, label="base model, 0 steps", **grey),
    ]
    return [*networks, *tables, *rest]

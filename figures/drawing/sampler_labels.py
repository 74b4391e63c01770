"""Laws of contexts in the figures of a survey: their order and names, their values, and the checks of its rows."""

import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ablate.core.records import FIXED_RATE, SURVEY

# From AR towards random masks; a number in brackets orders the samplers of one line.
ORDER = (
    r"AR",
    r"AR backwards",
    r"suffix masks",
    r"block (\d+)",
    r"random masks",
    r"random masks, causal",
    r"random masks, t <= (\d+(?:\.\d+)?(?:e-\d+)?)",
)
SURVEYED = ["corpus", "domain", "split", "fingerprint", "seed"]
LINE = 0.175  # inches a sampler takes on an axis


def ordered(rows: pd.DataFrame) -> list[str]:
    """Laws of the rows in reading order; those without a place in it last, by name. Fixed rates are left out."""
    return sorted(set(rows["context_sampler"]) - {FIXED_RATE}, key=_place)


def _place(sampler: str) -> tuple[int, float, str]:
    for index, pattern in enumerate(ORDER):
        found = re.fullmatch(pattern, sampler)
        if found:
            return index, float(found[1]) if found.groups() else 0.0, sampler
    return len(ORDER), 0.0, sampler


def label(sampler: str) -> str:
    """Name of a sampler as a reader sees it."""
    return sampler.replace("<=", "≤")


def about(rows: pd.DataFrame) -> str:
    """Whose rows these are: "arithmetic, new domain, train split".

    ValueError where there are none, where they are several surveys', or where something was measured twice.
    """
    surveys = rows[SURVEYED].drop_duplicates()
    twins = rows[rows.duplicated([name for name in SURVEY if name != "value"])]
    if len(surveys) != 1 or len(twins):
        came = "; ".join(" ".join(map(str, survey)) for survey in surveys.itertuples(index=False)) or "no rows at all"
        twice = f", {len(twins)} rows twice (such as {twins.iloc[0]['metric']})" if len(twins) else ""
        raise ValueError(
            f"rows: wanted one survey (corpus, domain, split, fingerprint, seed), everything measured once; "
            f"came {came}{twice}; name the folder of one, such as runs/knowledge-NAME"
        )
    first = rows.iloc[0]
    return f"{first['corpus']}, {first['domain']} domain, {first['split']} split"


def sequences_of(rows: pd.DataFrame) -> int:
    """Sequences that every sampler was drawn on; 0 where the rows do not say."""
    return int(rows.loc[rows["metric"] == "sequences", "value"].max()) if (rows["metric"] == "sequences").any() else 0


def questions_of(rows: pd.DataFrame) -> int:
    """Questions asked of each sampler: contexts that were met, times visits of each; 0 where they were not counted."""
    first = rows[rows["asked"] == "all"].pivot_table(
        index="context_sampler", columns="metric", values="value", aggfunc="first"
    )
    if not {"raw_contexts", "raw_visits"} <= set(first):
        return 0
    return round(float((first["raw_contexts"] * first["raw_visits"]).max()))


def require(rows: pd.DataFrame, *metrics: str) -> None:
    """ValueError where the rows hold none of a metric."""
    missing = [metric for metric in metrics if metric not in set(rows["metric"])]
    if missing:
        raise ValueError(
            f"rows: wanted the metrics {', '.join(metrics)}; came without {', '.join(missing)}; name a folder that "
            "experiments/knowledge.py has written"
        )


def values(rows: pd.DataFrame, **wanted: str) -> dict[str, float]:
    """Value by sampler, of the rows whose columns have the wanted values. Fixed rates are left out."""
    kept = np.logical_and.reduce(
        [rows["context_sampler"] != FIXED_RATE, *(rows[name] == value for name, value in wanted.items())]
    )
    return dict(zip(rows.loc[kept, "context_sampler"], rows.loc[kept, "value"], strict=True))


def times(value: float, reference: float) -> str:
    """How many times the reference a value is, to about two digits; nothing where the reference is 0 or missing."""
    if not reference > 0 or np.isnan(value):
        return ""
    ratio = value / reference
    if 0 < ratio < 0.01:
        return "<0.01x"
    digits = 2 if 0 < ratio < 0.995 else 1 if 0 < ratio < 9.95 else 0
    return f"{ratio:.{digits}f}x"


def dress_laws(axis: Axes, names: list[str], named: bool) -> None:
    """A line for each sampler, the first on top."""
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_yticks(range(len(names)), [label(name) for name in names])
    axis.tick_params(axis="y", length=0, labelleft=named)


def dress_log(axis: Axes, which: str, limits: tuple[float, float]) -> None:
    """Logarithmic x or y axis with plain numbers."""
    getattr(axis, f"set_{which}scale")("log")
    getattr(axis, f"set_{which}lim")(limits)
    ticks = getattr(axis, f"{which}axis")
    reach = limits[1] / limits[0]
    ticks.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if reach < 8 else (1, 2, 5) if reach < 100 else (1,)))
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ticks.set_minor_formatter(NullFormatter())

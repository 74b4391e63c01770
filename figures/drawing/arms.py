"""Arms: the rows of a comparison, one corpus and one metric, checked and arranged by panel, stage and seed."""

import numpy as np
import pandas as pd
from scipy import stats

from ablate.core.records import COLUMNS, require_single, under

CONFIDENCE = 0.95
SEEDS_FOR_INTERVAL = 3
TITLES = {
    "ar": "AR contexts",
    "random": "Random masks",
    "block": "Block contexts",
    "decode": "Decoding",
    "": "Training",
}


def select(rows: pd.DataFrame, metric: str, domain: str, split: str, grid: str = "answer") -> pd.DataFrame:
    """Rows of one metric, domain and split of one corpus, most confident first, one token a pass, in a fixed order.

    ValueError where there are none, or where one curve would mix corpora, decoding protocols or two runs of a seed.
    """
    rows = under(rows, grid)
    corpora = rows.groupby("corpus")["run"].unique()
    if len(corpora) > 1:
        came = "; ".join(f"{corpus} ({', '.join(sorted(runs))})" for corpus, runs in corpora.items())
        raise ValueError(f"runs: wanted one corpus; came {came}; name the runs of one corpus")
    chosen = rows[(rows["metric"] == metric) & (rows["domain"] == domain) & (rows["split"] == split)]
    if chosen.empty:
        held = rows[["metric", "domain", "split"]].drop_duplicates().sort_values(["metric", "domain", "split"])
        came = "; ".join(" ".join(triple) for triple in held.itertuples(index=False)) or "no rows at all"
        raise ValueError(f"rows: wanted metric {metric}, domain {domain}, split {split}; came {came}; name one")
    twins = chosen.groupby(["regime", "seed"])["run"].unique()
    for (regime, seed), runs in twins[twins.map(len) > 1].items():
        raise ValueError(
            f"regime {regime}, seed {seed}: wanted one run, since the interval is over seeds; "
            f"came {', '.join(sorted(runs))}; name one of them"
        )
    for key, panel in panels(chosen).items():
        protocols = sorted(panel["protocol"].unique())
        if len(protocols) > 1:
            raise ValueError(
                f"{title(key)}: wanted one decoding protocol; came {'; '.join(protocols)}; "
                f"name the runs of one protocol"
            )
        require_single(panel, title(key))
    return chosen.sort_values(list(COLUMNS), kind="stable", ignore_index=True)


def panels(rows: pd.DataFrame) -> dict[tuple[str, int], pd.DataFrame]:
    """Rows by (contexts, block size), block size 0 where there is none."""
    sizes = rows["block_size"].fillna(0).astype("int64")
    return {(str(contexts), int(size)): part for (contexts, size), part in rows.groupby(["contexts", sizes])}


def own_grid(rows: pd.DataFrame) -> str:
    """The grid of a run alone: that of its training, where its records have it."""
    return "sequence" if (rows["grid"] == "sequence").any() else "answer"


def bounds(rows: pd.DataFrame, domain: str = "new", grid: str = "answer") -> dict[str, pd.DataFrame]:
    """Unclipped bound over whole sequences, by block size in words: bits per token or, of real text, per byte.

    Fresh sequences of the training split where there is an oracle, held-out ones elsewhere. No rows, no bounds.
    """
    rows = under(rows, grid)
    metric = "bits_per_byte" if (rows["metric"] == "bits_per_byte").any() else "bits"
    split = "test" if metric == "bits_per_byte" else "train"
    found = rows[(rows["metric"] == metric) & (rows["domain"] == domain) & (rows["split"] == split)]
    inner = found[found["contexts"] == "bound"]
    parts = {"1 (AR)": found[found["contexts"] == "ar"]}
    parts |= {str(size): part for size, part in sorted(inner.groupby("block_size"))}
    parts["L (random)"] = found[found["contexts"] == "random"]
    return {words: part for words, part in parts.items() if len(part)}


def title(key: tuple[str, int]) -> str:
    """Heading of the panel of (contexts, block size), block size 0 where there is none."""
    contexts, size = key
    if contexts == "decode":
        return f"Block size {size}" if size else "Decoding"
    name = TITLES.get(contexts, contexts)
    return f"{name}, size {size}" if size else name


def seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Values of one regime in one panel: a row per (step, stage), a column per seed; no baseline."""
    trained = rows[rows["stage"] >= 0]
    return trained.pivot(index=["step", "stage"], columns="seed", values="value").sort_index()


def switches(rows: pd.DataFrame) -> list[int]:
    """Steps at which some run left a stage for the next one."""
    ends = rows[rows["stage"] >= 0].groupby(["run", "stage"], as_index=False)["step"].max()
    last = ends.groupby("run")["stage"].transform("max")
    return sorted(int(step) for step in ends.loc[ends["stage"] < last, "step"].unique())


def baselines(rows: pd.DataFrame) -> dict[str, float]:
    """Mean over seeds of the base model, under "" where the arms of a seed share it, else by regime."""
    base = rows[rows["stage"] < 0].pivot_table(index="seed", columns="regime", values="value", aggfunc="mean")
    if base.empty:
        return {}
    low, high = base.min(axis=1), base.max(axis=1)
    # Arms evaluated on different devices may differ in the last digits of one and the same model.
    if np.allclose(low, high, rtol=1e-3, atol=1e-6):
        return {"": float(base.mean(axis=1).mean())}
    return {str(regime): float(height) for regime, height in base.mean().items()}


def seed_count(rows: pd.DataFrame) -> str:
    """Seeds of an arm in a condition: "8", or "3 to 8" where they differ."""
    counts = rows.groupby(["condition", "arm"])["seed"].nunique()
    return f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean over seeds and half width of its 95% t-interval, which is NaN below three seeds."""
    values = np.asarray(values, dtype=float)
    if len(values) < SEEDS_FOR_INTERVAL:
        return float(values.mean()), float("nan")
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * error)

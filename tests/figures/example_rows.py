"""Made-up rows of every kind that a figure is drawn from, small and seeded."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from ablate.core import records
from ablate.studies.predictions import VERDICTS
from experiments.reports.atlas_table import PREDICTORS, WORLDS

SWITCH, END = 60, 80
ROW = {
    "run": "r",
    "corpus": "world",
    "regime": "ar",
    "seed": 0,
    "stage": 0,
    "objective": "Autoregressive",
    "step": 0,
    "tokens": 0,
    "loss_tokens": 0,
    "flops": 0.0,
    "domain": "new",
    "split": "test",
    "metric": "score",
    "contexts": "decode",
    **records.NO_BLOCKS,
    "block_size": 1,
    "protocol": "greedy",
    "question": None,
    "value": 0.5,
}
PAPER = ("ar_to_bidllm", "ardllm_to_bidllm", "bidllm")
LAWS = ["AR", "block 4", "random masks", "random masks, causal"]
WARMUPS = ("none", "cap_0.1", "drop_0.1", "both_0.1", "both_0.3")


def run_rows(regime="ar_to_bidllm", seed=0, corpus="world", sizes=(1, 2, 32), metrics=("score", "excess_bits")):
    """Rows of one made-up run: evaluations every 20 steps, both sides of the switch, and the baseline."""
    first, *second = regime.split("_to_")
    moments = [(-1, 0)] + [(0, step) for step in range(0, (SWITCH if second else END) + 1, 20)]
    moments += [(1, step) for step in range(SWITCH, END + 1, 20)] if second else []
    rows = []
    for stage, step in moments:
        learned = 0.1 if stage < 0 else 0.1 + 0.01 * step + 0.05 * stage + 0.01 * seed
        common = ROW | {"run": f"{corpus}-{regime}-{seed}", "corpus": corpus, "regime": regime, "seed": seed}
        common |= {"stage": stage, "step": step, "objective": first, "loss_tokens": 300 * step}
        for metric in metrics:
            contexts, value = ("decode", learned) if metric == "score" else ("block", 1 / learned)
            protocol = "greedy" if metric == "score" else ""
            place = {"metric": metric, "contexts": contexts, "protocol": protocol, "value": value}
            rows += [common | place | {"block_size": size} for size in sizes]
            if metric != "score":
                rows += [common | place | {"contexts": "random", "block_size": None}]
    return rows


def study(regimes=("ar_to_bidllm", "bidllm"), seeds=3, **about):
    return records.table(row for regime in regimes for seed in range(seeds) for row in run_rows(regime, seed, **about))


def sequences(rows):
    """Rows of the test split under AR contexts and random masks, as probes measure them on the training split."""
    random = rows[rows["contexts"] == "random"].assign(split="train")
    return pd.concat([rows[rows["contexts"] != "random"], random, random.assign(contexts="ar")], ignore_index=True)


def in_study(rows, name="regimes", condition="trace"):
    """The rows as those of a study's condition, whose arms are the regimes."""
    return rows.assign(study=name, condition=condition, arm=rows["regime"])


def regimes():
    """Rows of the study regimes, in a world with an oracle."""
    rows = sequences(study(PAPER, corpus="trace"))
    factors = rows["regime"].map(dict(zip(PAPER, (1.0, 0.8, 0.6), strict=True)))
    return in_study(rows.assign(value=rows["value"] * factors.where(rows["stage"] >= 0, 1.0)))


def warmup(seeds=2):
    """Losses and gradient norms of the study warmup: 40 steps of AR, 80 of diffusion, every second one logged."""
    rng, rows = np.random.default_rng(0), []
    for arm, seed, step in itertools.product(WARMUPS, range(seeds), range(2, 121, 2)):
        stage, since = int(step > 40), max(step - 40, 1)
        warm = stage and "_" in arm and since <= 80 * float(arm.split("_")[1])
        loss = (1 + 3 * np.exp(-since / 20)) * (0.2 if warm else 1.0) * np.exp(rng.normal(0, 0.1))
        values = {"loss": loss, "scored_nats": 1 + loss, "grad_norm": 10 * loss, "grad_norm_scored": 20 * loss}
        common = ROW | {"run": f"{arm}-{seed}", "corpus": "trace", "regime": arm, "seed": seed, "stage": stage}
        common |= {"step": step, "split": "train", "contexts": "", "block_size": None, "protocol": ""}
        rows += [common | {"metric": metric, "value": value} for metric, value in values.items()]
    return in_study(records.table(rows), "warmup")


def survey(corpus="trace", questions=500):
    """Rows of a survey with all that its figures show."""
    common = {
        "corpus": corpus,
        "domain": "new",
        "split": "train",
        "fingerprint": "f",
        "seed": 0,
        "rate": None,
        "block_size": None,
        "asked": "",
        "weight": "",
        "infer": "",
    }
    rows = []
    for (i, law), asked in itertools.product(enumerate(LAWS), ("all", "answers")):
        place = {"context_sampler": law, "asked": asked}
        certain = asked == "answers" and i == 0
        for weight in ("loss", "token"):
            k1 = 1.0 if certain else 2.0 + i + 0.2 * (weight == "token") - 0.5 * (asked == "answers")
            rows += [{**place, "weight": weight, "metric": m, "value": v} for m, v in (("k1", k1), ("certain", 1 / k1))]
        seen = {
            "canonical_visits": 4.0 - i,
            "raw_visits": 1.25,
            "raw_contexts": questions / 1.25,
            "canonical_unseen": 0.2 * i,
            "canonical_unseen_upper": 0.2 * i + 0.2,
        }
        rows += [{**place, "metric": metric, "value": value} for metric, value in seen.items()]
        for infer in dict.fromkeys((law, records.INFERENCE)):
            away = 0.2 * i * (infer == records.INFERENCE)
            known = 0.0 if certain else 20 * (1 + i)
            paid = {
                "cost_known": known / questions,
                "cost_vocabulary": 900 * (1 + away) / questions,
                "coverage": 0.9 - away,
                "jsd_bits": 0.1 + away,
            }
            rows += [{**place, "infer": infer, "metric": metric, "value": value} for metric, value in paid.items()]
    for rate, asked, weight in itertools.product((0.1, 0.5, 0.9), ("all", "answers"), ("loss", "token")):
        place = {"context_sampler": records.FIXED_RATE, "rate": rate, "asked": asked, "weight": weight}
        rows += [{**place, "metric": m, "value": v} for m, v in (("k1", 1 + 5 * rate), ("certain", 1 - rate))]
    rows += [{"context_sampler": law, "metric": "sequences", "value": 4096.0} for law in LAWS]
    return records.table([{**common, **row} for row in rows], records.SURVEY)


def evaluation():
    """Whole sequences of two arms and of the oracle, by order and pace."""
    rows = []
    blank = {"question_seed": 1000, "n": 500, "error": 0.01, "passes": 8.0, "seconds": 1.0, "contexts": "sequence"}
    orders, paces = ("left_to_right", "confidence", "random"), {"tokens:1": 1.0, "tokens:4": 4.0, "all": 12.0}
    for regime, seed, oracle in itertools.product(("ar", "bidllm"), (0, 1), (False, True)):
        common = ROW | blank | {"run": f"{regime}-{seed}", "corpus": "trace", "regime": regime, "seed": seed}
        common |= {"objective": records.ORACLE if oracle else regime, "block_size": 32, "grid": "answer"}
        for (i, order), (pace, tokens) in itertools.product(enumerate(orders), paces.items()):
            possible = (1.0 if oracle else 0.9 - 0.05 * seed - 0.1 * (regime == "bidllm")) / tokens ** (0.5 + 0.3 * i)
            at = common | {"order": order, "pace": pace}
            rows += [at | {"metric": m, "value": v} for m, v in (("possible", possible), ("tokens_a_pass", tokens))]
    return records.table(rows, records.EVALUATION)


def no_signal():
    rows = []
    for name, size in itertools.product(("linear", "cos", "atom_clip(B)"), (1, 2, 4, 8)):
        p = {"linear": 1, "cos": 1.5, "atom_clip(B)": 0.6}[name] / (size + 1)
        rows.append(
            {
                "schedule": name,
                "block_size": size,
                "closed_form": p,
                "estimate": 1.02 * p,
                "low": 0.9 * p,
                "high": 1.1 * p,
                "draws": 1000,
                "empty": int(1000 * p),
            }
        )
    return pd.DataFrame(rows)


def clean_share():
    rows = []
    for name, parents, weighting in itertools.product(("linear", "interval(.45,.95)"), (1, 2, 3), ("loss", "token")):
        share = (0.5 if name == "linear" else 0.3) ** (parents if weighting == "token" else parents / 2)
        known = weighting == "token" or name != "linear"
        ends = (0.9 * share, 1.1 * share) if known else (np.nan, np.nan)
        rows.append(
            {
                "schedule": name,
                "block_size": 8,
                "parents": parents,
                "weighting": weighting,
                "draws": 1000,
                "closed_form": share,
                "estimate": 0.97 * share,
                "low": ends[0],
                "high": ends[1],
                "asked": 500,
            }
        )
    return pd.DataFrame(rows)


def trials():
    """A sweep of ten trials, one of them failed, on two seeds."""
    rng, rows = np.random.default_rng(1), []
    for trial, seed in itertools.product(range(10), (100, 101)):
        size = (1, 4, 16)[trial % 3]
        state = "failed" if trial == 7 else "complete"
        value = 0.5 + 0.1 * size**0.5 + 0.1 * rng.random() if state == "complete" else np.nan
        rows.append(
            {
                "sweep": "s",
                "trial": trial,
                "seed": seed,
                "state": state,
                "value": value,
                "block_size": size,
                "warmup": 0.05 * trial,
                "clip": "atom",
                "shift": True,
                "lr": 1e-3,
            }
        )
    return pd.DataFrame(rows)


def importance():
    rows = [("lr", 0.6, 0.4, 0.8), ("block_size", 0.3, 0.1, 0.5), ("clip", 0.1, np.nan, np.nan)]
    return pd.DataFrame([("s", *row) for row in rows], columns=["sweep", "parameter", "importance", "low", "high"])


def verdicts():
    """One of each verdict and direction, primary and exploratory."""
    common = {
        "study": "regimes",
        "condition": "trace",
        "source": "the paper",
        "outcome": "excess bits, block 1, mean",
        "arm": "ar_to_bidllm",
        "other": "bidllm",
        "threshold": 0.1,
        "seeds": 8,
        "p": 0.0078,
        "p_equal": 0.07,
        "p_holm": np.nan,
        "detectable": 0.2,
        "note": "",
        "registered": "0123456789abcdef",
    }
    said = [
        ("H1", True, "lower", -0.5, -0.6, -0.4, "supported", "AR first knows more than diffusion throughout"),
        ("H2", True, "higher", -0.3, -0.4, -0.2, "refuted", "the other way round"),
        ("E1", False, "equal", 0.02, -0.3, 0.34, "undecided", "both end alike"),
        ("E2", False, "higher", 9.0, 8.0, 10.0, "supported", "far beyond the axis"),
    ]
    names = ("id", "primary", "direction", "difference", "low", "high", "verdict", "claim")
    rows = [{**common, "p_holm": 0.016 if row[1] else np.nan, **dict(zip(names, row, strict=True))} for row in said]
    return records.table(rows, VERDICTS)


def keep(folder: Path, frame: pd.DataFrame, columns=records.COLUMNS) -> Path:
    folder.mkdir(parents=True)
    records.write(frame, folder / records.FILE, columns)
    return folder


def results(folder: Path) -> Path:
    """A folder of committed rows with everything that a figure is drawn from."""
    text = study(PAPER, corpus="text", metrics=("bits_per_byte",))
    keep(folder / "regimes", regimes(), records.STUDY)
    keep(folder / "regimes_python", in_study(text, "regimes_python", "python_source"), records.STUDY)
    keep(folder / "warmup", warmup(), records.STUDY)
    keep(folder / "order", lengths(), records.STUDY)
    keep(folder / "dial_k", dial(), records.STUDY)
    for corpus in ("trace", "arithmetic"):
        keep(folder / "knowledge" / corpus, survey(corpus), records.SURVEY)
    for questions in (64, 1024):
        keep(folder / "null_theory" / str(questions), survey(questions=questions), records.SURVEY)
    (folder / "no_signal").mkdir()
    (folder / "sweep").mkdir()
    for name, rows in {"no_signal": no_signal(), "clean_share": clean_share()}.items():
        rows.to_csv(folder / "no_signal" / f"{name}.csv", index=False)
    for name, rows in {"trials": trials(), "importance": importance()}.items():
        rows.to_parquet(folder / "sweep" / f"{name}.parquet")
    for name, (rows, columns) in {
        "worlds": (atlas_worlds(), WORLDS),
        "predictors": (atlas_predictors(), PREDICTORS),
    }.items():
        records.write(rows, folder / "atlas" / f"{name}.parquet", columns)
    records.write(evaluation(), folder / "decoding" / "evaluation.parquet", records.EVALUATION)
    records.write(verdicts(), folder / "verdicts.parquet", VERDICTS)
    return folder


FAMILIES = ["facts"] * 3 + ["trace"] * 3


def atlas_worlds(**changes):
    n = len(FAMILIES)
    columns = {name: np.linspace(0.5, 1.5, n) for name, dtype in WORLDS.items() if dtype == "float64"}
    columns |= {"world": [f"{f}_{i}" for i, f in enumerate(FAMILIES)], "family": FAMILIES, "seeds": 3, "why": ""}
    return pd.DataFrame({**columns, **changes})[list(WORLDS)].astype(WORLDS)


def atlas_predictors():
    rows = [
        {"predictor": "table", "given": "", "family": "", "value": 0.7, "low": 0.4, "high": 0.9, "p": 0.01},
        {"predictor": "table", "given": "visits", "family": "", "value": 0.2, "low": -0.1, "high": 0.5, "p": 0.2},
        {"predictor": "known", "given": "", "family": "", "value": 0.6, "low": 0.3, "high": 0.8, "p": 0.01},
        {"predictor": "ceiling", "given": "", "family": "", "value": 0.95},
    ]
    return pd.DataFrame(rows, columns=list(PREDICTORS)).astype(PREDICTORS)


def lengths():
    """Rows of a study whose second stage has two lengths."""
    return pd.concat([regimes().assign(study="order", condition=f"trace_mixed_{n}x") for n in (1, 4)])


def dial():
    """Rows of a study with three settings of one dial; in larger blocks values are higher."""
    rows = pd.concat(
        [
            regimes().assign(study="dial_k", condition=f"k_{n}", run=lambda r, n=n: r["run"] + f"at{n}")
            for n in (1, 2, 4)
        ]
    )
    return rows.assign(value=rows["value"] + rows["block_size"].fillna(0).astype(float) / 64)

"""Question: does K(c), known before training, predict what a network pays? Command: `python experiments/atlas.py`

Cost: about 10 minutes on 2 cores for what theories expect of 50 worlds; seconds where that is kept. No GPU. Reads the
studies atlas and atlas_admission in results/, prints how well each theory predicts log(BiDLLM's excess bits / AR's)
across worlds, and writes expected.parquet, worlds.parquet and predictors.parquet into results/atlas.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table
from scipy import stats

from ablate.analysis.family_ranks import (
    LEAST,
    ceiling,
    correlation,
    estimate,
    left_out,
    partial_correlation,
    shuffled_errors,
)
from ablate.core import records
from ablate.core.child_processes import spawning
from ablate.core.storage import digest, locked
from ablate.core.terminal import terminal
from ablate.core.validation import UsageError
from experiments.cli.compose import jobs
from experiments.cli.guard import guarded, refuse
from experiments.cli.places import require_place
from experiments.cli.run_command import RUN
from experiments.presets.atlas_studies import HORIZON, LOOKS, SEEDS, WORDS
from experiments.presets.atlas_worlds import ATLAS, FAMILIES, FAMILY_OF
from experiments.reports.atlas_table import CEILING, EXPECTED, OUTCOME, PREDICTORS, RIVALS, WORLDS, log_ratios, table

Frame = Any  # a pandas frame, whose columns no type checker knows
SAMPLE, SEED = 1024, 0
CAPTION = (
    "Spearman's correlation of ranks within families with the measured log ratio of costs, 95 % interval by bootstrap "
    "of worlds within families, p by shuffles within families. given visits: partial, given what visits alone expect. "
    "ceiling: what a perfect predictor would reach, given how far seeds agree."
)


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 when the tables were printed, 2 for bad input."""
    asked = _parser().parse_args(arguments)
    folder = asked.results / "atlas"
    try:
        require_place(folder, "--results")
        expected = kept(folder / "expected.parquet", asked.worlds, asked.sample, asked.workers)
        measured, development = (_rows(asked.results / name) for name in ("atlas", "atlas_admission"))
        worlds = table(expected, measured, development, OUTCOME, len(SEEDS))
        records.write(worlds, folder / "worlds.parquet", WORLDS)
        console = terminal()
        console.width = max(console.width, 120)
        console.print(listed(worlds))
        (folder / "predictors.parquet").unlink(missing_ok=True)  # of other worlds
        if (counted := admitted(worlds)).empty:
            console.print(f"No family has {LEAST} worlds that count: type python experiments/study.py study=atlas")
        else:
            ratios = log_ratios(measured, OUTCOME)
            found = judged(counted, np.stack([ratios[world] for world in counted["world"]]), asked.draws)
            records.write(found, folder / "predictors.parquet", PREDICTORS)
            console.print(judgement(found, len(counted)))
            if asked.null:
                console.print(null_line(counted, asked.null))
    except (ValueError, OSError) as error:
        return refuse(error)
    return 0


def kept(path: Path, names: list[str], sample: int, workers: int) -> Frame:
    """What theories expect of these worlds; each is kept as it is found. Raises UsageError for unknown worlds."""
    words = {world.name: world.words for world in ATLAS}
    if unknown := [name for name in names if name not in words]:
        raise UsageError(f"{', '.join(unknown)}: wanted worlds of the atlas, {', '.join(words)}; name one of them")
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent / ".expected.lock"):
        there: Frame = records.read(path, EXPECTED) if path.exists() else records.table([], EXPECTED)
        key = {name: key_of(said, sample) for name, said in words.items()}
        there = there[there["key"] == there["world"].map(key)]
        asked = {name: words[name] for name in (names or words) if name not in set(there["world"])}
        for rows in _computed(asked, sample, workers):
            rows = [{**row, "key": key[row["world"]]} for row in rows]
            there = pd.concat([there, records.table(rows, EXPECTED)], ignore_index=True)
            records.write(there, path, EXPECTED)
    return there


def key_of(words: list[str], sample: int) -> str:
    """Of what theories expect of a world: all that it follows from but the code."""
    return digest([words, LOOKS, sample, SEED])[:8]


def _computed(asked: dict[str, list[str]], sample: int, workers: int) -> Iterator[list[dict[str, Any]]]:
    if workers < 2:
        yield from (expected_of(name, words, sample) for name, words in asked.items())
        return
    with ProcessPoolExecutor(workers, mp_context=spawning()) as pool:
        yield from pool.map(expected_of, asked, asked.values(), [sample] * len(asked))


def expected_of(name: str, words: list[str], sample: int) -> list[dict[str, Any]]:
    """Rows of `EXPECTED` of one world, without their key."""
    import torch

    from ablate.analysis.expected_cost import expected

    torch.set_num_threads(1)
    RUN.register()
    (run,) = jobs(RUN, [*WORDS, "regime=ar", *words])
    hops = FAMILIES[FAMILY_OF[name]].hops
    steps = next((word.split("=")[1] for word in words if word.startswith(f"corpus.{hops}=")), "1")
    about = {"length": run.corpus.length, "vocabulary": run.vocabulary, "hops": float(steps)}
    found = expected(run.corpus, LOOKS, run.batch, sample, SEED)
    values = {("", quantity): value for quantity, value in about.items()}
    values |= {(arm, quantity): value for arm, of in found.items() for quantity, value in vars(of).items()}
    return [
        {"world": name, "family": FAMILY_OF[name], "arm": arm, "quantity": quantity, "value": float(value)}
        for (arm, quantity), value in values.items()
    ]


def _rows(folder: Path) -> Frame:
    """Rows of a study; none where it has not been run."""
    return records.read(folder, records.STUDY) if (folder / records.FILE).exists() else records.table([], records.STUDY)


def admitted(worlds: Frame) -> Frame:
    """Worlds that count, of families that have enough."""
    there = worlds[worlds["why"] == ""]
    return there[there.groupby("family")["world"].transform("size") >= LEAST].reset_index(drop=True)


def judged(worlds: Frame, ratios_WS: np.ndarray, draws: int) -> Frame:
    """Rows of `PREDICTORS`: the table over the vocabulary, each rival, and what a perfect predictor would reach."""
    families, measured = worlds["family"].to_numpy(), worlds["log_ratio"].to_numpy()
    rows = []
    for name in ("table", *RIVALS):
        x, visits = worlds[name].to_numpy(), worlds["visits"].to_numpy()
        asked = {"": estimate(correlation, families, x, measured, draws=draws)}
        if name != "visits":
            asked["visits"] = estimate(partial_correlation, families, x, measured, visits, draws=draws)
        rows += [{"predictor": name, "given": given, "family": "", **vars(found)} for given, found in asked.items()]
        explained = left_out(families, x, measured)
        rows += [
            {"predictor": name, "given": "left out", "family": f, "value": share} for f, share in explained.items()
        ]
    rows.append({"predictor": CEILING, "given": "", "family": "", "value": ceiling(families, ratios_WS)})
    return pd.DataFrame(rows, columns=list(PREDICTORS)).astype(PREDICTORS)


def judgement(found: Frame, worlds: int) -> Table:
    """A line for the table, each rival and the ceiling."""
    out = Table(title=f"{worlds} worlds, {HORIZON} steps", title_justify="left", caption=CAPTION)
    for name in ("predictor", "correlation", "95 %", "p", "given visits", "95 %", "p", "variance, families left out"):
        out.add_column(name, justify="left" if name == "predictor" else "right")
    for name, part in found.groupby("predictor", sort=False):
        cells = [_cells(part[part["given"] == given]) for given in ("", "visits")]
        shares = part[part["given"] == "left out"]
        out.add_row(
            name, *cells[0], *cells[1], " ".join(f"{f} {v:.2f}" for f, v in shares[["family", "value"]].to_numpy())
        )
    return out


def null_line(worlds: Frame, studies: int) -> str:
    """How often the table's p is .05 or less where its values are shuffled within families."""
    columns = worlds["family"].to_numpy(), worlds["table"].to_numpy(), worlds["log_ratio"].to_numpy()
    errors = shuffled_errors(correlation, *columns, studies=studies, draws=99)
    within = stats.binomtest(errors, studies).proportion_ci()
    share = f"{errors / studies:.3f} ({within.low:.3f} to {within.high:.3f})"
    return f"Null: costs shuffled within families, p is .05 or less in {errors} of {studies} studies, {share}"


def _cells(found: Frame) -> list[str]:
    if found.empty:
        return ["–"] * 3
    (row,) = found.itertuples()
    interval = "–" if np.isnan(row.low) else f"{row.low:.2f} to {row.high:.2f}"
    return [f"{row.value:.2f}", interval, "–" if np.isnan(row.p) else f"{row.p:.4f}"]


def listed(worlds: Frame) -> Table:
    """A line for every world, also for those that do not count."""
    out = Table(title="Worlds", title_justify="left", caption="log ratio: of BiDLLM's mean excess bits to AR's")
    for name in ("world", "seeds", "log ratio ± SD", "table", "C(c) known", "visits", "K_1", "left out"):
        out.add_column(name, justify="right" if name not in ("world", "left out") else "left")
    for row in worlds.itertuples():
        measured = f"{row.log_ratio:.2f} ± {row.spread:.2f}" if row.seeds else "–"
        expected = (f"{getattr(row, name):.2f}" for name in ("table", "known", "visits", "k"))
        out.add_row(row.world, str(row.seeds), measured, *expected, row.why)
    return out


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Does K(c), known before training, predict what a network pays?")
    parser.add_argument(
        "worlds", nargs="*", metavar="WORLD", help="worlds whose theories are asked now, all unless named"
    )
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="FOLDER", help="results/")
    parser.add_argument(
        "--sample", type=_count, default=SAMPLE, metavar="N", help=f"contexts a theory (default {SAMPLE})"
    )
    parser.add_argument(
        "--draws", type=_count, default=2000, metavar="N", help="bootstraps and shuffles (default 2000)"
    )
    parser.add_argument("--null", type=_count, default=0, metavar="N", help="studies with shuffled costs; their errors")
    parser.add_argument("--workers", type=_count, default=1, metavar="N", help="processes (default 1)")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10**6:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 1 to 1000000, got {text!r}")
    return int(text)


if __name__ == "__main__":
    guarded(main)

"""Question: what do the studies say of the predictions? Command: `python experiments/verdicts.py [study ...]`

Cost: seconds, no GPU. Reads results/<study>/ and predictions.yaml, writes results/verdicts.parquet, prints the table of
the studies named or of all; `python paper_figs.py verdicts` draws it. A prediction that was edited or written after its
study began is marked. `--null 400` asks instead how often these tests err where there is nothing to find.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

import argparse
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ablate.core import records
from ablate.core.manifest import MANIFEST, load
from ablate.core.storage import Damaged
from ablate.core.terminal import terminal
from ablate.studies.outcomes import QUESTIONS
from ablate.studies.planted_null import planted_null
from ablate.studies.predictions import VERDICTS, Prediction, verdicts
from ablate.studies.predictions_yaml import read_predictions
from ablate.studies.trends import settings
from experiments.cli.guard import guarded, refuse
from experiments.presets.predictions_file import PREDICTIONS

Frame = Any  # a pandas frame or one row of it, whose columns no type checker knows
RUN = {"condition": str, "arm": str, "source": str}
SHAPE = {"predictions": {...: str}, "seeds": [int], "runs": {...: RUN}}  # what is read of a study's manifest
COLOURS = {"supported": "green", "refuted": "red", "undecided": "yellow"}
CAPTION = (
    "difference: mean over seeds of the arm less the other, 95 % interval by bootstrap over seeds (then questions, "
    "where these are kept). p: exact sign flips (steps to a level: of log-rank scores); of a predicted equality two "
    "one-sided t-tests. * adjusted by Holm over the study's primaries; others are exploratory and not adjusted. "
    "smallest found: with power .8 by as many seeds, given their spread. A difference shown to be smaller than what "
    "would matter refutes a prediction. registered: fingerprint of the prediction when its study began."
)
NULL = (
    "Seeds drawn with replacement from the measured differences less their mean; of a predicted equality, plus its "
    "threshold. errors: studies so drawn whose test has p of .05 or less. holds: .05 is within the interval or above "
    "it. Steps to a level are left out."
)


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 when the table was printed, 2 for bad input."""
    asked = _parser().parse_args(arguments)
    try:
        if asked.null is not None:
            terminal().print(null_table(asked.results, asked.predictions, asked.studies, asked.null))
            return 0
        found = collect(asked.results, asked.predictions)
        shown = found[found["study"].isin(asked.studies)] if asked.studies else found
        missing = [name for name in asked.studies if name not in set(found["study"])]
        if missing:
            there = ", ".join(found["study"].unique())
            raise ValueError(
                f"{', '.join(missing)}: wanted studies with predictions and results, {there}; name one of them"
            )
        records.write(found, asked.results / "verdicts.parquet", VERDICTS)
    except (ValueError, OSError) as error:
        return refuse(error)
    console = terminal()
    console.width = max(console.width, 200)
    console.print(table(shown))
    counts = shown["verdict"].value_counts()
    console.print(", ".join(f"{counts.get(v, 0)} {v}" for v in COLOURS) + f": {asked.results / 'verdicts.parquet'}")
    return 0


def collect(results: Path, path: Path) -> Frame:
    """Verdicts on every prediction whose study has results. ValueError for what cannot be read, and where nothing was
    measured."""
    predictions = read_predictions(path)
    there = [s for s in sorted({p.study for p in predictions}) if _there(results, s)]
    rows = [row for study in there for row in _of(results / study, [p for p in predictions if p.study == study])]
    if not rows:
        raise ValueError(
            f"{results}: wanted rows of two seeds or more of a study with predictions, got none; type "
            "python experiments/study.py study=regimes workers=2"
        )
    return records.table(rows, VERDICTS)


def null_table(results: Path, path: Path, studies: list[str], draws: int) -> Table:
    """A line for every prediction whose test a planted null can try. ValueError where there is none."""
    asked = [p for p in read_predictions(path) if (p.study in studies or not studies)]
    there = sorted({p.study for p in asked if _there(results, p.study)})
    rows = {name: _rows_and_manifest(results / name)[0] for name in there}
    nulls = [planted_null(p, rows[p.study], draws) for p in asked if p.study in rows]
    out = Table(title="Planted null", title_justify="left", caption=NULL, caption_justify="left")
    for name in ("", "study", "condition", "seeds", "draws", "errors", "share", "95 % interval", "holds"):
        out.add_column(name, justify="left" if name in ("", "study", "condition", "holds") else "right")
    for null in filter(None, nulls):
        counts = map(str, (null.seeds, null.draws, null.errors))
        share = f"{null.share:.3f}", f"{null.low:.3f} to {null.high:.3f}"
        out.add_row(null.id, null.study, null.condition, *counts, *share, "yes" if null.holds else "no")
    if not out.row_count:
        raise ValueError(f"{results}: wanted rows of two seeds or more of {', '.join(studies) or 'a study'}, got none")
    return out


def _there(results: Path, study: str) -> bool:
    return (results / study / records.FILE).exists()


def _rows_and_manifest(folder: Path) -> tuple[Frame, dict[str, Any]]:
    """A study's rows of the seeds that it began with, and its manifest."""
    rows = records.read(folder, records.STUDY)
    try:
        manifest = load(folder / MANIFEST, SHAPE)
    except Damaged as damage:
        raise ValueError(f"{damage}; restore it") from None
    return rows[rows["seed"].isin(manifest["seeds"])], manifest


def _of(folder: Path, predictions: list[Prediction]) -> list[dict[str, Any]]:
    """Verdicts on one study's predictions, by the seeds that it began with."""
    rows, manifest = _rows_and_manifest(folder)
    questions = records.read(folder / "questions.parquet", QUESTIONS)
    recorded, seeds = manifest["predictions"], manifest["seeds"]
    sources = {(run["condition"], run["arm"], run["source"]) for run in manifest["runs"].values()}
    found: list[dict[str, Any]] = verdicts(predictions, rows, questions[questions["seed"].isin(seeds)])
    now = {p.id: p.fingerprint() for p in predictions}
    conditions = sorted({condition for condition, _, _ in sources})
    for row in found:
        where = {row["condition"], *(() if row["other"] else settings(conditions, row["condition"]).values())}
        code = {s for c, a, s in sources if c in where and a in (row["arm"], row["other"])}
        notes = {
            row["note"]: bool(row["note"]),
            "written after the data": row["id"] not in recorded,
            "edited after the data": recorded.get(row["id"], now[row["id"]]) != now[row["id"]],
            "arms by different code": len(code) > 1,
            f"{len(seeds)} seeds were planned": 0 < row["seeds"] < len(seeds),
        }
        row["registered"] = recorded.get(row["id"], "")
        row["note"] = "; ".join(note for note, holds in notes.items() if holds)
    return found


def table(found: Frame) -> Table:
    """A line for every prediction."""
    out = Table(title="Verdicts", title_justify="left", caption=CAPTION, caption_justify="left")
    for name in (
        "",
        "study",
        "claim",
        "outcome",
        "seeds",
        "wanted",
        "difference",
        "p",
        "smallest found",
        "verdict",
        "registered",
    ):
        out.add_column(name, justify="left" if name in ("", "study", "claim", "outcome", "verdict") else "right")
    signs = {"higher": "above ", "lower": "below -", "equal": "within ±"}
    for row in found.itertuples():
        p = f"{row.p_holm:.3f}*" if row.primary else f"{row.p_equal if row.direction == 'equal' else row.p:.3f}"
        out.add_row(
            row.id,
            f"{row.study}\n{row.condition}",
            row.claim,
            f"{row.outcome}\n{row.arm}{f' - {row.other}' * bool(row.other)}",
            str(row.seeds),
            f"{signs[str(row.direction)]}{row.threshold:g}",
            f"{row.difference:.3g}\n({row.low:.3g} to {row.high:.3g})",
            p,
            f"{row.detectable:.2g}",
            Text.assemble((row.verdict, COLOURS[str(row.verdict)]), f"\n{row.note}" * bool(row.note)),
            str(row.registered)[:8],
        )
    return out


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="What the studies say of the predictions.",
        epilog="example: python experiments/verdicts.py regimes twin",
    )
    parser.add_argument("studies", nargs="*", metavar="STUDY", help="studies to show, all unless named")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="FOLDER", help="results/")
    parser.add_argument("--null", type=int, metavar="DRAWS", help="simulated studies a prediction; prints their errors")
    parser.add_argument("--predictions", type=Path, default=PREDICTIONS, metavar="FILE", help="predictions.yaml")
    return parser


if __name__ == "__main__":
    guarded(main)

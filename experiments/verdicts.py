"""Question: what do the studies say of the predictions? Command: `python experiments/verdicts.py [study ...]`

Cost: seconds, no GPU. Reads results/<study>/ and predictions.yaml; prints a table, writes results/verdicts.parquet and
draws it. A prediction that was edited or written after its study began is marked.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

if __name__ == "__main__" and not sys.path[0].endswith("site-packages"):
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # `experiments` is a package of this folder

import pandas as pd
from rich.console import Console
from rich.table import Table

from ablate import records
from ablate.outcomes import QUESTIONS
from ablate.prediction import VERDICTS, Prediction, read_predictions, verdicts

PREDICTIONS = Path(__file__).parent / "predictions.yaml"
COLOURS = {"supported": "green", "refuted": "red", "undecided": "yellow"}
CAPTION = (
    "difference: mean over seeds of the arm less the other, 95 % interval by bootstrap over seeds (then questions, "
    "where these are kept). p: exact sign flips (steps to a level: log-rank), * adjusted by Holm over the study's "
    "primaries; others are exploratory and not adjusted. smallest found: with power .8 by as many seeds, given their "
    "spread. A difference shown to be smaller than what was wanted refutes a prediction."
)


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 when the table was printed, 2 for bad input."""
    asked = _parser().parse_args(arguments)
    try:
        found = collect(asked.results, asked.predictions, asked.studies)
        records.write(found, asked.results / "verdicts.parquet", VERDICTS)
    except (ValueError, OSError) as error:
        print(f"verdicts: {error}", file=sys.stderr)
        return 2
    console = Console()
    console.width = max(console.width, 200)
    console.print(table(found))
    counts = found["verdict"].value_counts()
    console.print(", ".join(f"{counts.get(v, 0)} {v}" for v in COLOURS) + f": {asked.results / 'verdicts.parquet'}")
    return 0


def collect(results: Path, path: Path, studies: list[str]) -> pd.DataFrame:
    """Verdicts of every prediction whose study has results, of the named studies or of all. ValueError for what cannot
    be read, and where nothing was measured."""
    predictions = read_predictions(path)
    known = sorted({p.study for p in predictions})
    for name in studies:
        if name not in known:
            raise ValueError(f"{name}: wanted a study that has predictions, {', '.join(known) or 'none'}; see {path}")
    there = [s for s in studies or known if (results / s / records.FILE).exists() or studies]
    rows = [row for study in there for row in _of(results / study, [p for p in predictions if p.study == study])]
    if not rows:
        raise ValueError(f"{results}: wanted rows of two seeds or more of a study with predictions, got none; type "
                         "python experiments/study.py study=regimes workers=2")  # fmt: skip
    return records.table(rows, VERDICTS)


def _of(folder: Path, predictions: list[Prediction]) -> list[dict[str, object]]:
    rows = records.read(folder, records.STUDY)
    questions = records.read(folder / "questions.parquet", QUESTIONS)
    try:
        recorded = json.loads((folder / "manifest.json").read_text())["predictions"]
    except (ValueError, KeyError, OSError):
        raise ValueError(f"{folder}/manifest.json: wanted the manifest of a study, got a damaged file") from None
    found = verdicts(predictions, rows, questions)
    by_id = {p.id: p for p in predictions}
    for row in found:
        before = recorded.get(row["id"])
        now = by_id[str(row["id"])].fingerprint()
        row["note"] = "written after the data" if before is None else "" if before == now else "edited after the data"
    return found


def table(found: pd.DataFrame) -> Table:
    """A line for every prediction."""
    out = Table(title="Verdicts", title_justify="left", caption=CAPTION, caption_justify="left")
    for name in ("", "study", "claim", "outcome", "seeds", "wanted", "difference", "p", "smallest found", "verdict"):
        out.add_column(name, justify="left" if name in ("", "study", "claim", "outcome", "verdict") else "right")
    signs = {"higher": ">", "lower": "< -", "equal": "within ±"}
    for row in found.itertuples():
        p = f"{row.p_holm:.3f}*" if row.primary else f"{row.p:.3f}"
        out.add_row(row.id, f"{row.study}\n{row.condition}", row.claim, f"{row.outcome}\n{row.arm} - {row.other}",
                    str(row.seeds), f"{signs[str(row.direction)]}{row.threshold:g}",
                    f"{row.difference:.3g}\n({row.low:.3g} to {row.high:.3g})", p, f"{row.detectable:.2g}",
                    f"[{COLOURS[str(row.verdict)]}]{row.verdict}[/]" + f"\n{row.note}" * bool(row.note))  # fmt: skip
    return out


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What the studies say of the predictions.",
                                     epilog="example: python experiments/verdicts.py regimes twin")  # fmt: skip
    parser.add_argument("studies", nargs="*", metavar="STUDY", help="studies, all that have results unless named")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="FOLDER", help="results/")
    parser.add_argument("--predictions", type=Path, default=PREDICTIONS, metavar="FILE", help="predictions.yaml")
    return parser


if __name__ == "__main__":
    sys.exit(main())

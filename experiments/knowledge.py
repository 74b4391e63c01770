"""Question: what does a corpus ask of a learner, before any training? `python experiments/knowledge.py corpus=arithmetic`

Cost: under 30 s on two cores, no GPU, no training. Measures K(c) by law of contexts and mask rate with the exact
oracle, how often contexts come back, and what the null theory predicts that learning them costs. See --help.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__" and not sys.path[0].endswith("site-packages"):
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # `experiments` is a package of this folder

from experiments.cli import require_place
from experiments.presets import laws

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from ablate.survey import Survey

NOTHING = "–"


def job(survey: Survey) -> None:
    """Measures one corpus, writes rows and figures, prints the table and where everything lies."""
    from rich.console import Console

    from ablate import records
    from ablate.survey import measure
    from figures import candidates_by_law, learning_cost, style

    console, folder = Console(), Path(survey.out)
    rows = records.table(measure(survey, laws()), records.SURVEY)
    folder.mkdir(parents=True, exist_ok=True)
    records.write(rows, folder / records.FILE, records.SURVEY)
    drawn = {"candidates_by_law": candidates_by_law.draw(rows), "learning_cost": learning_cost.draw(rows)}
    paths = [path for name, figure in drawn.items() for path in style.save(figure, folder / name)]
    shown = table(rows)
    console.width = max(console.width, 120)  # a line that the terminal wraps is ugly, a number cut short is lost
    console.print(shown)
    for path in (folder / records.FILE, *paths):
        console.print(f"  {path}", soft_wrap=True, highlight=False)


def check(asked: list[Survey]) -> list[Survey]:
    """Surveys with their folders. Raises ValueError for a folder that cannot be written, or is asked for twice."""
    named = [
        survey if survey.out else dataclasses.replace(survey, out=f"runs/knowledge-{survey.name}") for survey in asked
    ]
    for survey in named:
        require_place(Path(survey.out), "out")
        if [other.out for other in named].count(survey.out) > 1:
            raise ValueError(f"out={survey.out}: wanted a folder for each survey, got two for it; leave out= out")
    return named


def table(rows: pd.DataFrame) -> Table:
    """A line a law: K_1 and P(K=1) of all tokens and of answers, contexts and how far they reach, predicted costs."""
    from figures.laws import ordered
    from rich.table import Table

    first = rows.iloc[0]
    out = Table(
        title=f"{first['corpus']}, {first['domain']} domain, {first['split']} split: contexts by law, as weighted in "
        "the loss",
        caption="canonical: different contexts among the questions, after deleting what does not matter; unseen: "
        "Good-Turing share of the law not among them. cost: bits a token that a table pays after as many questions, "
        "in contexts of its own law; in brackets, times AR's.",
    )
    columns = ["law", "K_1", "P(K=1)", "K_1 answers", "P(K=1)", "canonical", "unseen", "cost, C(c) known",
               "cost, whole vocabulary", "AR answers met"]  # fmt: skip
    for i, name in enumerate(columns):
        out.add_column(name, justify="right" if i else "left")
    for law in ordered(rows):
        value = _reader(rows, law)
        out.add_row(
            law,
            *(
                f"{value(metric, asked, weight='loss'):.2f}"
                for asked in ("all", "answers")
                for metric in ("k1", "certain")
            ),
            f"{value('canonical_contexts', 'all'):.0f}",
            f"{value('canonical_unseen', 'all'):.2f}",
            *(_cost(rows, law, metric) for metric in ("cost_known", "cost_vocabulary")),
            f"{value('coverage', 'answers', infer='AR'):.2f}",
        )
    return out

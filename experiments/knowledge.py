"""Question: what does a corpus ask of a learner, before any training? `python experiments/knowledge.py corpus=facts`

Cost: about 25 s on two cores for arithmetic, a minute or more for noise and long traces; no GPU, no training. Measures
K(c) by context sampler and mask rate with the exact oracle, how often contexts come back, and what the null theory
predicts that learning them costs. See --help.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import yaml

from ablate.core.storage import WHERE, describe
from ablate.core.validation import UsageError
from experiments.cli.command import Command
from experiments.cli.entry import main
from experiments.cli.help_text import groups, keys
from experiments.cli.places import require_place
from experiments.presets.corpus_presets import context_samplers

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from ablate.analysis.corpus_survey import Survey

NOTHING = "–"
CONFIG = "config.yaml"


def survey_help() -> str:
    """The same of the survey."""
    from ablate.analysis.corpus_survey import Survey

    lines = [
        "What a corpus asks before any training: K(c) by context sampler, visits, predicted cost.",
        "",
    ]
    lines += ["  python experiments/knowledge.py [corpus=NAME] [key=value ...]", ""]
    lines += [*groups("corpus"), keys(Survey)]
    lines += [
        "Every field of a config is a key too: corpus.digits=8  corpus.split=test  thresholds.reasoning=2",
        "-m corpus=a,b   every combination, one after the other",
        "--cfg job       print the configuration and stop",
    ]
    return "\n".join(lines)


def job(survey: Survey) -> None:
    """Measures one corpus, writes rows and figures, prints the table and where everything lies."""
    from ablate.analysis.corpus_survey import measure
    from ablate.core import records
    from ablate.core.terminal import terminal
    from ablate.training.run_files import write_config
    from figures.contexts import candidates_by_sampler, learning_cost
    from figures.drawing import style

    console, folder = terminal(), survey.folder
    rows = records.table(sized(survey, measure(survey, context_samplers())), records.SURVEY)
    write_config(survey)  # first: what is interrupted from here on is known again
    records.write(rows, folder / records.FILE, records.SURVEY)
    drawn = {"candidates_by_sampler": candidates_by_sampler.draw(rows), "learning_cost": learning_cost.draw(rows)}
    paths = [path for name, figure in drawn.items() for path in style.save(figure, folder / name)]
    shown = table(rows)
    console.width = max(console.width, 120)  # a line that the terminal wraps is ugly, a number cut short is lost
    console.print(shown)
    for path in (*paths, folder / records.FILE, folder / CONFIG):
        console.print(f"  {path}", soft_wrap=True, highlight=False)


def sized(survey: Survey, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, and for every sampler the number of sequences that it was drawn on: a figure's caption says it."""
    of_sampler = {row["context_sampler"]: row for row in rows}
    about = {"block_size": None, "rate": None, "asked": "", "weight": "", "infer": "", "metric": "sequences"}
    return [*rows, *({**row, **about, "value": float(survey.rows)} for row in of_sampler.values())]


def check(asked: list[Survey]) -> list[Survey]:
    """The surveys, where each has a folder to write to. Raises UsageError where one cannot be written, is asked for
    twice, or holds anything but an earlier run of the same survey."""
    folders = [survey.folder for survey in asked]
    for survey, folder in zip(asked, folders, strict=True):
        require_place(folder, "out")
        if folders.count(folder) > 1:
            raise UsageError(
                f"{folder}: wanted a folder for each survey, got two for it; name each value once and leave out= out"
            )
        if folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir()) and not _holds(survey):
            raise UsageError(
                f"out={folder}: wanted a new folder or that of the same survey, got other files; type out=PATH"
            )
    return asked


def _holds(survey: Survey) -> bool:
    """Does its folder hold this very survey?"""
    try:
        held = yaml.safe_load((survey.folder / CONFIG).read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return False
    kept = [
        {k: v for k, v in config.items() if k not in WHERE} if isinstance(config, dict) else None
        for config in (held, describe(survey))
    ]
    return kept[0] == kept[1]


def table(rows: pd.DataFrame) -> Table:
    """A line a sampler: K_1 and P(K=1) of all tokens and of answers, contexts and their reach, predicted costs."""
    from rich.table import Table

    from ablate.core.records import INFERENCE
    from figures.drawing.sampler_labels import about, label, ordered

    out = Table(
        title=f"{about(rows)}: contexts by sampler, as weighted in the loss",
        title_justify="left",
        show_edge=False,
        pad_edge=False,
        caption="K_1: 2^entropy, valid tokens; P(K=1): only one is valid; of all scored tokens, then of answers. "
        "contexts: different ones among the questions, after deleting what does not matter; unseen: share of the "
        "sampler not among them (Good-Turing). cost: bits a token, all tokens, that a table pays which has "
        "learned from one half of the questions and is asked the other, of the same sampler; in brackets, times AR's. "
        "AR met: share of AR's answers whose context the sampler's own half shows.",
        caption_justify="left",
    )
    columns = [
        "context_sampler",
        "K_1\nall",
        "P(K=1)\nall",
        "K_1\nanswers",
        "P(K=1)\nanswers",
        "contexts\nall",
        "unseen\nall",
        "cost, C(c)\nknown",
        "cost, whole\nvocabulary",
        "AR met\nanswers",
    ]
    for i, name in enumerate(columns):
        out.add_column(name, justify="right" if i else "left", no_wrap=True)
    for sampler in ordered(rows):
        value = _reader(rows, sampler)
        out.add_row(
            label(sampler),
            *(_text(value(metric, "all", weight="loss"), 2) for metric in ("k1", "certain")),
            *(_text(value(metric, "answers", weight="loss"), 2) for metric in ("k1", "certain")),
            _text(value("canonical_contexts", "all"), 0),
            _text(value("canonical_unseen", "all"), 2),
            *(_cost(rows, sampler, metric) for metric in ("cost_known", "cost_vocabulary")),
            _text(value("coverage", "answers", infer=INFERENCE), 2),
        )
    return out


def _reader(rows: pd.DataFrame, sampler: str) -> Callable[..., float]:
    """value(metric, asked, weight="", infer="") of one sampler; nan where there is no row."""
    of_sampler = rows[rows["context_sampler"] == sampler]
    keys = zip(*(of_sampler[name] for name in ("metric", "asked", "weight", "infer")), strict=True)
    known = dict(zip(keys, of_sampler["value"], strict=True))
    return lambda metric, asked, weight="", infer="": known.get((metric, asked, weight, infer), math.nan)


def _cost(rows: pd.DataFrame, sampler: str, metric: str) -> str:
    """What all tokens of a sampler cost in its own contexts, bits a token, and in brackets how many times AR's cost."""
    from ablate.core.records import INFERENCE
    from figures.drawing.sampler_labels import times

    paid, reference = (_reader(rows, name)(metric, "all", infer=name) for name in (sampler, INFERENCE))
    ratio = times(paid, reference)
    return f"{_text(paid, 3)} ({ratio})" if ratio else _text(paid, 3)


def _text(value: float, digits: int) -> str:
    return NOTHING if math.isnan(value) else f"{value:.{digits}f}"


def _survey() -> type:
    from ablate.analysis.corpus_survey import Survey

    return Survey


SURVEY = Command("knowledge.py", _survey, ("corpus",), survey_help, check)

if __name__ == "__main__":
    main(SURVEY, job)

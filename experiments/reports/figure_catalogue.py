"""Figures by name: from which committed rows each is drawn, how these are read, and what to type to make them."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ablate.core import records
from ablate.studies.outcomes import Frame, How, Outcome
from ablate.studies.predictions import VERDICTS, Prediction
from ablate.studies.predictions_yaml import read_predictions
from experiments.presets.predictions_file import PREDICTIONS
from experiments.reports.atlas_table import PREDICTORS, WORLDS
from figures.contexts import (
    atlas_points,
    candidates_by_sampler,
    learning_cost,
    tabular_and_network,
    visits_and_mismatch,
)
from figures.drawing import sampler_labels
from figures.drawing.figure_rows import Drawing, Rows
from figures.learning import (
    after_switch,
    decoding_paces,
    dose_response,
    excess_bits,
    outcomes_by_arm,
    parameter_importance,
    prediction_verdicts,
    sweep_map,
    training_dynamics,
    warmup_dynamics,
)
from figures.noise import clean_context, empty_blocks
from figures.paper import paper_training_dynamics, paper_warmup

OUTCOMES = {
    "Excess bits, block 1,\nmean over training": Outcome(),
    "Excess bits, random masks,\nmean over training": Outcome(contexts="random", block_size=None, split="train"),
    "Bits per byte, AR contexts,\nmean over training": Outcome("bits_per_byte", "ar", None),
    "Bits per byte, random masks,\nmean over training": Outcome("bits_per_byte", "random", None),
    "Score at block size 1,\nat the end": Outcome("score", "decode", 1, how=How.end),
    "Score at block size 32,\nat the end": Outcome("score", "decode", 32, how=How.end),
}


def read_study(path: Path) -> pd.DataFrame:
    """Rows of a study. A figure tells its arms apart as it does regimes."""
    rows = records.read(path, records.STUDY)
    return rows.assign(regime=rows["arm"])


def read_runs(paths: list[str]) -> pd.DataFrame:
    """Rows of runs, which are of no study and no condition, or of studies. ValueError for what cannot be read."""
    studies = [path for path in paths if "arm" in _columns(Path(path))]
    runs = [path for path in paths if path not in studies]
    frames = [read_study(Path(path)) for path in studies]
    if runs:
        rows = records.gather(runs)
        frames.append(rows.assign(study="", condition="", arm=rows["regime"]))
    return pd.concat(frames, ignore_index=True)


def _columns(path: Path) -> list[str]:
    """Names of the columns of a parquet file or of the records in a folder; none where it cannot be read."""
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.read_schema(path / records.FILE if path.is_dir() else path).names
    except (pyarrow.ArrowException, OSError):
        return []


def read_survey(path: Path) -> pd.DataFrame:
    """Rows of a survey; shown: asked tokens that a table of the null theory has learned from."""
    rows = records.read(path, records.SURVEY)
    return rows.assign(shown=sampler_labels.questions_of(rows) // 2)


def read_verdicts(path: Path) -> pd.DataFrame:
    """Verdicts; the exploratory ones are a figure of their own."""
    rows = records.read(path, VERDICTS)
    return rows.assign(kind=np.where(rows["primary"], "", "exploratory"))


def outcomes_of(study: str) -> dict[str, Outcome]:
    """Those of the study's primary predictions, then what is looked at in every study; by what an axis says of them."""
    names = {outcome: name for name, outcome in OUTCOMES.items()}
    asked = [p.outcome for p in _predictions() if p.study == study and p.primary]
    own = {names.get(outcome, outcome.words.capitalize().replace(", ", ",\n")): outcome for outcome in asked}
    return own | OUTCOMES


@lru_cache(maxsize=1)
def _predictions() -> list[Prediction]:
    return read_predictions(PREDICTIONS)


def draw_outcomes(rows: Frame) -> Figure:
    """What every arm of a study reached: a value per arm, seed and outcome that was measured."""
    outcomes = {study: outcomes_of(study) for study in rows["study"].unique()}
    found = [
        {"study": study, "condition": condition, "arm": arm, "seed": seed, "outcome": name, "value": value}
        for (study, condition, arm, seed), run in rows.groupby(["study", "condition", "arm", "seed"])
        for name, outcome in outcomes[study].items()
        if (value := outcome.of(run)) is not None
    ]
    return outcomes_by_arm.draw(pd.DataFrame(found, columns=outcomes_by_arm.COLUMNS))


def draw_training_dynamics(rows: pd.DataFrame) -> Figure:
    """Score below the paper's own curves, or bits per byte where the runs read real text."""
    metric = training_dynamics.headline(rows)
    return paper_training_dynamics.beside(rows) if metric == "score" else training_dynamics.draw(rows, metric=metric)


def study(files: str, *apart: str, example: str = "", **has: str) -> Rows:
    make = f"python experiments/study.py study={example or files}"
    return Rows(f"{files}/{records.FILE}", read_study, make, apart or ("study", "condition"), has, "runs")


def sweep(file: str, columns: dict[str, str], known: str) -> Rows:
    """Rows without a value in the column `known` are none: there were too few trials."""
    make = "python experiments/sweep.py regime=ar_to_block sweep=block_and_warmup"
    return Rows(f"*/{file}.parquet", lambda path: records.read(path, columns).dropna(subset=known), make, ("sweep",))


def counted(file: str) -> Rows:
    return Rows(f"no_signal/{file}.csv", pd.read_csv, "python experiments/no_signal.py --out results/no_signal")


def surveyed(folder: str, words: str, *apart: str) -> Rows:
    world = "corpus=trace corpus.operations=5 corpus.new_operators=12"
    make = f"python experiments/knowledge.py {world} {words}out=results/{folder}"
    return Rows(f"{folder.split('/')[0]}/*/{records.FILE}", read_survey, make, apart, option="survey" if apart else "")


KNOWN, TABLES = surveyed("knowledge/trace", "", "corpus"), surveyed("null_theory/1024", "questions=1024 ")
PACES = Rows(
    "decoding/evaluation.parquet",
    lambda path: records.read(path, records.EVALUATION),
    "python experiments/evaluate.py runs/NAME oracle=true out=results/decoding",
    ("corpus",),
)


def of_atlas(file: str, columns: dict[str, str]) -> Rows:
    return Rows(f"atlas/{file}.parquet", lambda path: records.read(path, columns), "python experiments/atlas.py")


JUDGED = Rows("verdicts.parquet", read_verdicts, "python experiments/verdicts.py", ("kind",))
FIGURES = {
    "paper_training_dynamics": Drawing(paper_training_dynamics.draw),
    "paper_warmup": Drawing(paper_warmup.draw),
    "training_dynamics": Drawing(draw_training_dynamics, study("regimes*", example="regimes")),
    "excess_bits": Drawing(excess_bits.draw, study("regimes", metric="excess_bits")),
    "after_switch": Drawing(after_switch.draw, study("order", "study", metric="excess_bits", condition=r".+_\d+x")),
    "dose_response": Drawing(
        dose_response.draw,
        study("*", "study", example="dial_choices", metric="excess_bits", study="dial_.+|split|stability"),
    ),
    "warmup_stability": Drawing(paper_warmup.beside, study("warmup", metric="grad_norm", regime="none")),
    "warmup_ingredients": Drawing(warmup_dynamics.draw, study("warmup", metric="grad_norm", regime="none")),
    "outcomes_by_arm": Drawing(draw_outcomes, study("*", "study", example="regimes", metric="excess_bits")),
    "no_signal": Drawing(empty_blocks.draw, counted("no_signal")),
    "clean_share": Drawing(clean_context.draw, counted("clean_share")),
    "candidates_by_sampler": Drawing(candidates_by_sampler.draw, KNOWN),
    "visits_and_mismatch": Drawing(visits_and_mismatch.draw, KNOWN),
    "learning_cost": Drawing(learning_cost.draw, KNOWN),
    "null_theory": Drawing(tabular_and_network.draw, study("regimes", metric="excess_bits", corpus="trace"), TABLES),
    "atlas": Drawing(atlas_points.draw, of_atlas("worlds", WORLDS), of_atlas("predictors", PREDICTORS)),
    "decoding_paces": Drawing(decoding_paces.draw, PACES),
    "sweep_map": Drawing(sweep_map.draw, sweep("trials", sweep_map.COLUMNS, "sweep")),
    "importance": Drawing(parameter_importance.draw, sweep("importance", parameter_importance.COLUMNS, "importance")),
    "verdicts": Drawing(prediction_verdicts.draw, JUDGED),
}

"""A planted null: how often the test of a prediction errs where there is nothing to find, on differences like those
measured."""

from __future__ import annotations

import dataclasses

from scipy import stats

from ablate.analysis import statistics
from ablate.analysis.statistics import ALPHA, Direction
from ablate.core.rng import generator
from ablate.studies.outcomes import Frame, How
from ablate.studies.predictions import Prediction, paired

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class PlantedNull:
    """Of a prediction: errors in `draws` studies of as many seeds, drawn with nothing to find; their share, and its
    exact 95 % interval (Clopper & Pearson, 1934)."""

    id: str
    study: str
    condition: str
    seeds: int
    draws: int
    errors: int
    share: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Is the level that is claimed within the interval, or above it?"""
        return self.low <= ALPHA


def planted_null(prediction: Prediction, rows: Frame, draws: int, seed: int = 0) -> PlantedNull | None:
    """Draws seeds with replacement from the measured differences less their mean, so that their spread and skewness are
    those of the study and their mean is 0; of a predicted equality, its threshold. An error: p of that test at or below
    .05. None for a prediction that was measured on fewer than two seeds, and for steps to a level, which are censored.

    rows: as for `verdicts`. Raises ValueError for fewer than one draw.
    """
    if draws < 1:
        raise ValueError(f"draws: wanted 1 or more, got {draws}; type 400")
    pair = paired(prediction, rows)
    if len(pair) < 2 or prediction.outcome.how is How.steps_to:
        return None
    differences = (pair["arm"] - pair["other"]).to_numpy()
    equal = prediction.direction is Direction.equal
    centred = differences - differences.mean() + (prediction.threshold if equal else 0.0)
    picks = generator(seed, f"planted null of {prediction.id}").integers(len(centred), size=(draws, len(centred)))
    test = (lambda d: statistics.equivalence(d, prediction.threshold)) if equal else statistics.sign_flip
    errors = sum(test(centred[pick]) <= ALPHA for pick in picks)
    within = stats.binomtest(errors, draws).proportion_ci(CONFIDENCE)
    where = prediction.id, prediction.study, prediction.condition
    return PlantedNull(*where, len(pair), draws, errors, errors / draws, within.low, within.high)

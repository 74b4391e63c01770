"""Predictions, written before the data, and the verdicts that the rows of a study give on them."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ablate.analysis import statistics
from ablate.analysis.statistics import Direction, Verdict
from ablate.core.storage import LATER, digest
from ablate.core.validation import require
from ablate.studies.outcomes import Frame, How, Outcome
from ablate.studies.trends import Trend, changes

# A verdict's row. difference, low, high: arm less other, 95 % interval. p: of a difference of 0. p_equal: of one of the
# threshold or more. p_holm: of a primary the one that would support it, adjusted over all primaries of the study.
# detectable: smallest mean difference that as many seeds find with power .8, at the level of the family's first step.
# registered: fingerprint of the prediction as it was when its study began, "" if it was not there yet.
VERDICTS = {
    "id": "str",
    "study": "str",
    "condition": "str",
    "claim": "str",
    "source": "str",
    "primary": "bool",
    "outcome": "str",
    "arm": "str",
    "other": "str",
    "direction": "str",
    "threshold": "float64",
    "seeds": "int64",
    "difference": "float64",
    "low": "float64",
    "high": "float64",
    "p": "float64",
    "p_equal": "float64",
    "p_holm": "float64",
    "detectable": "float64",
    "verdict": "str",
    "note": "str",
    "registered": "str",
}
ORACLE = "oracle"  # as the other arm: the exact posterior, whose outcome is 0
FROM_THE_ORACLE = ("excess_bits", "spurious_binding")  # metrics that are distances from it
NUMBERS = [name for name, dtype in VERDICTS.items() if dtype == "float64" and name != "threshold"]


@dataclass(frozen=True)
class Prediction:
    """What is expected of one arm against another or the oracle, or of one over a dial, and from where.

    direction: of the arm's outcome less the other's, which is 0 for `oracle`; with a trend, of its change from a dial's
    first setting to the last, `condition` being the dial (see `trends.changes`) and `other` empty. threshold: the
    smallest difference that would matter, in units of the outcome. primary: one of the study's family, adjusted for
    each other; others are exploratory. Raises ValueError for a threshold that is not positive, an arm compared with
    itself, a trend of what is censored, and an outcome that is no distance from the oracle.
    """

    id: str
    study: str
    condition: str
    claim: str
    source: str
    arm: str
    other: str
    direction: Direction
    threshold: float
    outcome: Outcome = field(default_factory=Outcome)
    primary: bool = False
    trend: str = field(default="", metadata=LATER)

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", Direction(self.direction))
        key, wanted = f"{self.id}.threshold", "the smallest difference that matters, above 0"
        require(key, self.threshold, self.threshold > 0, wanted, 0.1)
        if self.arm == self.other:
            raise ValueError(f"{self.id}: wanted two arms, got {self.arm} twice; name another one in {self.id}.other")
        if self.other == ORACLE and (self.outcome.metric not in FROM_THE_ORACLE or self.outcome.how is How.steps_to):
            raise ValueError(
                f"{self.id}: wanted a distance from the oracle, {' or '.join(FROM_THE_ORACLE)}, and not steps, got "
                f"{self.outcome.words}; name another arm in {self.id}.other"
            )
        if self.trend:
            object.__setattr__(self, "trend", Trend(self.trend))
            if self.other or self.outcome.how is How.steps_to:
                raise ValueError(
                    f"{self.id}: wanted a trend of one arm's measured outcome, got other={self.other!r}, "
                    f"how={self.outcome.how}; type other: '' and another outcome.how"
                )

    def fingerprint(self) -> str:
        """Hash of all that it says; what an outcome could not say when it was written counts where it is said."""
        said = dataclasses.asdict(self)
        for kind, part in ((Prediction, said), (Outcome, said["outcome"])):
            for f in dataclasses.fields(kind):
                if f.metadata.get("later") and part[f.name] == f.default:
                    del part[f.name]
        return digest(said)


def verdicts(predictions: Iterable[Prediction], rows: Frame, questions: Frame) -> list[dict[str, object]]:
    """A row of VERDICTS for every prediction whose two arms were measured on two seeds or more, and for every primary
    of a study that has any rows; `note` says "not measured" or nothing.

    rows: of studies, columns `records.STUDY`. questions: columns `outcomes.QUESTIONS`; where they hold the outcome, the
    interval draws seeds, then questions. Holm's family are all primaries of a study, p = 1 for those not measured.
    """
    there = set(rows["study"])
    asked = [p for p in predictions if p.study in there]
    family = Counter(p.study for p in asked if p.primary)
    found = [_row(p, paired(p, rows), questions, family[p.study] if p.primary else 1) for p in asked]
    for study in family:
        mine = [row for row in found if row["study"] == study and row["primary"]]
        for row, p in zip(mine, statistics.holm([_own(row) for row in mine]), strict=True):
            row["p_holm"] = p
    for row in found:
        row["verdict"] = _verdict(row, family[str(row["study"])] if row["primary"] else 1)
    return [row for row in found if row["seeds"] or row["primary"]]


def _own(row: dict[str, Any]) -> float:
    """p of the claim itself: of a difference, or of there being none; 1 where nothing was measured."""
    if not row["seeds"]:
        return 1.0
    return row["p_equal"] if row["direction"] == Direction.equal else row["p"]


def _verdict(row: dict[str, Any], family: int) -> str:
    if not row["seeds"]:
        return str(Verdict.undecided)
    equal = row["direction"] == Direction.equal
    adjusted = row["p_holm"] if row["primary"] else _own(row)
    different, negligible = (row["p"], adjusted) if equal else (adjusted, row["p_equal"])
    return str(
        statistics.judge(row["direction"], row["difference"] > 0, different, negligible, statistics.ALPHA / family)
    )


def paired(prediction: Prediction, rows: Frame) -> Frame:
    """The outcome in both arms, columns arm, other, arm_reached and other_reached, by seed; seeds that have both. The
    oracle's is 0, and so is what a trend stands beside."""
    mine = rows[(rows["study"] == prediction.study) & rows["arm"].isin([prediction.arm, prediction.other])]
    if prediction.trend:
        _require_one_run(prediction, mine)
        return _over_dial(prediction, mine)
    rows = mine[mine["condition"] == prediction.condition]
    _require_one_run(prediction, rows)
    arms = {"arm": prediction.arm, "other": prediction.other}
    curves, found = prediction.outcome.curve(rows), dict[str, dict[int, object]]()
    for side, name in arms.items():
        for seed, curve in curves[curves["arm"] == name].groupby("seed"):
            found.setdefault(side, {})[int(str(seed))] = prediction.outcome.of_curve(curve)
            found.setdefault(f"{side}_reached", {})[int(str(seed))] = prediction.outcome.reached(curve)
    if prediction.other == ORACLE:
        seeds = found.get("arm", {})
        found |= {"other": dict.fromkeys(seeds, 0.0), "other_reached": dict.fromkeys(seeds, False)}
    return (
        pd.DataFrame(found, columns=["arm", "other", "arm_reached", "other_reached"])
        .dropna()
        .astype({"arm": float, "other": float})
    )


def _require_one_run(prediction: Prediction, rows: Frame) -> None:
    for (condition, name, seed), runs in rows.groupby(["condition", "arm", "seed"])["run"].unique().items():
        if len(runs) > 1:
            raise ValueError(
                f"study {prediction.study}, {condition}/{name}, seed {seed}: wanted one "
                f"run, got {', '.join(runs)}; keep the rows of one"
            )


def _over_dial(prediction: Prediction, rows: Frame) -> Frame:
    found = pd.Series(changes(rows, prediction.condition, Trend(prediction.trend), prediction.outcome), dtype=float)
    return pd.DataFrame({"arm": found, "other": 0.0, "arm_reached": False, "other_reached": False})


def _row(prediction: Prediction, pair: Frame, questions: Frame, family: int) -> dict[str, object]:
    said = {
        "id": prediction.id,
        "study": prediction.study,
        "condition": prediction.condition,
        "claim": prediction.claim,
        "source": prediction.source,
        "primary": prediction.primary,
        "outcome": prediction.outcome.words + f", change over {prediction.trend}s" * bool(prediction.trend),
        "arm": prediction.arm,
        "other": prediction.other,
        "direction": str(prediction.direction),
        "threshold": float(prediction.threshold),
        "seeds": len(pair),
        "verdict": "",
        "note": "",
        "registered": "",
        **dict.fromkeys(NUMBERS, math.nan),
    }
    if len(pair) < 2:
        return {**said, "seeds": 0, "note": "not measured"}
    differences = (pair["arm"] - pair["other"]).to_numpy()
    between = statistics.bootstrap(_by_question(prediction, pair, questions) or [[d] for d in differences])
    measured = {"difference": float(differences.mean()), "low": between.low, "high": between.high}
    if prediction.outcome.how is How.steps_to:  # censored: neither their spread nor their equality is known
        n, sides = len(pair), ("arm", "other")
        scores = statistics.log_rank_scores(
            [x for side in sides for x in pair[side]], [x for side in sides for x in pair[f"{side}_reached"]]
        )
        return {**said, **measured, "p": statistics.sign_flip((scores[:n] - scores[n:]).tolist()), "p_equal": 1.0}
    effect = statistics.detectable(len(differences), alpha=statistics.ALPHA / family)
    return {
        **said,
        **measured,
        "p": statistics.sign_flip(differences),
        "p_equal": statistics.equivalence(differences, prediction.threshold),
        "detectable": effect * float(np.std(differences, ddof=1)),
    }


def _by_question(prediction: Prediction, pair: Frame, questions: Frame) -> list[list[float]]:
    """Of every seed the differences question by question; nothing where the outcome is not kept so."""
    if prediction.outcome != Outcome() or prediction.trend:
        return []
    there = questions[(questions["study"] == prediction.study) & (questions["condition"] == prediction.condition)]
    table = there.pivot_table(index=["seed", "question"], columns="arm", values="value")
    if not {prediction.arm, prediction.other} <= set(table):
        return []
    differences = (table[prediction.arm] - table[prediction.other]).dropna()
    parts = [differences.xs(seed, level="seed").tolist() for seed in pair.index if seed in differences.index.levels[0]]
    return parts if len(parts) == len(pair) and all(parts) else []

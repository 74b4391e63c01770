"""What a sweep leaves in results/: a row a trial and seed, the importance of its parameters, a manifest."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from ablate.core import records
from ablate.core.manifest import MANIFEST, load, replace
from ablate.core.provenance import description
from ablate.core.rng import generator
from ablate.core.storage import Damaged
from experiments.sweep_runner.trial_storage import identity, place, standing

if TYPE_CHECKING:
    from experiments.sweep_runner.search import Search

STATES = {TrialState.COMPLETE: "complete", TrialState.FAIL: "failed", TrialState.PRUNED: "pruned"}
IMPORTANCE = {"sweep": "str", "parameter": "str", "importance": "float64", "low": "float64", "high": "float64"}
RESAMPLES = 200
ENOUGH = 10  # complete trials for an importance
GOOD = 0.25  # share of the trials that count as good
LOST = "no reason was kept"


def keep(search: Search, study: optuna.Study) -> None:
    """Writes the three files; each is whole or as it was, and vouched for by the manifest."""
    everyone = study.get_trials(deepcopy=False)
    trials = standing(everyone)
    files = {
        "trials.parquet": records.writer(table(search, trials), columns(search)),
        "importance.parquet": records.writer(importance(search, trials), IMPORTANCE),
    }
    if (search.folder / MANIFEST).exists():
        try:
            load(search.folder / MANIFEST, {})
        except Damaged as damage:
            print(f"{damage}; results are written anew from the trials", file=sys.stderr)
    again = sorted({t.number for t in everyone} - {t.number for t in trials})
    replace(search.folder, files, manifest(search, trials, again))


def columns(search: Search) -> dict[str, str]:
    """Of the trials. value: of the first objective; each further one has a column of its own name."""
    return {
        **{"sweep": "str", "trial": "int64", "seed": "int64", "state": "str", "value": "float64"},
        **{parameter.name: parameter.dtype for parameter in search.sweep.parameters},
        **dict.fromkeys(search.objectives[1:], "float64"),
    }


def table(search: Search, trials: list[FrozenTrial]) -> pd.DataFrame:
    """A row a finished trial and seed; the value of one that is not complete is missing."""
    rows, names = [], ["value", *search.objectives[1:]]
    for trial in trials:
        if trial.state not in STATES or len(trial.params) < len(search.sweep.parameters):
            continue
        for values, seed in zip(per_seed(search, trial), search.seeds, strict=True):
            rows.append(
                {
                    "sweep": search.title,
                    "trial": trial.number,
                    "seed": seed,
                    "state": STATES[trial.state],
                    **dict(zip(names, values, strict=True)),
                    **trial.params,
                }
            )
    return pd.DataFrame(rows, columns=list(columns(search)))


def per_seed(search: Search, trial: FrozenTrial) -> list[list[float]]:
    """A complete trial's values by seed and objective; nan of others."""
    if trial.state is TrialState.COMPLETE:
        return trial.user_attrs["values"]
    return [[math.nan] * len(search.objectives)] * len(search.seeds)


def importance(search: Search, trials: list[FrozenTrial]) -> pd.DataFrame:
    """How far the good quarter's values of a parameter differ from all trials' (PED-ANOVA; Watanabe et al., 2023), as a
    share of all parameters', with the middle 95 % over resampled trials; missing where trials are too few."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    names = [parameter.name for parameter in search.sweep.parameters]
    nothing = dict.fromkeys(names, math.nan)
    whole, resampled = nothing, [nothing]
    if len(complete) >= ENOUGH:
        whole = _shares(complete, names)
        n, random = len(complete), generator(0, f"sweep/{search.title}/importance")
        draws = random.integers(n, size=(RESAMPLES, n))
        resampled = [_shares([complete[i] for i in draw], names) for draw in draws]
    rows = []
    for name in names:
        low, high = np.quantile([shares[name] for shares in resampled], [0.025, 0.975])
        rows.append({"sweep": search.title, "parameter": name, "importance": whole[name], "low": low, "high": high})
    return pd.DataFrame(rows, columns=list(IMPORTANCE))


def _shares(trials: list[FrozenTrial], names: list[str]) -> dict[str, float]:
    """Of the first objective."""
    study = optuna.create_study()
    study.add_trials(
        [optuna.create_trial(params=t.params, distributions=t.distributions, value=t.values[0]) for t in trials]
    )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=GOOD)
    return optuna.importance.get_param_importances(study, evaluator=evaluator, params=names)


def ranked(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Complete trials, best first; of several objectives those that no other beats in all, by the first objective."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    front = [t for t in complete if len(t.values) == 1 or not any(_beats(o.values, t.values) for o in complete)]
    return sorted(front, key=lambda trial: (trial.values, trial.number))


def _beats(one: list[float], other: list[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def manifest(search: Search, trials: list[FrozenTrial], again: list[int]) -> dict[str, Any]:
    """What was asked, where it is kept, how it ended, and the best trial with its command lines. tried_again: trials
    whose worker died; others stand for them."""
    best = ranked(trials)[:1]
    return {
        "name": search.title,
        "question": search.sweep.question,
        **identity(search),
        "storage": (search.storage or "journal").partition(":")[0],
        "place": place(search),
        "trials": {name: sum(t.state is state for t in trials) for state, name in STATES.items()},
        "failures": {t.number: complaint(t) for t in trials if t.state is TrialState.FAIL},
        "tried_again": again,
        "best": {
            "trial": best[0].number,
            "values": dict(zip(search.objectives, best[0].values, strict=True)),
            "parameters": best[0].params,
            "commands": best[0].user_attrs["commands"],
        }
        if best
        else None,
        "machine": description(),
    }


def complaint(trial: FrozenTrial) -> str:
    return trial.user_attrs.get("complaint", LOST)

"""What the terminal shows of a sweep: before, meanwhile, at the end."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from experiments.sweep_runner.sweep_results import STATES, complaint, per_seed, ranked
from experiments.sweep_runner.trial_storage import place, standing

if TYPE_CHECKING:
    from experiments.sweep_runner.feasible_space import Fitted
    from experiments.sweep_runner.search import Search

SHOWN = 5  # best trials


def announce(fitted: Fitted, console: Console) -> None:
    """What cannot be tried, the question, what is tried and how, and where the trials are kept."""
    search = fitted.search
    for line in fitted.dropped:
        say(console, line)
    say(console, f"{search.title}: {search.sweep.question}")
    for parameter in search.sweep.parameters:
        values = parameter.grid or [f"{parameter.limits[0]:g} to {parameter.limits[1]:g}"]
        say(console, f"  {parameter.name}: {', '.join(map(str, values))}")
    points = "" if search.total == search.trials else f" (the grid's points, not {search.trials})"
    say(
        console,
        f"{search.total} trials{points}, {len(search.seeds)} seed(s) each; sampler {search.sampler}, pruner "
        f"{search.pruner}, {search.workers} worker(s); least {', '.join(search.objectives)}",
    )
    say(console, f"Trials are kept in {place(search)}; the same command goes on where it was stopped.")


def say(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False, markup=False)


def progress(search: Search, trials: list[FrozenTrial]) -> Table:
    """How many trials are how far, what is at work, and the time left."""
    counts = Counter(trial.state for trial in trials)
    done = sum(counts[state] for state in STATES)
    seconds = left(search, trials)
    when = "" if math.isnan(seconds) else f", {seconds / 60:.1f} min left"
    table = Table(title=f"{search.title}: {done} of {search.total} trials done{when}", title_justify="left")
    for name in ("trial", "state", "for", "values"):
        table.add_column(name, no_wrap=name != "values")
    for state, name in STATES.items():
        table.add_row("", name, "", str(counts[state]))
    for trial in trials:
        if trial.state is TrialState.RUNNING and trial.datetime_start is not None:
            now = trial.datetime_start.now(trial.datetime_start.tzinfo)
            table.add_row(str(trial.number), "running", f"{(now - trial.datetime_start).seconds} s", values_of(trial))
    return table


def left(search: Search, trials: list[FrozenTrial]) -> float:
    """Seconds until the last trial ends, by the mean of those that are done; nan before the first."""
    took = [seconds for trial in trials if trial.state.is_finished() and (seconds := took_of(trial)) > 0]
    todo = search.total - sum(trial.state.is_finished() for trial in trials)
    return todo * float(np.mean(took)) / search.workers if took else math.nan


def took_of(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration is not None else 0.0


def values_of(trial: FrozenTrial) -> str:
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in sorted(trial.params.items()))


def story(search: Search, trial: FrozenTrial) -> str:
    """A finished trial in a line."""
    values = (f"{name} {mean_and_spread(search, trial, i)}" for i, name in enumerate(search.objectives))
    end = {
        TrialState.COMPLETE: ", ".join(values),
        TrialState.PRUNED: f"after {trial.last_step} probes",
        TrialState.FAIL: complaint(trial),
    }[trial.state]
    return f"trial {trial.number}: {STATES[trial.state]}, {end}; {took_of(trial):.0f} s; {values_of(trial)}"


def mean_and_spread(search: Search, trial: FrozenTrial, objective: int) -> str:
    """Mean over seeds, and the standard deviation of one seed."""
    values = [seed[objective] for seed in per_seed(search, trial)]
    spread = f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
    return f"{np.mean(values):.4g}{spread}"


def conclude(search: Search, study: Study, died: list[str], console: Console) -> bool:
    """The best trials, the counts, the command that repeats the best. False where workers died before the end, or no
    trial is complete."""
    trials = standing(study.get_trials(deepcopy=False))
    best, counts = ranked(trials), Counter(trial.state for trial in trials)
    front = "best" if len(search.objectives) == 1 else "that no other beats in every objective"
    table = Table(title=f"Trials {front} (mean ± standard deviation over seeds)", title_justify="left")
    for name in ("trial", *search.objectives, *(parameter.name for parameter in search.sweep.parameters)):
        table.add_column(name, justify="right", no_wrap=True)
    for trial in best[:SHOWN]:
        values = (
            f"{v:.4g}" if isinstance(v, float) else str(v)
            for v in (trial.params[parameter.name] for parameter in search.sweep.parameters)
        )
        table.add_row(
            str(trial.number), *(mean_and_spread(search, trial, i) for i in range(len(search.objectives))), *values
        )
    console.width = max(console.width, 110)
    console.print(table)
    say(console, ", ".join(f"{counts[state]} {name}" for state, name in STATES.items()))
    for trial in trials:
        if trial.state is TrialState.FAIL:
            say(console, f"  trial {trial.number} failed: {complaint(trial)}")
    for line in best[0].user_attrs["commands"] if best else []:
        say(console, f"  best: {line}")
    say(console, f"  {search.folder}: trials.parquet, importance.parquet, manifest.json")
    finished = sum(trial.state.is_finished() for trial in trials)
    if finished < search.total:
        say(
            console,
            f"{finished} of {search.total} trials are done; {'; '.join(died) or 'no worker is left'}; "
            "the same command goes on",
        )
    return finished >= search.total and bool(best)

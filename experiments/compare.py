"""Question: which order of objectives ends higher, and when? Command: `python experiments/compare.py runs/A runs/B ...`

Cost: seconds, no GPU. Reads the records of several runs (arms and seeds of one corpus), draws them into one figure in
the layout of the paper's Figure 2, and prints a table with intervals over seeds.
"""

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.table import Table
from scipy import stats

from ablate.core import records
from ablate.core.storage import flat
from ablate.core.terminal import terminal
from ablate.studies.outcomes import LEVEL as THRESHOLD
from ablate.studies.outcomes import last, mean_over_training
from experiments.cli.guard import guarded, refuse
from figures.drawing import arms, style
from figures.learning import excess_bits, training_dynamics

Frame = Any  # a pandas frame or one row of it, whose columns no type checker knows
ARM = {"regime", "seed", "out", "cache"}  # what may differ between the runs of one picture
ASKED = ("budget.grids", "budget.decoding")  # what was asked of them, which their rows say
NOTHING = "–"
CAPTION = (
    f"± half a 95% t-interval over seeds, from {arms.SEEDS_FOR_INTERVAL} seeds on; {NOTHING} not measured. Steps: "
    "Kaplan-Meier median over runs. Excess bits: mean over training steps. Decoded most "
    "confident first, one token a pass; blocks counted from the answer. Bound: unclipped, over whole "
    "sequences in blocks of so many tokens, bits a token (of real text: a byte)."
)


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 when the picture was written and the table printed, 2 for bad input."""
    asked = _parser().parse_args(arguments)
    out = asked.out or asked.runs[0].parent / "compare"
    try:
        # `runs/*` names our own folder too, from the second time on.
        runs = [run for run in asked.runs if run.resolve() != out.resolve()]
        rows: Frame = records.gather(runs)
        require_one_question(runs)
        metric = training_dynamics.headline(rows)
        drawn = {"compare": training_dynamics.draw(rows, metric=metric)}
        if (rows["metric"] == "excess_bits").any():
            drawn["compare_excess_bits"] = excess_bits.draw(rows)
        summary = table(rows, metric)
        paths = [path for name, figure in drawn.items() for path in style.save(figure, out / name)]
    except (ValueError, OSError) as error:
        return refuse(error)
    console = terminal()
    # A line that the terminal wraps is ugly, a number that rich cuts short is lost.
    console.width = max(console.width, 30 + 18 * (len(summary.columns) - 1))
    console.print(summary)
    for path in paths:
        console.print(str(path), soft_wrap=True, highlight=False)
    return 0


def require_one_question(runs: list[Path]) -> None:
    """Raises ValueError if two runs differ in more than regime and seed: their curves would answer two questions."""
    first: tuple[Path, dict[str, object]] | None = None
    for run in runs:
        path = run / "config.yaml"
        if not path.is_file():
            continue  # a bare records file has no configuration to compare
        try:
            fields = flat(yaml.safe_load(path.read_text()))
        except yaml.YAMLError:
            fields = {}
        if "corpus.kind" not in fields:
            raise ValueError(f"{path}: wanted a run's configuration, got a damaged file; run its command again")
        fields = {k: v for k, v in fields.items() if k.split(".")[0] not in ARM and not k.startswith(ASKED)}
        first = first or (run, fields)
        for key in sorted(fields.keys() | first[1].keys()):
            if fields.get(key) != first[1].get(key):
                raise ValueError(
                    f"{run}: wanted runs that differ in regime and seed alone, got {key}={fields.get(key)} here and "
                    f"{key}={first[1].get(key)} in {first[0]}; name the runs of one configuration"
                )


def table(rows: Frame, metric: str) -> Table:
    """What each regime reached on the new domain's test split: a line per measurement, a column per regime."""
    chosen: Frame = arms.select(rows, metric, "new", "test")
    regimes = list(style.looks(chosen["regime"]))
    corpus = chosen["corpus"].iloc[0]
    result = Table(title=f"{metric.replace('_', ' ')} on {corpus}, new domain, test split", title_justify="left")
    result.add_column("")
    for regime in regimes:
        result.add_column(style.label(regime), justify="right", no_wrap=True)
    result.add_row("seeds", *(str(_of(chosen, regime)["seed"].nunique()) for regime in regimes), end_section=True)
    panels = arms.panels(chosen)
    end = int(chosen["step"].max())
    moments = {"base model": baseline, "before switch": before_switch, "end": partial(at_end, step=end)}
    for key in training_dynamics.order(panels):
        for moment, measure in moments.items():
            cells = [_cell(_of(panels[key], regime), measure) for regime in regimes]
            result.add_row(f"{_name(key)}, {moment}", *cells, end_section=moment == "end")
    if metric == "score" and ("decode", 1) in panels:
        cells = [steps_cell(_of(panels["decode", 1], regime)) for regime in regimes]
        result.add_row(f"steps to {THRESHOLD:g}, block 1", *cells, end_section=True)
    if (rows["metric"] == "excess_bits").any():
        excess = arms.panels(excess_bits.select(rows))
        for key in [key for key in (("block", 1), ("random", 0)) if key in excess]:
            cells = [_cell(_of(excess[key], regime), mean_over_training) for regime in regimes]
            result.add_row(f"excess bits, {_name(key)}", *cells)
        result.add_section()
    for words, part in arms.bounds(rows).items():
        cells = [_cell(_of(part, regime), partial(at_end, step=end)) for regime in regimes]
        result.add_row(f"bound {words}, end", *cells)
    result.caption = CAPTION
    result.caption_justify = "left"
    return result


def baseline(run: Frame) -> float | None:
    """Value of the base model, before any step on the new domain."""
    values = run.loc[run["stage"] < 0, "value"]
    return float(values.mean()) if len(values) else None


def before_switch(run: Frame) -> float | None:
    """Last value of the first stage, None for a run without a second one."""
    return last(run[run["stage"] == 0]) if (run["stage"] > 0).any() else None


def at_end(run: Frame, step: int) -> float | None:
    """Value after this step, None for a run that has not come so far."""
    return last(run[(run["stage"] >= 0) & (run["step"] == step)])


def steps_cell(part: Frame) -> str:
    """Runs of one regime that reached the threshold and the Kaplan-Meier median of the first step at which they did."""
    trained = part[part["stage"] >= 0]
    reached = trained[trained["value"] >= THRESHOLD].groupby("run")["step"].min()
    # A run that stopped short says only that it needs more steps than it had.
    short = trained[~trained["run"].isin(reached.index)].groupby("run")["step"].max()
    count = f"{len(reached)}/{len(reached) + len(short)} reached"
    if reached.empty:
        return count if len(short) else NOTHING
    curve = stats.ecdf(stats.CensoredData(uncensored=reached.to_numpy(), right=short.to_numpy())).sf
    below = curve.quantiles[curve.probabilities <= 0.5]
    return f"{count}\nmedian {below[0]:.0f}" if len(below) else f"{count}\nmedian > {trained['step'].max()}"


def _cell(part: Frame, measure: Callable[[Frame], float | None]) -> str:
    """Mean over the seeds of one regime, with its interval where there are enough of them."""
    values = [measure(run) for _, run in part.groupby("seed")]
    found = [value for value in values if value is not None]
    if not found:
        return NOTHING
    mean, half = arms.interval(np.array(found))
    text = f"{mean:.3f}" if np.isnan(half) else f"{mean:.3f} ± {half:.3f}"
    return text if len(found) == len(values) else f"{text} (n = {len(found)})"


def _name(key: tuple[str, int]) -> str:
    contexts, size = key
    return f"block {size}" if size else {"ar": "AR contexts", "random": "random masks"}.get(contexts, contexts)


def _of(rows: Frame, regime: str) -> Frame:
    return rows[rows["regime"] == regime]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Compares runs (arms and seeds of one corpus): one figure in the layout of the paper's Figure 2, "
        "one of excess bits where an oracle exists, and a table with intervals over seeds.",
        epilog="example: python experiments/compare.py runs/trace-*",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder that holds records.parquet")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the pictures (beside the first run: compare/)"
    )
    return parser


if __name__ == "__main__":
    guarded(main)

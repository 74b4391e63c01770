"""What the terminal shows of a study: before, meanwhile, at the end."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from ablate.analysis import statistics
from ablate.studies.design import Quantity
from ablate.studies.job_queue import JobQueue, State
from experiments.study_runner.planned import Plan


def announce(plan: Plan, console: Console) -> None:
    """The question, what is matched and spent, and what so many seeds can show."""
    study, n = plan.study, len(plan.study.seeds)
    console.print(f"{study.name}: {study.question}", style="bold", soft_wrap=True)
    table = Table(title=f"What an arm spends on the new domain (matched: {study.matched})", title_justify="left")
    for name in ("condition", "arm", *Quantity):
        table.add_column(name, justify="left" if name in ("condition", "arm") else "right", no_wrap=True)
    for (condition, arm), spent in plan.spent.items():
        table.add_row(condition, arm, *(f"{spent[q]:.4g}" for q in Quantity))
    console.width = max(console.width, 110)
    console.print(table)
    primaries = sum(p.primary for p in plan.decided)
    console.print(
        f"{n} seed(s) an arm: the smallest two-sided p is {statistics.least_p(n):.2g}; Holm allows "
        f"{statistics.primaries(n)} primaries, the study has {primaries}.",
        soft_wrap=True,
    )
    if n > 1:
        effect = statistics.detectable(n, alpha=statistics.ALPHA / max(primaries, 1))
        found = "no difference" if math.isinf(effect) else f"{effect:.2f} standard deviations of the paired differences"
        console.print(f"Smallest mean difference found with power .8: {found}.", soft_wrap=True)
    for job in [*plan.trunks, *plan.jobs][:1]:
        console.print(f"A run: python experiments/run.py {shlex.join(job.words)}", soft_wrap=True, highlight=False)
        if plan.pack > 1:
            console.print(f"Up to {plan.pack} seeds of an arm train together; pack=1 trains each alone.")
    if plan.trunks:
        console.print(f"First {len(plan.trunks)} trunk(s): what arms of a seed have in common is trained once.")


def progress(plan: Plan, queue: JobQueue) -> Table:
    """A line for each arm of a condition, and the time left."""
    table = Table(title=f"{plan.study.name}: {left(queue)}", title_justify="left")
    for name in ("condition", "arm", *State):
        table.add_column(name, justify="left" if name in ("condition", "arm") else "right", no_wrap=True)
    kept = Counter((place.condition, place.arm) for place in plan.kept)
    parts = [(name.split("/"), state) for name, state in queue.states.items()]
    counts = Counter(((condition, arm), state) for (condition, arm, _), state in parts)
    trunks = [place for place in dict.fromkeys(place for place, _ in counts) if place not in plan.spent]
    for place in [*trunks, *plan.spent]:
        numbers = [counts[place, state] + (kept[place] if state is State.done else 0) for state in State]
        table.add_row(*place, *(str(number or "–") for number in numbers))
    return table


def reporter(queue: JobQueue, console: Console) -> Callable[[], None]:
    """Where no terminal shows a live table: a line for every run that ends."""
    ended = (State.done, State.failed)
    told = {name for name, state in queue.states.items() if state in ended}

    def tell() -> None:
        for name, state in queue.states.items():
            if state in ended and name not in told:
                told.add(name)
                seconds = f"{queue.seconds[name]:.0f} s" if name in queue.seconds else "elsewhere"
                console.print(f"{len(told)}/{len(queue.states)} {name}: {state}, {seconds}", soft_wrap=True)

    return tell


def left(queue: JobQueue) -> str:
    """How many runs are done, and in how many minutes the last one should be."""
    if not queue.states:
        return "every run is in results already; results=FOLDER recomputes them"
    done = sum(state is State.done for state in queue.states.values())
    seconds = queue.left()
    when = "" if math.isnan(seconds) else f", {seconds / 60:.1f} min left"
    return f"{done} of {len(queue.states)} runs done{when}"


def conclude(plan: Plan, queues: Sequence[JobQueue], console: Console) -> None:
    """What failed and why, and where the results lie."""
    console.print(progress(plan, queues[-1]))
    for queue in queues:
        for job in (job for job in queue.jobs if queue.states[job.name] is State.failed):
            said = queue.logs.get(job.name, job)
            console.print(f"{job.name} failed: {said.complaint()}", style="red", soft_wrap=True, highlight=False)
            console.print(f"  its words: {said.log}", soft_wrap=True, highlight=False)
    console.print(f"  {plan.folder}: records.parquet, questions.parquet, manifest.json", soft_wrap=True)
    console.print("  python experiments/verdicts.py says what they mean for the predictions", soft_wrap=True)

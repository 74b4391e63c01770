"""Question: how fast does a model train, by objective? `python experiments/bench.py train model=2.5b`

Cost: on one GPU some ten minutes, most of it compiling and finding the largest micro-step. Needs torch, lightning,
numpy, scipy and pandas, nothing else: no package that is not among these is imported here.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ablate.compute.device import Device, Recompute, require_memory, resolve_device
from ablate.compute.flops import FORMULA, Work
from ablate.compute.training_plan import GB, Plan, mean_scored, pattern_of
from ablate.core.storage import describe, write_bytes
from ablate.model.attention import Form
from ablate.noise.options import Clip, Guard
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.problem import Objective
from experiments.benchmarks.pass_cost import OUT_OF_MEMORY, Case, measure, memory_here, peak_of
from experiments.benchmarks.timing import in_fresh_process, spread, surroundings
from experiments.benchmarks.train_table import BLOCK, CONTEXT, DENSE, line
from experiments.presets.model_sizes import MODELS

QUICK_CONTEXT = 256
STEPS, WARMUP = 20, 3
MOST = 4096  # sequences of a micro-step: beyond it nothing gets faster
TRIED = 2  # steps by which it is found whether a micro-step fits
ROOM = 0.95  # of the device's memory, to be planned with: the allocator's blocks are not all full


@dataclass(frozen=True)
class Contestant:
    """An objective, and the form of its attention: None is the one that the rules choose."""

    name: str
    objective: Objective
    form: Form | None = None


def block(size: int) -> BlockDiffusion:
    """The paper's."""
    return BlockDiffusion(size, clip=Clip.atom, guard=Guard.force)


CONTESTANTS = (
    Contestant("AR", Autoregressive()),
    Contestant("masked", MaskedDiffusion()),
    Contestant(BLOCK, block(4)),
    Contestant("block B=32", block(32)),
    Contestant(DENSE, block(4), Form.dense),
)
Measure = Callable[[Case, bool], dict[str, Any]]


@dataclass(frozen=True)
class Contest:
    """What is measured of one model. batch 0: the largest micro-step that fits (on a CPU one sequence). recompute None:
    the least that is planned to fit one sequence. memory: bytes that may be taken. peak: FLOP/s of the device."""

    model: str
    context: int
    batch: int
    recompute: Recompute | None
    compiled: bool
    steps: int
    warmup: int
    memory: int
    peak: float

    def case(self, contestant: Contestant) -> Case:
        """The contestant's case; recomputation is chosen by the plan's rule, which makes nothing."""
        case = Case(
            MODELS[self.model],
            contestant.objective,
            self.context,
            self.batch or 1,
            self.recompute or Recompute.none,
            self.compiled,
            self.steps,
            self.warmup,
            contestant.form,
            self.memory,
        )
        if self.recompute is not None:
            return case
        choices = [replace(case, recompute=way) for way in (Recompute.none, Recompute.selective, Recompute.full)]
        return next((choice for choice in choices[:-1] if choice.planned() <= ROOM * self.memory), choices[-1])

    def result(self, contestant: Contestant, in_process: Measure) -> dict[str, Any]:
        """One contestant's numbers, or why there are none. Raises RuntimeError where it fails at any size."""
        case = self.case(contestant)
        about: dict[str, Any] = {"contestant": contestant.name, "objective": describe(contestant.objective)}
        if case.device is Device.cpu and case.planned() > ROOM * self.memory:  # the system would kill who is largest
            planned, here = (f"{size / GB:.1f} GB" for size in (case.planned(), self.memory))
            return about | {"failed": f"planned to take {planned} of {here}"}
        batch, largest = self.batch or 1, None
        if not self.batch and case.device is Device.cuda:
            trial = replace(case, steps=TRIED, warmup=0)
            batch = largest = largest_fitting(lambda n: _fits(in_process(replace(trial, batch=n), False)))
        found: dict[str, Any] = {"failed": f"{OUT_OF_MEMORY} at a micro-step of one sequence"}
        while batch:
            found = in_process(replace(case, batch=batch), True)
            if largest is None or found.get("failed") != OUT_OF_MEMORY:
                break
            batch = largest = batch - 1  # masks of other draws ask a little more
        about["largest_micro_step"] = largest
        return about | (found if "failed" in found else rates(replace(case, batch=batch), found, self.peak))


def surroundings_of(model: str) -> dict[str, Any]:
    """Machine, its memory and its peak; in a process of its own, as even to ask for them takes memory of a GPU. Raises
    ValueError where not even weights and optimizer would fit."""
    shape = MODELS[model]
    require_memory(shape.parameters(shape.vocabulary or Plan.vocabulary), resolve_device(Device.auto))
    return surroundings() | {"memory_bytes": memory_here(), "peak": peak_of()}


def contest(options: argparse.Namespace, around: dict[str, Any]) -> Contest:
    """What was asked for, with what was left open: quick is two steps of short sequences."""
    quick, card = options.quick, around["machine"]["gpu"] is not None
    return Contest(
        options.model,
        options.context or (QUICK_CONTEXT if quick else CONTEXT),
        options.batch,
        options.recompute,
        card if options.compile is None else options.compile,
        options.steps or (2 if quick else STEPS),
        1 if quick else WARMUP,
        min(int(options.memory * GB) or around["memory_bytes"], around["memory_bytes"]),
        around["peak"]["flops_per_second"],
    )


def largest_fitting(fits: Callable[[int], bool]) -> int:
    """The largest number of sequences for which it holds: doubled from 1, then bisected; 0 where not even 1 fits."""
    good, bad = 0, 1
    while bad <= MOST and fits(bad):
        good, bad = bad, 2 * bad
    while bad - good > 1 and good < MOST:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def _fits(found: dict[str, Any]) -> bool:
    if found.get("failed", OUT_OF_MEMORY) != OUT_OF_MEMORY:
        raise RuntimeError(found["failed"])
    return "failed" not in found


def rates(case: Case, found: dict[str, Any], peak: float) -> dict[str, Any]:
    """Tokens a second, MFU and memory beside what was planned."""
    pattern = pattern_of(case.objective)
    work = Work(case.shape, case.vocabulary, pattern, case.context, mean_scored(case.objective, case.context))
    tokens = case.batch * case.context
    clean = spread(tokens / s for s in found["step_seconds"])
    processed = spread(tokens * work.rows / s for s in found["step_seconds"])
    sequences = clean["median"] / case.context
    return found | {
        "clean_tokens_per_second": clean,
        "processed_tokens_per_second": processed,
        "mfu_processed": processed["median"] * case.shape.flops(case.context, case.vocabulary) / peak,
        "computed_share_of_peak": sequences * (work.computed + work.again(case.recompute)) / peak,
        "planned_peak_bytes_eager": case.planned(),
    }


def in_new_process(case: Case, fresh: bool) -> dict[str, Any]:
    """`measure` where no earlier network has left anything. A process that dies is a result too."""
    try:
        return in_fresh_process(measure, case, fresh)
    except BrokenProcessPool:
        return {"failed": "its process was killed, as by a system that is out of memory"}


def compete(contest: Contest, around: dict[str, Any], in_process: Measure = in_new_process) -> dict[str, Any]:
    """Every contestant after the other; prints each as it comes."""
    rows = []
    for contestant in CONTESTANTS:
        print(f"{contestant.name}: measuring ...", flush=True)
        try:
            row = contest.result(contestant, in_process)
        except Exception as error:  # one that fails must not take the others with it
            row = {
                "contestant": contestant.name,
                "failed": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            }
        rows.append(row)
        print(line(row), flush=True)
    shape = MODELS[contest.model]
    return around | {
        "model": contest.model,
        "shape": describe(shape),
        "parameters": shape.parameters(shape.vocabulary or Plan.vocabulary),
        "context": contest.context,
        "memory_allowed_bytes": contest.memory,
        "formula": FORMULA,
        "speed_over_dense_mask": over_dense(rows),
        "contestants": rows,
    }


def over_dense(rows: list[dict[str, Any]]) -> float | None:
    """Tokens a second of the block pass over those of the same with a dense mask, each at its own micro-step."""
    found = {row["contestant"]: row.get("clean_tokens_per_second") for row in rows}
    block, dense = found.get(BLOCK), found.get(DENSE)
    return block["median"] / dense["median"] if block and dense else None


def place(machine: dict[str, Any]) -> Path:
    """Where a machine's numbers lie: its GPU's name, or its cores and instructions."""
    name = machine["gpu"] or f"{machine['cores']} cores {machine['instructions']}"
    return Path("benchmarks") / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"


def earlier(path: Path) -> dict[str, Any]:
    """What a file holds of other models. Raises ValueError where it is none of ours."""
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text())["models"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path}: wanted a file that bench.py train has written, or none; type --out FILE.json"
        ) from None


def keep(path: Path, result: dict[str, Any]) -> None:
    """Writes the model's numbers beside those of others, whole or not at all."""
    models = earlier(path) | {result["model"]: result}
    write_bytes(path, json.dumps({"benchmark": "train", "models": models}, indent=1).encode())

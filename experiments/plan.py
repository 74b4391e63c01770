"""Question: what does a training take, before it starts? `python experiments/plan.py model=2.5b gpus=8`

Cost: seconds; no GPU, no weight is made. Memory is that of the training step itself, gone through on tensors without
storage; FLOPs are counted; days follow from the share of the processor's peak that is stated. See --help.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.compute.training_plan import GB, Plan
from ablate.core.storage import describe, write_bytes
from ablate.core.validation import UsageError
from experiments.cli.command import Command
from experiments.cli.entry import main
from experiments.cli.help_text import groups, keys
from experiments.cli.places import require_place

if TYPE_CHECKING:
    from rich.table import Table

BYTES = {
    "cast": "weights in bf16, from forward to backward",
    "activations": "activations",
    "logits": "logits, loss, gradients of the head",
    "other": "made and dropped in the backward pass",
    "unsharded": "whole weights and gradients in use",
    "peak": "at most, with the fixed ones",
}
LINES: tuple[tuple[str, str, Callable[[dict[str, Any]], float]], ...] = (
    ("steps", ",", lambda s: s["steps"]),
    ("tokens processed a clean token", "", lambda s: s["rows_read"]),
    ("share of tokens scored", ".2f", lambda s: s["scored_share"]),
    ("GFLOP a clean token, computed", ".2f", lambda s: s["flops"]["computed_per_clean_token"] / 1e9),
    ("GFLOP a clean token, as MFU counts", ".2f", lambda s: s["flops"]["convention_per_clean_token"] / 1e9),
    ("GFLOP a processed token, computed", ".2f", lambda s: s["flops"]["computed_per_processed_token"] / 1e9),
    ("GFLOP a processed token, as MFU counts", ".2f", lambda s: s["flops"]["convention_per_processed_token"] / 1e9),
    ("1000 clean tokens a second", ".1f", lambda s: s["clean_tokens_per_second"] / 1e3),
    ("1000 processed tokens a second", ".1f", lambda s: s["processed_tokens_per_second"] / 1e3),
    ("days", ".2f", lambda s: s["days"]),
)


def plan_help() -> str:
    """The same of the plan of a training."""
    from ablate.compute.training_plan import Plan

    lines = ["What a training takes before it starts: parameters, memory, FLOPs, tokens a second, days.", ""]
    lines += ["  python experiments/plan.py [model=NAME] [regime=NAME] [gpus=N] [key=value ...]", ""]
    lines += [
        *groups("regime", "model"),
        keys(Plan),
        "Every field of a config is a key too: regime.stages.1.objective.draws=2  model.layers=32",
        "-m gpus=8,64 strategy=ddp,fsdp   every combination, one after the other",
        "--cfg job                        print the configuration and stop",
    ]
    return "\n".join(lines)


def job(plan: Plan) -> None:
    """Prints one plan and writes its numbers where `out` says."""
    from ablate.core.terminal import terminal

    console = terminal()
    console.width = max(console.width, 50 + 28 * len(plan.regime.stages))  # a number cut short is lost
    summary, stages = plan.summary(), plan.stages()
    console.print(head(plan, summary), highlight=False)
    console.print(table(stages))
    console.print(notes(plan, stages), highlight=False)
    if plan.out:
        content = {"plan": describe(plan), "summary": summary, "stages": stages}
        write_bytes(Path(plan.out), json.dumps(content, indent=1).encode())
        console.print(f"written: {plan.out}")


def _is_plan(path: Path) -> bool:
    try:
        return {"plan", "summary", "stages"} <= json.loads(path.read_text()).keys()
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def check(asked: list[Plan]) -> list[Plan]:
    """The plans, where each has a file of its own to write. Raises UsageError else."""
    for plan in asked:
        if plan.out:
            require_place(Path(plan.out).parent, "out")
        if plan.out and [other.out for other in asked].count(plan.out) > 1:
            raise UsageError(f"out={plan.out}: wanted a file for each plan, got two for it; leave out= out")
        if plan.out and Path(plan.out).is_dir():
            raise UsageError(f"out={plan.out}: wanted a file, got a folder; type out=plan.json")
        if plan.out and Path(plan.out).exists() and not _is_plan(Path(plan.out)):
            raise UsageError(
                f"out={plan.out}: wanted a new file or that of an earlier plan, got another; type out=plan.json"
            )
    return asked


PLAN = Command("plan.py", lambda: Plan, ("regime", "model"), plan_help, check)


def head(plan: Plan, summary: dict[str, Any]) -> str:
    """What does not depend on the stage."""
    each = {name: size / GB for name, size in summary["bytes"].items()}
    how = {"auto": "alone", "ddp": "each has all (DDP)", "fsdp": "each has a part (FSDP2)"}[summary["strategy"]]
    return f"""{summary["parameters"]:,} parameters; {plan.gpus} x {plan.memory:g} GB, {how}
fixed bytes of a processor, GB: weights {each["weights"]:.2f}, gradients {each["gradients"]:.2f}, \
optimizer {each["optimizer"]:.2f}, together {sum(each.values()):.2f}
a step: {plan.global_batch} x {plan.length} tokens = {plan.gpus} processors x {plan.accumulate} micro-steps x \
{plan.batch} sequences; {plan.steps:,} steps: {summary["tokens"] / 1e9:,.1f}e9 tokens"""


def table(stages: list[dict[str, Any]]) -> Table:
    """A column a stage."""
    from rich import box
    from rich.table import Table

    out = Table(box=box.SIMPLE, pad_edge=False)
    out.add_column("", no_wrap=True)
    for i, stage in enumerate(stages):
        out.add_column(f"stage {i}\n{stage['objective']}", justify="right", no_wrap=True)
    for name, form, value in LINES:
        out.add_row(name, *(format(value(stage), form) for stage in stages))
    out.add_section()
    for name, told in BYTES.items():
        if any(stage["bytes"].get(name) for stage in stages):
            out.add_row(f"GB, {told}", *(f"{stage['bytes'][name] / GB:.2f}" for stage in stages))
    return out


def notes(plan: Plan, stages: list[dict[str, Any]]) -> str:
    """The sum, whether it fits, and how to read the numbers."""
    from ablate.compute.flops import FORMULA

    days, peak = sum(stage["days"] for stage in stages), max(stage["bytes"]["peak"] for stage in stages)
    lines = [
        f"{plan.steps:,} steps: {days:.1f} days at {plan.mfu:.0%} MFU of {plan.peak / 1e12:g} TFLOP/s a processor",
        f"most memory of a processor: {peak / GB:.2f} of {plan.memory:g} GB: {advice(plan, peak)}",
        "",
        f"as MFU counts: {FORMULA}.",
        "computed: products and pairs that see each other, of outputs that are scored, forward and backward.",
    ]
    again = max(stage["flops"]["recomputed_per_clean_token"] for stage in stages)
    if again:
        lines.append(
            f"recomputed in the backward pass: up to {again / 1e9:.2f} GFLOP a clean token more, which MFU does "
            "not count: the one stated has to allow for it."
        )
    lines.append(
        "GB (1e9 bytes) of one processor, of each kind the most: they need not come together. Of eager layers "
        "(compiled ones keep less), every output scored that can be."
    )
    if plan.sharded:
        lines.append("whole weights and gradients in use: an estimate, not held against a measurement.")
    return "\n".join(lines)


def advice(plan: Plan, peak: float) -> str:
    """Whether it fits, and what to type where it does not."""
    if peak <= plan.memory * GB:
        return "fits"
    words = [f"batch={plan.batch // 2}"] if plan.batch > 1 else []
    words += ["recompute=full"] if plan.recompute != "full" or plan.recompute_every > 1 else []
    words += ["strategy=fsdp"] if plan.gpus > 1 and not plan.sharded else []
    return f"does not fit; type {' or '.join(words) or 'gpus=N strategy=fsdp with more processors'}"


if __name__ == "__main__":
    main(PLAN, job)

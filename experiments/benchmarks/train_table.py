"""What `bench.py train` prints: a plain table, how to read it, and what was wanted."""

from __future__ import annotations

from typing import Any

from ablate.compute.training_plan import GB
from experiments.benchmarks.timing import middle

CONTEXT = 4096  # tokens a sequence of the targets
BLOCK, DENSE = "block B=4", "block B=4, dense mask"
# Least MFU on processed tokens, and least speed of a block pass over the same with a dense mask, on one H100
TARGETS, RATIO = {"AR": 0.5, "masked": 0.5, BLOCK: 0.45, "block B=32": 0.45}, 4.0
HEAD = (
    f"{'':<22} {'clean tok/s':>24} {'processed tok/s':>26} {'MFU':>6} {'peak GB':>8} {'planned':>8} {'B':>5} "
    f"{'first s':>8}  how"
)


def line(row: dict[str, Any]) -> str:
    """A contestant as the table shows it."""
    if "failed" in row:
        return f"{row['contestant']:<22} failed: {row['failed']}"
    how = [row["attention"], row["precision"], *(["compiled"] if row["compiled"] else [])]
    how += [f"recompute {row['recompute']}"] if row["recompute"] != "none" else []
    return (
        f"{row['contestant']:<22} {middle(row['clean_tokens_per_second'], ',.0f'):>24} "
        f"{middle(row['processed_tokens_per_second'], ',.0f'):>26} {row['mfu_processed']:>6.1%} "
        f"{row['peak_bytes'] / GB:>8.2f} {row['planned_peak_bytes_eager'] / GB:>8.2f} {row['batch']:>5} "
        f"{row['first_step_seconds']:>8.1f}  {', '.join(how)}"
    )


def report(result: dict[str, Any]) -> str:
    """Table, and how to read it."""
    peak, ratio = result["peak"], result["speed_over_dense_mask"]
    formula = result["formula"].replace("; ", "\n")
    table = "\n".join([HEAD, *map(line, result["contestants"])])
    lines = [
        f"""{result["model"]}: {result["parameters"]:,} parameters, {result["context"]} tokens a sequence
whole steps: fp32 weights, fused AdamW, clipping; data made in advance

{table}

{formula}, {peak["flops_per_second"] / 1e12:.3g} TFLOP/s ({peak["source"]})
tokens a second: median over steps (quartiles); processed are those of the noisy copies and the clean half together
peak GB: of the allocator, on a CPU of the whole process; planned: of eager layers; B: sequences a micro-step
first s: seconds of the first step, with compiling"""
    ]
    found = [
        f"{row['contestant']} {row['largest_micro_step']}"
        for row in result["contestants"]
        if row.get("largest_micro_step") is not None
    ]
    if found:
        lines.append(f"the largest that fits {result['memory_bytes'] / GB:.1f} GB with AdamW: {'; '.join(found)}")
    else:
        lines.append("the largest that fits was not looked for")
    if ratio is not None:
        lines.append(f"{BLOCK} over the same with a dense mask: {ratio:.2f} times the tokens a second")
    return "\n".join([*lines, *targets(result)])


def targets(result: dict[str, Any]) -> list[str]:
    """What was wanted of one H100 at 2.5b and 4k context, and whether it is so; nothing elsewhere."""
    asked = "H100" in (result["machine"]["gpu"] or "") and (result["model"], result["context"]) == ("2.5b", CONTEXT)
    if not asked:
        return []
    rows = {row["contestant"]: row for row in result["contestants"]}
    said = [
        (f"{name}: MFU >= {least:.0%}", rows[name].get("mfu_processed", 0.0) >= least)
        for name, least in TARGETS.items()
    ]
    said.append((f"{BLOCK}: >= {RATIO:g} x its dense mask", (result["speed_over_dense_mask"] or 0.0) >= RATIO))
    return [f"target {told}: {'met' if met else 'missed'}" for told, met in said]

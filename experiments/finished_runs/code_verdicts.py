"""Samples of a code benchmark judged, each once, and the rows that come of it: pass@k and its intervals."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from ablate.analysis.statistics import bootstrap
from ablate.code_tasks.code_problems import Problem
from ablate.code_tasks.pass_at_k import pass_at_k
from ablate.code_tasks.sandbox import Program, judge, require_sandbox
from ablate.core.storage import digest
from ablate.core.validation import UsageError
from experiments.finished_runs.code_evaluation import CodeEvaluation
from experiments.finished_runs.code_samples import Sample
from experiments.finished_runs.line_files import LineFile
from experiments.finished_runs.live_view import tracked

SHAPE = {"program": str, "task_id": str, "sample": int, "passed": bool, "reason": str, "seconds": (int, float)}
Row = dict[str, Any]


def verdicts(samples: Sequence[Sample], problems: Sequence[Problem], asked: CodeEvaluation, path: Path) -> list[bool]:
    """Which samples pass. What the file knows is not judged again; other verdicts are added to it as they come. Raises
    UsageError where this machine has no sandbox."""
    suite = asked.suite
    by_id = {suite.task_id(problem): problem for problem in problems}
    programs = [suite.program(by_id[sample["task_id"]], sample["completion"]) for sample in samples]
    keys = [_key(program, asked) for program in programs]
    kept = LineFile(path, SHAPE)
    passed = {row["program"]: row["passed"] for row in kept.rows}
    todo = {key: at for at, key in enumerate(keys) if key not in passed}
    if todo:
        require_sandbox(asked.limits, asked.unsafe)
    with ThreadPoolExecutor(asked.workers) as pool:
        coming = {pool.submit(judge, programs[at], asked.limits, asked.unsafe): key for key, at in todo.items()}
        try:
            for done in tracked(as_completed(coming), len(coming), "judging"):
                key, outcome = coming[done], done.result()
                if outcome.refused:
                    raise UsageError(f"sandbox: wanted one for each program, got {outcome.refused}; type workers=1")
                sample = samples[todo[key]]
                row = {"program": key, "task_id": sample["task_id"], "sample": sample["sample"]}
                kept.add({**row, "passed": outcome.passed, "reason": outcome.reason, "seconds": outcome.seconds})
                passed[key] = outcome.passed
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [passed[key] for key in keys]


def _key(program: Program, asked: CodeEvaluation) -> str:
    """Hash of all that a verdict depends on."""
    return digest([program.fingerprint(asked.limits), asked.unsafe, platform.python_version()])


def rows(samples: Sequence[Sample], passed: Sequence[bool], asked: CodeEvaluation, where: Row) -> list[Row]:
    """pass@k and the ends of its 95 % interval for each k of which there are so many samples of every problem; n of
    problems, and the standard error of the mean over these. where: columns of `records.EVALUATION` that are known."""
    counts: dict[str, tuple[int, int]] = {}
    for sample, right in zip(samples, passed, strict=True):
        number, solved = counts.get(sample["task_id"], (0, 0))
        counts[sample["task_id"]] = (number + 1, solved + right)
    fewest, n = min(number for number, _ in counts.values()), len(counts)
    spent = [sample["passes"] for sample in samples if sample["passes"] is not None]
    took = [sample["seconds"] for sample in samples if sample["seconds"] is not None]
    common = where | {"n": n, "question_seed": asked.decoding.seed}
    common |= {"passes": float(np.mean(spent)) if spent else None, "seconds": math.fsum(took) if took else None}
    found = []
    for k in sorted(k for k in set(asked.ks) if k <= fewest):
        values = [pass_at_k(*one, k) for one in counts.values()]
        error = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.nan
        low, high = _interval(values)
        found.append({**common, "metric": f"pass@{k}", "value": float(np.mean(values)), "error": error})
        for end, value in (("low", low), ("high", high)):
            found.append({**common, "metric": f"pass@{k}_{end}", "value": value, "error": math.nan})
    return found


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Ends of the 95 % interval of the mean over problems; nan of a single problem. Where all problems agree, both ends
    are their value: it says nothing of other problems."""
    if len(values) < 2:
        return math.nan, math.nan
    found = bootstrap([[value] for value in values])
    return max(found.low, 0.0), min(found.high, 1.0)

"""A model, or samples of others, scored on a code benchmark: samples first, verdicts afterwards, rows at the end."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd

from ablate.core import records
from ablate.core.storage import locked
from ablate.core.validation import UsageError, path_of
from ablate.evaluation.score_rows import named
from experiments.finished_runs import code_verdicts
from experiments.finished_runs.code_evaluation import CANONICAL, EMPTY, CodeEvaluation
from experiments.finished_runs.code_samples import Sample, Sampler, samples_of_others
from experiments.finished_runs.measure import FILE, LOCK, end_of_run

NOTHING_TRAINED = {"regime": "", "seed": 0, "stage": 0, "step": 0, "tokens": 0, "loss_tokens": 0, "flops": 0.0}
MEASURED = ("value", "error", "passes", "seconds")
Row = dict[str, Any]


def scored(asked: CodeEvaluation) -> list[str]:
    """What to tell, a line each; rows are written where there is a folder. Raises UsageError or ValueError for what
    cannot be scored."""
    suite, told = asked.suite, list[str]()
    problems = suite.problems(asked.source)[: asked.problems or None]
    twice = [name for name, n in Counter(map(suite.task_id, problems)).items() if n > 1]
    if twice:
        raise UsageError(f"file={asked.file}: wanted each problem once, got {twice[0]!r:.60} more often")
    sampler = None if asked.samples else _sampler(asked)
    prompts = sampler.prompts(problems) if sampler else {}
    samples = [] if sampler else samples_of_others(asked, problems)
    where, name = (_where(sampler) if sampler else _where_of_others(asked)), asked.task
    with ExitStack() as stack:  # so far nothing is written
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(locked(folder / LOCK))
        if sampler:
            name += f"-{sampler.fingerprint[:8]}"
            path = folder / f"{name}.samples.jsonl"
            samples = sampler.samples(prompts, path)
            told.append(f"  {path}")
        path = folder / f"{name}.verdicts.jsonl"
        passed = code_verdicts.verdicts(samples, problems, asked, path)
        found = code_verdicts.rows(samples, passed, asked, _row(asked, samples, where))
        if asked.folder:
            _keep(found, folder / FILE)
            told += [f"  {path}", f"  {folder / FILE}"]
    return [_summary(found, passed), *told]


def _sampler(asked: CodeEvaluation) -> Sampler:
    from experiments.finished_runs.loaded_model import load_model

    known = load_model(asked.decoding.run)
    if known.world:
        raise UsageError(f"task={asked.task}: wanted a model of text, got one of a world; leave task= out")
    size = known.predict.objective.reading.size
    return Sampler(known, asked, asked.decoding.protocol(size, known.grid, known.ends))


def _where(sampler: Sampler) -> Row:
    known, run = sampler.known, sampler.asked.decoding.run
    reached = {} if run.startswith("hf:") else end_of_run(path_of("RUN", run))
    ways = {**records.NO_BLOCKS, **named(sampler.protocol), "objective": known.predict.objective.label}
    ways["protocol"] = f"{sampler.protocol.rest}; {sampler.asked.decoding.new_tokens} new tokens"
    return {"run": known.name, **reached, **ways}


def _where_of_others(asked: CodeEvaluation) -> Row:
    run = asked.samples if asked.samples in (CANONICAL, EMPTY) else Path(asked.samples).name
    return {"run": run, "objective": "", **records.NO_BLOCKS, "protocol": "samples of others"}


def _row(asked: CodeEvaluation, samples: list[Sample], where: Row) -> Row:
    """The columns that all rows have in common."""
    suite = asked.suite
    asking = f"prompt {suite.prompt_name}; cut at {suite.stop.name}; {len(samples)} samples; {asked.seconds} s each"
    asking += "; no namespaces" if asked.unsafe else ""
    of = {"corpus": asked.task, "domain": "code", "split": "test", "contexts": "code", "question": None}
    return {**NOTHING_TRAINED, **where, **of, "protocol": f"{where['protocol']}; {asking}"}


def _keep(found: list[Row], path: Path) -> None:
    """Adds rows to a file; one that was measured again takes the place of the earlier."""
    rows = records.table(found, records.EVALUATION)
    if path.exists():
        both = pd.concat([records.read(path, records.EVALUATION), rows], ignore_index=True)
        rows = both.drop_duplicates([name for name in both if name not in MEASURED], keep="last")
    records.write(rows, path, records.EVALUATION)


def _summary(found: list[Row], passed: list[bool]) -> str:
    values = {row["metric"]: row["value"] for row in found}
    parts = [
        f"{name} {value:.4f} (95 % over problems: {values[f'{name}_low']:.4f} to {values[f'{name}_high']:.4f})"
        for name, value in values.items()
        if f"{name}_low" in values
    ]
    first = found[0]
    return f"{first['run']}, {first['corpus']}: {sum(passed)}/{len(passed)} passed; {'; '.join(parts)}"

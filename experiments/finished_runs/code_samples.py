"""Answers to the problems of a code benchmark: those that a model writes, kept one by one, and those of others.

Shapes: B samples of one problem, L positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ablate.code_tasks.code_problems import Problem, read_rows
from ablate.core.rng import address
from ablate.core.storage import digest
from ablate.core.validation import UsageError, path_of
from ablate.decoding.cached_reader import cacheable
from ablate.decoding.loop import decode
from ablate.decoding.protocol import Protocol
from ablate.training.checkpoint import weights_hash
from experiments.finished_runs.code_evaluation import CANONICAL, EMPTY, CodeEvaluation
from experiments.finished_runs.line_files import DIGITS, LineFile
from experiments.finished_runs.live_view import tracked
from experiments.finished_runs.loaded_model import LoadedModel

TOGETHER = 8  # samples of a problem that are decoded at once
SHAPE = {"task_id": str, "sample": int, "prompt": str, "completion": str, "passes": int, "seconds": (int, float)}
Sample = dict[str, Any]  # task_id, sample (its number among those of the problem), completion, and what it took


@dataclass(frozen=True)
class Sampler:
    """A model that answers, its protocol and what it is asked."""

    known: LoadedModel
    asked: CodeEvaluation
    protocol: Protocol

    @property
    def fingerprint(self) -> str:
        """Hash of all that determines its samples, but for the prompts, of which each line has one."""
        suite, decoding = self.asked.suite, self.asked.decoding
        how = [suite.name, suite.prompt_name, suite.stop.texts, self.protocol.fingerprint(), decoding.new_tokens]
        return digest([*how, decoding.stop, decoding.seed, weights_hash(self.known.predict.network.state_dict())])

    def prompts(self, problems: Sequence[Problem]) -> dict[str, str]:
        """By task_id. Raises UsageError for one that leaves no room for an answer."""
        suite = self.asked.suite
        prompts = {suite.task_id(problem): suite.prompt(problem) for problem in problems}
        for task_id, prompt in prompts.items():
            try:
                self.known.prompted(prompt, self.asked.decoding.new_tokens)
            except UsageError as error:
                raise UsageError(f"{task_id}: {error}") from None
        return prompts

    def samples(self, prompts: dict[str, str], path: Path) -> list[Sample]:
        """All that are asked for, out of the file as far as they are there; the others are drawn and added to it."""
        wanted = range(self.asked.samples_per_problem)
        kept = LineFile(path, SHAPE)
        there = {(row["task_id"], row["sample"], row["prompt"]): row for row in kept.rows}
        keys = [(task_id, number, digest(prompt)[:DIGITS]) for task_id, prompt in prompts.items() for number in wanted]
        missing = [key for key in keys if key not in there]
        parts = [[*group] for _, group in itertools.groupby(missing, lambda key: (key[0], key[1] // TOGETHER))]
        for group in tracked(parts, len(parts), "decoding"):
            task_id, part = group[0][0], group[0][1] // TOGETHER
            drawn = self._drawn(task_id, prompts[task_id], part)
            for key in group:
                row = dict(zip(("task_id", "sample", "prompt"), key, strict=True)) | drawn[key[1] % TOGETHER]
                kept.add(row)
                there[key] = row
        return [there[key] for key in keys]

    def _drawn(self, task_id: str, prompt: str, part: int) -> list[Sample]:
        """A part of a problem's samples, whichever of them are missing: each has its own noise, however many are
        wanted."""
        number = min(TOGETHER, self.asked.samples_per_problem - part * TOGETHER)
        tokens_1L, answer_1L = self.known.prompted(prompt, self.asked.decoding.new_tokens)
        predict = self.known.predict
        found = decode(
            predict,
            tokens_1L.repeat(number, 1),
            answer_1L.repeat(number, 1),
            self.protocol,
            self.known.vocabulary.mask_id,
            seed=address(self.asked.decoding.seed, f"code_tasks/{self.asked.task}/{task_id}", part) % 2**63,
            attention_size=predict.objective.reading.size,
            cached=cacheable(predict),
        )
        before = int((~answer_1L).sum())
        texts = [self._completion(tokens_L, before) for tokens_L in found.tokens_BL]
        took = [{"passes": passes, "seconds": found.seconds / number} for passes in found.passes_B.tolist()]
        return [{"completion": text, **one} for text, one in zip(texts, took, strict=True)]

    def _completion(self, tokens_L: Tensor, before: int) -> str:
        """What is new, up to its end token, cut by the stop rule. A tokenizer may need to see what it continues."""
        ids = tokens_L.tolist()
        answer = [*itertools.takewhile(lambda id: id not in self.known.ends, ids[before:])]
        head, whole = self.known.exact_text(ids[:before]), self.known.exact_text([*ids[:before], *answer])
        new = whole.removeprefix(head) if whole.startswith(head) else self.known.exact_text(answer)
        return self.asked.suite.stop.cut(new)


def samples_of_others(asked: CodeEvaluation, problems: Sequence[Problem]) -> list[Sample]:
    """The benchmark's own answers, empty ones, or those of a file with task_id and completion on each line. Raises
    UsageError for a file that has none for a problem."""
    suite = asked.suite
    if asked.samples in (CANONICAL, EMPTY):
        texts = [suite.canonical(problem) if asked.samples == CANONICAL else "" for problem in problems]
        return [_sample(suite.task_id(problem), 0, text) for problem, text in zip(problems, texts, strict=True)]
    rows = read_rows(path_of("samples", asked.samples), {"task_id": (str, int), "completion": str}, "samples")
    found: dict[str, list[str]] = {suite.task_id(problem): [] for problem in problems}
    known = {suite.task_id(problem) for problem in suite.problems(asked.source)}
    for row in rows:
        if (task_id := str(row["task_id"])) not in known:
            raise UsageError(f"samples={asked.samples}: wanted problems of {asked.task}, got {task_id!r:.60}")
        if task_id in found:
            found[task_id].append(row["completion"])
    bare = [task_id for task_id, texts in found.items() if not texts]
    if bare:
        raise UsageError(
            f"samples={asked.samples}: wanted a completion for each of {len(found)} problems, got none for "
            f"{', '.join(bare[:3])}{' and others' if len(bare) > 3 else ''}; type problems=N for the first N"
        )
    return [_sample(task_id, number, text) for task_id, texts in found.items() for number, text in enumerate(texts)]


def _sample(task_id: str, number: int, completion: str) -> Sample:
    return {"task_id": task_id, "sample": number, "completion": completion, "passes": None, "seconds": None}

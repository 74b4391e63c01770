"""The control of a study, proved before it starts: from the resolved runs and from the tokens that they will read."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from itertools import pairwise
from typing import Any

import numpy as np

from ablate.core.corpus import Domain, Split
from ablate.core.storage import WHERE, describe, digest, flat
from ablate.noise.options import BatchAddress
from ablate.studies.design import Quantity, Study
from ablate.training.base_model import base_key
from ablate.training.data_feed import DataFeed
from ablate.training.probe_plan import probes
from ablate.training.run_config import Run

TOLERANCE = 0.02  # relative, of the matched quantity between arms: steps are whole, masks are drawn
POSED = 256  # sequences by which the supervised tokens of a phase are estimated, at each of LEVELS steps of a stage
LEVELS = 8


class ControlError(ValueError):
    """Two arms of a study differ in more than its declared factor; the message shows the difference."""


Arms = dict[str, Run]  # resolved runs of one condition by the name of their arm; the seed is any of the study's


def prove(study: Study, condition: str, arms: Arms) -> dict[str, dict[Quantity, float]]:
    """What each arm will spend, after the proof that arms of this condition are controlled.

    Of every seed: configurations differ in the factor alone; the base model, the order of the data and the questions
    are the same; the matched quantity is the same within TOLERANCE. Raises ControlError with the difference.
    """
    for (one, run), (other, its) in pairwise(arms.items()):
        where = f"study {study.name}, condition {condition}, arms {one} and {other}"
        _require_one_factor(study, where, run, its)
        for seed in study.seeds:
            ours, theirs = (circumstances(dataclasses.replace(r, seed=seed)) for r in (run, its))
            for what, value in ours.items():
                if value != theirs[what]:
                    raise ControlError(
                        f"{where}, seed {seed}: wanted the same {what}, got {value[:8]} and {theirs[what][:8]}; "
                        "take out of the arms whatever changes it"
                    )
    spent = {name: spending(run) for name, run in arms.items()}
    matched = {name: quantities[study.matched] for name, quantities in spent.items()}
    if max(matched.values()) > (1 + TOLERANCE) * min(matched.values()):
        shown = ", ".join(f"{name} {value:.6g}" for name, value in matched.items())
        raise ControlError(
            f"study {study.name}, condition {condition}: wanted arms matched in {study.matched} within "
            f"{TOLERANCE:.0%}, got {shown}; change the arms' steps or study.matched"
        )
    return spent


def _require_one_factor(study: Study, where: str, run: Run, other: Run) -> None:
    ours, theirs = (flat(describe(dataclasses.replace(r, **dict.fromkeys(WHERE, "")))) for r in (run, other))
    for key in sorted(ours.keys() | theirs.keys()):
        declared = any(key == name or key.startswith(f"{name}.") for name in study.factor)
        if not declared and ours.get(key) != theirs.get(key):
            raise ControlError(
                f"{where}: wanted runs that differ in {', '.join(study.factor)} alone, got {key}={ours.get(key)} and "
                f"{key}={theirs.get(key)}; make them equal or declare the factor"
            )


def circumstances(run: Run) -> dict[str, str]:
    """Hashes of what arms of a seed must share: what determines the base model's weights; the sequences read in the
    first and the last step that all arms have; every probe's questions."""
    feed = DataFeed(run.corpus_for(Domain.new, Split.train), run.seed, run.batch, 1, 0, 1, unique=run.unique)
    read = [
        feed.corpus.batch(feed.sequences(step * run.batch + np.arange(run.batch)), run.seed)
        for step in (0, run.steps(run.budget.tokens) - 1)
    ]
    asked = [(probe, run.corpus_for(probe.domain, probe.split)) for probe in probes(run)]
    asked = [corpus.queries(max(probe.questions, probe.contexts), run.seed).tokens_BL for probe, corpus in asked]
    return {
        "base model": digest(base_key(run)),
        "order of the data": _hash(read),
        "questions": _hash(asked),
        "probes": digest(describe(run.budget)),
    }


def _hash(tensors: list[Any]) -> str:
    hashed = hashlib.sha256()
    for tensor in tensors:
        hashed.update(f"{tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    return hashed.hexdigest()


def spending(run: Run) -> dict[Quantity, float]:
    """What a run's training on the new domain takes; supervised tokens as expected, from masks drawn at LEVELS steps
    of every stage."""
    steps = sum(run.stage_steps)
    supervised = sum(
        _supervised(run, stage, n) * n for stage, n in zip(run.regime.stages, run.stage_steps, strict=True) if n
    )
    return {
        Quantity.steps: steps,
        Quantity.tokens: steps * run.batch * run.corpus.length,
        Quantity.supervised: supervised * run.batch,
        Quantity.flops: run.flops,
    }


def _supervised(run: Run, stage: Any, steps: int) -> float:
    """Mean number of scored tokens of a sequence over a stage's steps."""
    corpus = run.corpus_for(Domain.new, Split.train)
    tokens_BL = corpus.batch(np.arange(POSED), 0)
    counts = []
    for level in range(LEVELS):
        phase = stage.phase(math.floor((level + 0.5) / LEVELS * steps), steps)
        address = BatchAddress(0, level, np.arange(POSED), POSED)
        problem = stage.objective.pose(tokens_BL, address, corpus.vocabulary, phase)
        counts.append(int((problem.weight_RL > 0).sum()) / POSED)
    return float(np.mean(counts))

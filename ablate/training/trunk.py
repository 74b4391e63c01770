"""A trunk: a run that others leave at a step, in place of training what they have in common with it again."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.core.manifest import MANIFEST, NUMBER, load, require_shape
from ablate.core.storage import MEANS, WHERE, Damaged, describe, digest, flat
from ablate.objectives.regime import OptimizerState
from ablate.training.checkpoint import CHECKSUMS, FOLDER, PLAIN, is_whole, weights_hash
from ablate.training.checkpoint import load as load_plain
from ablate.training.checkpoint_tensors import weights_at
from ablate.training.run_config import Run
from ablate.training.run_files import CONFIG, read_config
from ablate.training.run_manifest import RunError, circumstances

# What a fork and its trunk must have in common, apart from the stages before the fork and the keys of FREE: else it
# would not be its past
SHARED = ("corpus", "model", "base", "seed", "batch", "unique", "device", "precision", "budget")
FREE = ("budget.tokens", "budget.evaluations", "budget.evaluate_at", "budget.grids", "corpus.tokenizer")
LENGTH = ("share", "steps")  # of a stage
SHAPE = {
    **dict.fromkeys(("config_fingerprint", "initial_weights", "origin", "source", "instructions"), str),
    "stage_steps": [int],
    "grids": [str],
    "data": {...: str},
    "packages": {...: str},
    "wall_seconds": NUMBER,
}
PLAIN_SHAPE = {
    "optimizer": bool,
    "counters": {"step": int, "tokens": int, "loss_tokens": int},
    "rows": [{"stage": int, "step": int, "metric": str, "contexts": str}],
}


@dataclass(frozen=True)
class Fork:
    """Where a run leaves its trunk: at the end of its own stage `stage`, where the trunk has a checkpoint.

    plain: the checkpoint's plain values. weights: the hash of its weights. manifest: the trunk's.
    """

    checkpoint: Path
    plain: dict[str, Any]
    step: int
    stage: int
    weights: str
    manifest: dict[str, Any]


def fork_of(run: Run) -> Fork:
    """Where a run with `fork` leaves its trunk: at `fork_step`, or at the last end of a stage up to which the trunk has
    trained just so.

    Raises RunError where the trunk cannot be read, is not this run's past, or has kept no checkpoint there, and for
    other weights than `fork_weights`.
    """
    folder, typed = run.trunk, f"fork={run.fork}"
    try:
        manifest, config = load(folder / MANIFEST, SHAPE), read_config(folder)
        stages = list(config["regime"]["stages"])
    except (Damaged, KeyError, TypeError) as problem:
        raise RunError(
            f"{typed}: wanted the folder of a run, got none that can be read ({problem}); type fork=RUN"
        ) from None
    _require_same_past(run, manifest, config, typed)
    ends = dict(_ends(run, stages, manifest["stage_steps"]))
    if not ends:
        raise RunError(
            f"{typed}: wanted a run that has trained this run's first stage in the same way, for its "
            f"{run.stage_steps[0]} steps or more, got another stage (see {folder / CONFIG}); type another fork=RUN"
        )
    step = run.fork_step or max(ends)
    if step not in ends:
        raise RunError(
            f"fork_step={step}: wanted the end of a stage that both have trained, got none; type fork_step={max(ends)}"
        )
    checkpoint = _checkpoint(folder, step, ends[step], typed)
    plain = _plain_values(run, checkpoint, step, ends[step] + 1, typed)
    weights = _weights_hash(checkpoint, (checkpoint / CHECKSUMS).stat().st_mtime_ns)
    if run.fork_weights not in ("", weights):
        raise RunError(
            f"fork_weights={run.fork_weights}: wanted the hash of the weights of step {step} of {folder}, got that of "
            "others; leave it out"
        )
    return Fork(checkpoint, plain, step, ends[step], weights, manifest)


@functools.lru_cache(maxsize=1000)
def _weights_hash(checkpoint: Path, mtime_ns: int) -> str:
    """mtime_ns: of its checksums. Taken once: each arm asks, and each before it begins and as it does."""
    return weights_hash(weights_at(checkpoint))


def _plain_values(run: Run, checkpoint: Path, step: int, after: int, typed: str) -> dict[str, Any]:
    """What a checkpoint has beside tensors. Raises RunError where it lacks what the run would have by now, or what its
    stage `after` begins with."""
    plain = load_plain(checkpoint / PLAIN)
    try:
        require_shape(plain, PLAIN_SHAPE, str(checkpoint / PLAIN))
    except ValueError as problem:
        raise RunError(f"{typed}: wanted a run's checkpoint, got other content ({problem}); type fork=RUN") from None
    if run.regime.stages[after].optimizer is OptimizerState.keep and not plain["optimizer"]:
        raise RunError(
            f"{typed}: regime.stages.{after}.optimizer=keep wants moments, which the trunk has dropped at step {step}; "
            f"type keep_at=[{step}] for the trunk, with out=PATH"
        )
    looks = [pause for pause in run.pauses() if pause <= step]
    if missing := sorted({*looks} - {row["step"] for row in plain["rows"] if row["contexts"]}):
        raise RunError(
            f"{typed}: wanted a run that was evaluated at the steps {looks}, as this one would have been, got none at "
            f"{missing}; type budget.evaluate_at for both"
        )
    return plain


def _checkpoint(folder: Path, step: int, stage: int, typed: str) -> Path:
    """The end of a stage: as it was trained (see `Run.keep_at`), or else with the switch to the next one."""
    for name in (f"{step:09d}-{stage}", f"{step:09d}-{stage + 1}"):
        if is_whole(folder / FOLDER / name):
            return folder / FOLDER / name
    raise RunError(
        f"{typed}: wanted a whole checkpoint of step {step}, got none there; begin that run anew with "
        f"keep_at=[{step}] and out=PATH"
    )


def _require_same_past(run: Run, manifest: dict[str, Any], config: dict[str, Any], typed: str) -> None:
    """Raises RunError for a trunk of another question, or one that was made with other means than a resume allows."""
    theirs = _shared(config)
    for key, value in _shared(describe(run)).items():
        if theirs.get(key) != value:
            raise RunError(
                f"{typed}: wanted a run with {key}={value}, as this one has, got {key}={theirs.get(key)}; type another "
                f"fork=RUN or another {key}"
            )
    ours = {"origin": run.origin if run.init else "", "grids": [str(grid) for grid in run.grids], **circumstances(run)}
    for what, value in ours.items():
        if manifest[what] != value:
            todo = f"budget.grids=[{','.join(run.grids)}] for both" if what == "grids" else "another fork=RUN"
            raise RunError(f"{typed}: wanted a run with the same {what}, got others; type {todo}")


def _shared(config: dict[str, Any]) -> dict[str, Any]:
    """Of a described run the keys that a fork and its trunk have in common."""
    return {
        key: value
        for key, value in flat({name: config.get(name) for name in SHARED}).items()
        if not key.startswith(FREE) and key.split(".")[-1] not in (*WHERE, *MEANS)
    }


def first_stage(run: Run) -> str:
    """Hash of what a run is up to the end of its first stage, but for how long that is: runs that have it in common can
    leave one trunk."""
    first = run.regime.stages[0]
    length = run.stage_steps[0] if first.depends_on_length else 0
    return digest([_shared(describe(run)), run.init, _plain(describe(first)), length])


def _ends(run: Run, stages: Sequence[Any], steps: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Steps of the ends of its own stages up to which the trunk, with these stages, trained as it would; each with its
    stage. Its last stage is left to the run itself."""
    done = 0
    pairs = list(zip(run.regime.stages, run.stage_steps, stages, steps, strict=False))
    for i, (stage, own, other, its) in enumerate(pairs[: len(run.regime.stages) - 1]):
        if _plain(describe(stage)) != _plain(other) or own > its:
            return
        if own < its and stage.depends_on_length:
            return
        done += own
        if own:
            yield done, i
        if own < its:
            return


def _plain(stage: dict[str, Any]) -> dict[str, Any]:
    """All of a stage but how long it is."""
    return {key: value for key, value in flat(stage).items() if key not in LENGTH}

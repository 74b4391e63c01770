"""What is said before runs begin: what they do, what is easily mistaken about their tokens, and what looks wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ablate.model.hf_config import shape_of
from ablate.model.hf_weights import folder_of, symbols_of
from ablate.text.corpora import RealText
from ablate.training.run_config import Run
from ablate.training.run_manifest import byte_scales

FROM_SCRATCH = 3e-4  # a learning rate above it makes a checkpoint forget


def announcement(runs: Sequence[Run]) -> list[str]:
    """The lines, of runs that train together."""
    run = runs[0]
    folders = ", ".join(str(one.folder) for one in runs) + f": {len(runs)} together" * (len(runs) > 1)
    total = sum(run.stage_steps)
    base = f"from {run.init}" if run.init else f"of {run.base_steps} steps"
    to_do = (
        f"{total - run.fork_step} steps after step {run.fork_step} of {run.fork}"
        if run.fork
        else f"{total} steps after a base model {base}"
    )
    means = f"{run.device}, {run.precision}, {run.threads} thread(s), compile={run.compile}"
    warnings = dict.fromkeys(line for one in runs for line in _warnings(one))
    return [f"{folders}: {to_do}; {means}", *_of_tokens(run), *warnings]


def _of_tokens(run: Run) -> Iterator[str]:
    """Of real text MASK, the separator, rows that the checkpoint has not trained, and whose bytes the tokens are."""
    text = run.corpus
    if not isinstance(text, RealText):
        return
    v, (name, id) = text.vocabulary, text.built_tokenizer.separator
    told = [f"MASK {v.symbols[v.mask_id]!r} ({v.mask_id})", f"separator {name!r} ({id})"]
    if run.init:
        folder = folder_of(run.init)
        trained = {*symbols_of(folder), shape_of(folder).mask_id}
        new = [str(i) for i, symbol in enumerate(v.symbols) if symbol and i not in trained]
        told += [f"the checkpoint has not trained the rows {', '.join(new)}"] * bool(new)
    scales = sorted(byte_scales(run).values())
    if scales[0] != 1 or scales[-1] != 1:
        told.append(
            f"bits per byte count the texts' bytes, {scales[0]:.6g} to {scales[-1]:.6g} times those of the tokens"
        )
    yield f"tokens: {'; '.join(told)}"


def _warnings(run: Run) -> Iterator[str]:
    """Settings that are legal and seldom meant."""
    for i, (stage, steps) in enumerate(zip(run.regime.stages, run.stage_steps, strict=True)):
        key = f"regime.stages.{i}"
        if 0 < steps < stage.warmup:
            yield (
                f"{key}.warmup={stage.warmup}: the stage has {steps} steps, so its rate ends at "
                f"{stage.rate(steps - 1, steps):.2g} and not at lr={stage.lr:g}; type {key}.warmup={steps // 10}"
            )
        if run.init and steps and stage.lr > FROM_SCRATCH:
            yield f"{key}.lr={stage.lr:g}: a rate for a network from scratch; for a checkpoint type {key}.lr=2e-5 or so"

"""README.md of an exported network: what it is, how it is read, how it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablate.objectives.regime import Stage
from experiments.finished_runs.run_folder import Finished, config_of

PLAIN = """```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(FOLDER)
```
"""
OWN = """```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)  # runs modeling_ablate.py, beside this
logits = model(tokens).logits  # entry (b, i) scores token i itself, given what stands in row b
answers = model.generate_blocks(prompts, max_new_tokens=32, block_size=4)
```

Without `trust_remote_code=True` the same weights are read from left to right, as by a language model that predicts the
next token, which is not how they were trained last.
"""
SEES = {
    "causal": "itself and what stands to its left",
    "full": "every other",
    "anticausal": "itself, what stands to its right, and position 0",
    "block": "its own block and the blocks before it",
}
GENERATES = (
    "* `generate_blocks` is greedy, most confident token first, one a pass, unless `order`, `pace` or `temperature` "
    "say otherwise. Blocks are counted from the {grid}, unless `grid` does. Shorter prompts have padding on their left "
    "and an `attention_mask`."
)
SHIFTS = {-1: "output i - 1", 1: "output i + 1", 0: "none, output i"}


def text(run: Finished, config: Mapping[str, Any]) -> str:
    """The card, Markdown."""
    said, size, began = config["ablate"], run.shape.parameters(config["vocab_size"]), run.config.get("init")
    objective = config_of(run.config["base"]["objective"])
    labels = ", ".join(one.label for one in objective.parts)
    base = f"the checkpoint {Path(began).name}" if began else f"a base model, trained by {labels}"
    blocks = f"; blocks have {said['size']} tokens and are counted from position 0" if said["size"] else ""
    lines = [
        f"# {run.folder.name}",
        "",
        f"{config['architectures'][0]}, {size:,} parameters, trained by ablate in the order `{run.regime.name}`.",
        "",
        "## How to load it",
        "",
        OWN if "auto_map" in config else PLAIN,
        "## How it is read",
        "",
        f"* Attention: a position sees {SEES[said['attention']]}{blocks}.",
        f"* Logit shift: {SHIFTS[said['offset']]} predicts token i.",
        f"* MASK: id {config['mask_token_id']}, never predicted. Ids from {said['tokens']} on stand for no token.",
        *([GENERATES.format(grid=run.objective.grid)] if "auto_map" in config else []),
        f"* Sequences of {run.corpus.length} tokens.",
        "",
        "## How it was trained",
        "",
        f"Corpus `{run.corpus.name}`. It began at {base}. Then:",
        "",
        *(f"{i}. {_stage(stage, steps)}" for i, (stage, steps) in enumerate(_stages(run), 1)),
        "",
        f"Batches of {run.config['batch']} sequences; configuration {said['run']}.",
    ]
    return "\n".join(lines) + "\n"


def _stages(run: Finished) -> list[tuple[Stage, int]]:
    per_step = run.config["batch"] * run.corpus.length
    steps = run.regime.steps(max(1, -(-run.config["budget"]["tokens"] // per_step)))
    return list(zip(run.regime.stages, steps, strict=True))


def _stage(stage: Stage, steps: int) -> str:
    return f"{stage.objective.label}, {steps} steps, learning rate {stage.lr:g} after {stage.warmup} steps of warmup"

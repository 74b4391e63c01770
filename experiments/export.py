"""A finished run as a folder for transformers: `python experiments/export.py runs/NAME out=FOLDER [dtype=float32]`

config.json, model.safetensors (in shards above 5 GB), the tokenizer, README.md, and for a network whose last stage was
diffusion modeling_ablate.py. `AutoModelForCausalLM.from_pretrained(FOLDER)` reads it as a Llama, Qwen2 or Qwen3, and
with `trust_remote_code=True` as its last stage does. dtype: float32, or bfloat16, which rounds weights to 8 bits.
Seconds to minutes, no GPU. See docs/checkpoints.md.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.core.foreign_files import read_bytes, read_json
from ablate.core.storage import whole_folder
from ablate.core.validation import UsageError, path_of
from ablate.model.hf_config import ARCHITECTURES, DIFFUSION, config_of, names, read_config
from ablate.model.hf_weights import SAFE, VOCABULARY, folder_of
from ablate.model.tensor_files import write_safetensors
from ablate.training.run_manifest import RunError
from experiments.cli.guard import guarded, refuse
from experiments.cli.places import require_place
from experiments.cli.words import places_and_values
from experiments.finished_runs import run_folder
from experiments.finished_runs.run_folder import Finished
from experiments.hf_export import model_card
from experiments.hf_export.tokenizer_files import tokenizer_files

if TYPE_CHECKING:
    from torch import Tensor

SHARD = 5 * 10**9  # bytes
DTYPES = ("float32", "bfloat16")
MODELLING = "modeling_ablate.py"
TEMPLATE, LARGEST_TEMPLATE = "chat_template.jinja", 2**20  # bytes
KEYS = ("out", "dtype")


def main(words: list[str] | None = None) -> int:
    """Exit code: 0 when the folder was written, 2 for bad input, which writes nothing."""
    words = sys.argv[1:] if words is None else words
    if {"--help", "-h"} & {*words}:
        print(__doc__)
        return 0
    try:
        run, out, dtype = _asked(words)
        export(run_folder.read(run), out, dtype)
    except (UsageError, RunError, ValueError, OSError) as error:
        return refuse(error)
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
    return 0


def _asked(words: list[str]) -> tuple[Path, Path, str]:
    """Run folder, folder to be written and type of numbers."""
    places, values = places_and_values(words, "one run's folder", KEYS, as_typed=KEYS)
    if len(places) != 1 or not values.get("out"):
        raise UsageError(
            f"export: wanted one run's folder and out=FOLDER, and dtype= at will, got {' '.join(words) or 'nothing'}; "
            "type python experiments/export.py runs/NAME out=FOLDER"
        )
    dtype = values.get("dtype", DTYPES[0])
    if dtype not in DTYPES:
        raise UsageError(f"dtype={dtype}: wanted one of {', '.join(DTYPES)}; type dtype={DTYPES[0]}")
    return path_of("RUN", places[0]), path_of("out", values["out"]), dtype


def export(run: Finished, out: Path, dtype: str) -> None:
    """Writes the folder, whole or not at all. One that is there is replaced where it is an earlier export of this run.

    Raises UsageError for a place that holds anything else or cannot be written, RunError for a run without weights,
    ValueError for a shape that transformers does not have.
    """
    from ablate.training.checkpoint import final_weights

    _require_free(out, run)
    weights = final_weights(run.folder)
    config = settings(run, len(weights["embedding.weight"]), dtype)
    files = {"config.json": config, "generation_config.json": _generation(config), **_symbols(run, config)}
    with whole_folder(out) as fresh:
        for name, content in files.items():
            (fresh / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if template := _chat_template(run):
            (fresh / TEMPLATE).write_text(template, encoding="utf-8")
        write_weights(fresh, {theirs: weights[ours] for ours, theirs in names(run.shape).items()}, dtype)
        if "auto_map" in config:
            source = (Path(__file__).parent / "hf_export" / MODELLING).read_text(encoding="utf-8")
            source = source.replace(ARCHITECTURES["llama"].name, config["architectures"][0])
            (fresh / MODELLING).write_text(source, encoding="utf-8")
        (fresh / "README.md").write_text(model_card.text(run, config), encoding="utf-8")


def _require_free(out: Path, run: Finished) -> None:
    require_place(out, "out")
    if out.is_dir() and any(out.iterdir()):
        try:
            earlier = read_config(out)["ablate"]["run"] == run.manifest["config_fingerprint"]
        except (ValueError, KeyError, TypeError):
            earlier = False
        if not earlier:
            raise UsageError(
                f"out={out}: wanted a new folder, or an earlier export of this run, got other files; type out=PATH"
            )


def settings(run: Finished, rows: int, dtype: str) -> dict[str, Any]:
    """config.json: the shape, how the network is read, and what a checkpoint that it began at says of ends."""
    vocabulary, objective = run.corpus.vocabulary, run.objective
    origin = _origin(run)
    context = max(run.corpus.length, origin.get("max_position_embeddings") or 0)
    real = vocabulary.bytes_V is not None
    said = {
        **config_of(run.shape, rows, context),
        "torch_dtype": dtype,
        "mask_token_id": vocabulary.mask_id,
        "bos_token_id": origin.get("bos_token_id"),
        "pad_token_id": origin.get("pad_token_id"),
        "eos_token_id": run.corpus.built_tokenizer.separator[1] if real else None,
        "ablate": {
            "attention": str(objective.reading.kind),
            "size": objective.reading.size,
            "offset": objective.offset,
            "tokens": len(vocabulary),
            "objective": objective.label,
            "regime": run.regime.name,
            "run": run.manifest["config_fingerprint"],
        },
    }
    if objective.noisy or not objective.left_to_right:
        said["auto_map"] = {"AutoModelForCausalLM": f"{Path(MODELLING).stem}.{DIFFUSION}"}
    return said


def _origin(run: Finished) -> dict[str, Any]:
    """config.json of the checkpoint that the run began at; nothing where it began at none, or where that is gone."""
    try:
        return read_config(folder_of(run.config["init"])) if run.config.get("init") else {}
    except ValueError:
        return {}


def _chat_template(run: Finished) -> str:
    """That of the checkpoint that the run began at: a file of its own, else in the tokenizer's settings, which may have
    several by name; "" for none."""
    if not _origin(run):
        return ""
    folder = folder_of(run.config["init"])
    with suppress(OSError, ValueError):
        return read_bytes(folder / TEMPLATE, LARGEST_TEMPLATE).decode()
    with suppress(OSError, ValueError, AttributeError, TypeError, KeyError):
        found = read_json(folder / "tokenizer_config.json").get("chat_template")
        named = {"default": found} if isinstance(found, str) else {one["name"]: one["template"] for one in found}
        return str(named["default"])
    return ""


def _generation(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of transformers' own `generate`, which must not choose MASK."""
    kept = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return {**kept, "do_sample": False, "suppress_tokens": [config["mask_token_id"]]}


def _symbols(run: Finished, config: Mapping[str, Any]) -> dict[str, Any]:
    """Files that say what ids mean: a tokenizer, or the symbols of a world, which has none."""
    if run.corpus.vocabulary.bytes_V is None:
        return {VOCABULARY: run.corpus.vocabulary.symbols}
    return tokenizer_files(run.corpus.built_tokenizer, config["max_position_embeddings"])


def write_weights(folder: Path, weights: dict[str, Tensor], dtype: str) -> None:
    """model.safetensors, or shards of at most SHARD bytes (of one tensor at least) and their index."""
    import torch

    kind: torch.dtype = getattr(torch, dtype)
    shards: list[list[str]] = [[]]
    filled = total = 0
    for name, tensor in weights.items():
        size = tensor.numel() * kind.itemsize
        if shards[-1] and filled + size > SHARD:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled, total = filled + size, total + size
    places = {}
    for i, shard in enumerate(shards, 1):
        file = SAFE if len(shards) == 1 else f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        part = {name: weights[name].to(kind).contiguous() for name in shard}
        write_safetensors(folder / file, part, {"format": "pt"})
        places |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / f"{SAFE}.index.json").write_text(json.dumps(index, indent=1))


if __name__ == "__main__":
    guarded(main)

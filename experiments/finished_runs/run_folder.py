"""A finished run read back from its folder: its configs out of config.yaml, and what its manifest says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.core.corpus import Corpus, Split
from ablate.core.manifest import MANIFEST, load
from ablate.model.config import ModelConfig
from ablate.model.rope import RopeScaling
from ablate.noise.schedules import Noise
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.in_turn import InTurn
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.problem import Objective
from ablate.objectives.regime import MaskWarmup, Regime, Stage
from ablate.training.run_files import read_config
from ablate.training.run_manifest import COMPLETE, RunError
from experiments.presets.corpus_presets import CORPORA


@dataclass(frozen=True)
class Finished:
    """What a finished run was. config: the whole of its config.yaml; manifest: likewise."""

    folder: Path
    corpus: Any
    shape: ModelConfig
    regime: Regime
    config: dict[str, Any]
    manifest: dict[str, Any]

    @property
    def objective(self) -> Objective:
        """As which the network was trained last, and is read."""
        return self.regime.stages[-1].objective

    def of(self, split: Split) -> Corpus:
        """Its corpus under another split."""
        return dataclasses.replace(self.corpus, split=split)


def read(folder: Path) -> Finished:
    """The run of a folder. Raises RunError where there is none, where it has not come to its end, and where its corpus
    now has other data than it was trained on."""
    try:
        config = read_config(folder)
        manifest = load(folder / MANIFEST, {"status": str, "data": {...: str}})
        status, trained_on = manifest["status"], manifest["data"]
        corpus, regime, shape = (config_of(config[name], name) for name in ("corpus", "regime", "model"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise RunError(
            f"{folder}: wanted the folder of a run, with config.yaml and manifest.json, got none that can "
            f"be read ({reason}); type runs/NAME"
        ) from None
    if status != COMPLETE:
        raise RunError(
            f"{folder}: wanted a finished run, got one that is {status}; type its command again: "
            f"{manifest.get('command', 'python experiments/run.py ...')}"
        )
    if trained_on[f"{corpus.domain}/{corpus.split}"] != corpus.fingerprint():
        raise RunError(
            f"{folder}: wanted the data that it was trained on, whose tokens the network knows, got other "
            "data of the same corpus; restore them"
        )
    return Finished(folder, corpus, shape, regime, config, manifest)


def config_of(value: Any, name: str = "") -> Any:
    """A config out of what `store.describe` made of it. Raises KeyError, TypeError or ValueError for others."""
    if isinstance(value, list):
        return [config_of(one) for one in value]
    if not isinstance(value, dict):
        return value
    if name == "rope_scaling":  # its own `kind` stands where others have the name of their class
        return RopeScaling(**value)
    fields = {key: config_of(one, key) for key, one in value.items() if key != "kind"}
    return {kind.__name__: kind for kind in _kinds()}[value["kind"]](**fields)


def _kinds() -> Iterator[type]:
    yield from (ModelConfig, Regime, Stage, MaskWarmup, Autoregressive, MaskedDiffusion, BlockDiffusion, InTurn)
    yield from (type(corpus) for corpus in CORPORA.values())
    families = [Noise]
    while families:
        family = families.pop()
        families += family.__subclasses__()
        yield family

"""A run's folder: whose it is, what is known of the run, and when it must not be touched."""

from __future__ import annotations

import sys
from typing import Any

from ablate.compute.device import attention_form
from ablate.core.corpus import SPLITS, Domain
from ablate.core.manifest import MANIFEST, NUMBER, load
from ablate.core.provenance import code_version, description, packages, source_hash
from ablate.core.storage import Damaged
from ablate.core.validation import UsageError
from ablate.text.corpora import RealText
from ablate.training.run_config import Run

COMPLETE, FAILED = "complete", "failed"  # statuses of a run that has ended
LAYOUT = 2  # of a run's folder; 1 was that of before classes and keys were renamed, and had no number
SECONDS = ("wall_seconds", "cpu_seconds", "evaluation_seconds")
SHAPE = {
    **dict.fromkeys(("status", "config_fingerprint", "source", "instructions"), str),
    **dict.fromkeys(SECONDS, NUMBER),
    "data": {...: str},
    "packages": {...: str},
}


class RunError(UsageError):
    """A run that cannot go on in its folder, or begin where it was told to; the message says what to type."""


def new_manifest(run: Run) -> dict[str, Any]:
    """What is known of a resolved run before its first step."""
    return {
        "status": "new",
        "layout": LAYOUT,
        "command": " ".join(sys.argv),
        "config_fingerprint": run.fingerprint(),
        "stage_steps": run.stage_steps,
        "grids": [str(grid) for grid in run.grids],
        "byte_scale": byte_scales(run),
        "origin": run.origin if run.init else "",
        "initial_weights": None,
        **circumstances(run),
        "attention_form": str(attention_form(run.device, run.precision)),
        "code": code_version(),
        "machine": description(),
        **dict.fromkeys(SECONDS, 0.0),
    }


def byte_scales(run: Run) -> dict[str, float]:
    """By split of real text: the bytes of its texts over those that its tokens stand for by themselves."""
    splits = {f"{d}/{s}": run.corpus_for(d, s) for d in Domain for s in SPLITS}
    return {name: corpus.byte_scale for name, corpus in splits.items() if isinstance(corpus, RealText)}


def read_manifest(run: Run) -> dict[str, Any] | None:
    """The manifest in a resolved run's folder; None where the folder is new.

    Raises RunError if the folder is another run's, holds other files, or was begun with other code or data.
    """
    folder, path = run.folder, run.folder / MANIFEST
    if not path.exists():
        if folder.is_file() or (folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir())):
            raise RunError(
                f"out={folder}: wanted a new folder or that of an earlier run, got other files; type out=PATH"
            )
        return None
    try:
        manifest = load(path, SHAPE)
    except Damaged as damage:
        raise RunError(f"{damage}; delete {folder} or type out=PATH") from None
    theirs = manifest["config_fingerprint"]
    if manifest.get("layout") != LAYOUT:
        raise RunError(
            f"out={folder}: wanted a run that this version began, got one of an earlier version, which is not resumed; "
            "type out=PATH"
        )
    if theirs != run.fingerprint():
        raise RunError(
            f"out={folder}: wanted the configuration {run.fingerprint()[:8]}, got a folder that holds {theirs[:8]} "
            "(compare its config.yaml with --cfg job); type out=PATH"
        )
    now = circumstances(run)
    # what a finished run was made with is history, but its data are part of the question that is asked again
    for what in ("data",) if manifest["status"] == COMPLETE else now:
        if manifest[what] != now[what]:
            raise RunError(
                f"out={folder}: wanted the {what} that it was begun with, got other {what}, which would mix two "
                "experiments; delete it or type out=PATH"
            )
    return manifest


def is_complete(run: Run) -> bool:
    """Has this very run ended well, by the manifest in its folder?"""
    try:
        manifest = load(run.folder / MANIFEST, SHAPE)
    except Damaged:
        return False
    return (manifest["status"], manifest["config_fingerprint"]) == (COMPLETE, run.fingerprint())


def circumstances(run: Run) -> dict[str, Any]:
    """What, apart from its configuration, determines a run's numbers."""
    import torch

    return {
        "data": {f"{d}/{s}": run.corpus_for(d, s).fingerprint() for d in Domain for s in SPLITS},
        "source": source_hash(run.corpus),
        "packages": packages(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }

"""A run's folder: whose it is, what is known of the run, and when it must not be touched."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ablate.corpus import Domain, Split
from ablate.machine import code_version, description, packages
from ablate.run import Run, source_hash
from ablate.store import write_bytes

COMPLETE = "complete"


class RunError(ValueError):
    """A run that cannot go on in its folder; the message says what to type."""


def new_manifest(run: Run) -> dict[str, Any]:
    """What is known of a resolved run before its first step."""
    return {
        "status": "new",
        "command": " ".join(sys.argv),
        "config_fingerprint": run.fingerprint(),
        "data": data_fingerprints(run),
        "initial_weights": None,
        "source": source_hash(run.corpus),
        "code": code_version(),
        "packages": packages(),
        "machine": description(),
        "wall_seconds": 0.0,
        "cpu_seconds": 0.0,
        "evaluation_seconds": 0.0,
    }


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    write_bytes(folder / "manifest.json", json.dumps(manifest, indent=1).encode())


def data_fingerprints(run: Run) -> dict[str, str]:
    """Fingerprint of each law of the run's corpus."""
    return {f"{d}/{s}": run.law(d, s).fingerprint() for d in Domain for s in Split}


def read_manifest(run: Run) -> dict[str, Any] | None:
    """The manifest in a resolved run's folder; None where the folder is new.

    Raises RunError if the folder is another run's, holds other files, or was begun with other code or data.
    """
    folder, path = run.folder, run.folder / "manifest.json"
    if not path.exists():
        if folder.is_file() or (folder.is_dir() and any(p.name != ".lock" for p in folder.iterdir())):
            raise RunError(
                f"out={folder}: wanted a new folder or that of an earlier run, got other files; type out=PATH"
            )
        return None
    try:
        manifest = json.loads(path.read_text())
        theirs, status, source, data = (manifest[k] for k in ("config_fingerprint", "status", "source", "data"))
    except (ValueError, KeyError, TypeError):
        raise RunError(
            f"{path}: wanted the manifest of a run, got a damaged file; delete {folder} or type out=PATH"
        ) from None
    if theirs != run.fingerprint():
        raise RunError(
            f"out={folder}: wanted the configuration {run.fingerprint()[:8]}, got a folder that holds {theirs[:8]} "
            "(compare its config.yaml with --cfg job); type out=PATH"
        )
    if status != COMPLETE:
        for what, then, now in (("code", source, source_hash(run.corpus)), ("data", data, data_fingerprints(run))):
            if then != now:
                raise RunError(
                    f"out={folder}: was begun with other {what}, so going on would mix two experiments; "
                    "delete it or type out=PATH"
                )
    return manifest

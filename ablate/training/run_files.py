"""What a finished run leaves and vouches for: records and configuration, given back from its checkpoint where they are
lost or damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from rich.console import Console

from ablate.core import records
from ablate.core.foreign_files import require_size
from ablate.core.manifest import is_vouched, read_vouched, replace
from ablate.core.storage import Damaged, describe, file_hash, write_bytes
from ablate.training.checkpoint import FOLDER, final, read_plain
from ablate.training.checkpoint_writer import recover
from ablate.training.run_config import Run
from ablate.training.run_manifest import RunError

CONFIG, MOST = "config.yaml", 2**22  # bytes; a run's has a few thousand


def write_config(run: Any) -> None:
    """The resolved configuration of a run or of a survey, in its folder."""
    write_bytes(run.folder / CONFIG, _as_yaml(run))


def read_config(folder: Path) -> dict[str, Any]:
    """A run's configuration as plain values. Raises Damaged where it is not what the run's manifest vouches for, or was
    not written by a run."""
    file = folder / CONFIG
    try:
        require_size(file, MOST)
        text = read_vouched(file).decode()
        # a run writes none, and a few of them stand for more than memory holds
        aliases = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader))
        config = None if aliases else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Damaged(f"{file}: wanted a run's configuration, got none that can be read ({reason})") from None
    if not isinstance(config, dict):
        raise Damaged(f"{file}: wanted a run's configuration, got other content")
    return config


def hashes(folder: Path) -> dict[str, str]:
    """Hashes of what a finished run's manifest vouches for."""
    return {name: file_hash(folder / name) for name in (records.FILE, CONFIG)}


def repair(run: Run, manifest: dict[str, Any], console: Console) -> None:
    """Gives a finished run the files back that it lost or that are damaged, and says so.

    Raises RunError where its last checkpoint, which has the rows, is lost or damaged too.
    """
    lost = [name for name, right in _right(run.folder).items() if not right]
    if not lost:
        return
    recover(run.folder / FOLDER)
    try:
        path = final(run.folder)
    except RunError as error:
        raise RunError(
            f"{run.folder / lost[0]}: lost or damaged, and so is the checkpoint that it is restored from ({error}); "
            f"delete {run.folder} and type the same command, or type out=PATH"
        ) from None
    rows = records.writer(records.with_protocols(pd.DataFrame(read_plain(run, path)["rows"])))
    files: dict[str, Callable[[Path], object]] = {records.FILE: rows, CONFIG: lambda to: to.write_bytes(_as_yaml(run))}
    replace(run.folder, files, manifest)
    line = f"{run.folder}: {', '.join(lost)} lost or damaged; restored from checkpoint {path.name}"
    console.print(line, soft_wrap=True, markup=False)


def _right(folder: Path) -> dict[str, bool]:
    try:
        records.read(folder)
    except ValueError:
        rows = False
    else:
        rows = True
    return {records.FILE: rows, CONFIG: (folder / CONFIG).exists() and is_vouched(folder / CONFIG)}


def _as_yaml(run: Any) -> bytes:
    return yaml.safe_dump(describe(run), sort_keys=False).encode()

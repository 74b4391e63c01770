"""Where a command may write: asked before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path

from ablate.core.validation import UsageError


def require_place(folder: Path, key: str) -> None:
    """A folder that is there or can be made. Raises UsageError else."""
    there = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
    if not there.is_dir() or not os.access(there, os.W_OK) or str(there.resolve()).startswith("/proc"):
        raise UsageError(f"{key}={folder}: wanted a folder that can be written, got {there}; type {key}=PATH")

"""Provenance: the versions, the machine and the source code that a result was made with."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ablate.core.corpus import Corpus

PACKAGES = ("torch", "lightning", "numpy", "scipy", "pandas", "pyarrow", "hydra-core", "tokenizers", "safetensors")


def packages() -> dict[str, str]:
    """Installed versions of what results depend on."""
    versions = {name: _version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **{name: found for name, found in versions.items() if found}}


@functools.cache  # a study asks for every run
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def description() -> dict[str, Any]:
    """The machine, in words and numbers."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
    }


def peak_memory() -> int:
    """The most bytes of memory that this process has had. The system counts KB, macOS bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def code_version() -> dict[str, Any]:
    """Commit of the source folder and whether files differ from it; None outside a git checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        command = ["git", *arguments]  # the first on the user's own path
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changed = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changed is None else bool(changed)}


def source_hash(corpus: Corpus) -> str:
    """Hash of the code that decides what is computed: this whole package and the corpus's own, at any depth."""
    return _hash_of(frozenset(x.__module__.partition(".")[0] for x in (packages, type(corpus))))


@functools.cache  # a process computes with the code that it has loaded, and a study asks for every run
def _hash_of(tops: frozenset[str]) -> str:
    hashed = hashlib.sha256()
    for top in sorted(tops):
        root = Path(sys.modules[top].__file__ or __file__).parent
        for path in sorted(root.rglob("*.py")):
            hashed.update(f"{top}/{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return hashed.hexdigest()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )

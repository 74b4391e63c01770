"""Child processes: fresh interpreters that find the modules that this one finds, and none in the current folder.

A folder of data is the current folder of many a command, and may hold a pickle.py. Every process that is started with
Python's own executable is started by way of this file, or with `-P`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.context import SpawnContext


def python(code: str) -> tuple[list[str], dict[str, str]]:
    """The command that runs this code in a new interpreter, and the environment that it needs."""
    path = os.pathsep.join(filter(None, sys.path))
    return [sys.executable, "-P", "-c", code], {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": path}


def spawning() -> SpawnContext:
    """The start method `spawn` of multiprocessing. From now on every child of this process has a safe path.

    Its children begin with `python -c`, before they are told of this process's path.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    return multiprocessing.get_context("spawn")

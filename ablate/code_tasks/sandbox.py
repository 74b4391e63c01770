"""A sandbox for programs that a model wrote: `judge` says whether one passes its tests, whatever it does instead.

A program has two parts. The solution is not trusted: it runs in a process of its own. The tests run in another, call it
and decide. Both have no rights, no network and no files but the interpreter's; docs/benchmarks.md lists what that keeps
out.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.code_tasks.namespaces import SCRATCH
from ablate.core.storage import digest
from ablate.core.validation import UsageError, require_ranges

ENDED = "the launcher was ended from outside"
GRACE = 10  # seconds beyond the wall time that the launcher has to end what is left
START = "import json, sys; sys.path.append({root!r}); from ablate.code_tasks.launcher import main; "
START += "sys.path.pop(); main(json.loads(sys.argv[1]))"
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "PYTHONUTF8": "1"}
RANGES = {"seconds": (1, 3600), "wall_seconds": (1, 36000), "memory": (2**26, 2**40), "processes": (1, 4096)}
RANGES |= {"file_bytes": (2**12, 2**36), "output": (2**10, 2**31)}


@dataclass(frozen=True)
class Limits:
    """What a program may use. Raises ValueError for values out of range.

    seconds: CPU time of one process of the solution; tests have wall_seconds. memory: bytes of address space of one
    process. file_bytes: of one file, and of the scratch folder in all. output: bytes of one answer to the tests; what
    is printed goes nowhere.
    """

    seconds: int = 5
    wall_seconds: int = 30
    memory: int = 2**30
    processes: int = 8
    file_bytes: int = 2**24
    output: int = 2**24

    def __post_init__(self) -> None:
        require_ranges(self, RANGES)


@dataclass(frozen=True)
class Program:
    """A solution, which is not trusted, and what a benchmark adds: the tests, and helpers that these lean on. Of all
    names that both define the tests take those of the helpers, but for the entry point."""

    solution: str
    tests: str
    helpers: str = ""
    entry_point: str = ""

    def fingerprint(self, limits: Limits) -> str:
        """Hash of all that its verdict depends on."""
        return digest([dataclasses.asdict(self), dataclasses.asdict(limits)])


@dataclass(frozen=True)
class Outcome:
    """Whether a program has passed; a reason of one line if not; seconds of wall time, its start included. refused: why
    there was no sandbox, so that nothing is known of the program."""

    passed: bool
    reason: str = ""
    seconds: float = 0.0
    refused: str = ""


# Imports what no part of us does, so that it needs an interpreter whose files can be read
TRIAL = Program("import decimal\n\ndef f(x):\n    return int(decimal.Decimal(x)) + 1\n", "assert f(1) == 2\n")


def judge(program: Program, limits: Limits | None = None, unsafe: bool = False) -> Outcome:
    """Runs a program. Raises nothing for what it does. unsafe: without namespaces, so that it has a network, sees
    files and may leave processes behind."""
    if sys.platform != "linux":
        return Outcome(False, refused=f"wanted Linux, whose namespaces it is made of, got {sys.platform}")
    limits, start = limits or Limits(), time.monotonic()
    with _scratch(unsafe) as scratch:
        said = _launched(program, limits, unsafe, scratch)
    try:
        found = json.loads(said)
        passed, reason, refused = found.get("passed") is True, found.get("reason", ""), found.get("refused", "")
    except (ValueError, AttributeError):  # no program in namespaces can have done this
        passed, reason, refused = False, ENDED, "" if unsafe else ENDED
    seconds = round(time.monotonic() - start, 3)
    return Outcome(passed, " ".join(ascii(str(reason))[1:-1].split()), seconds, refused)


def require_sandbox(limits: Limits, unsafe: bool) -> None:
    """Raises UsageError where this machine has no sandbox, or none in which a right program passes."""
    found = judge(TRIAL, limits, unsafe)
    if found.refused:
        raise UsageError(
            f"sandbox: wanted namespaces of its own, got {found.refused}; allow user namespaces, or type unsafe=true "
            "on a machine that you can lose"
        )
    if not found.passed:
        raise UsageError(
            f"sandbox: wanted an interpreter that works for a user without rights, got {found.reason}; install Python "
            "where every user can read it"
        )


@contextmanager
def _scratch(unsafe: bool) -> Iterator[str]:
    """Where a program may write: in memory, or a folder that is removed afterwards."""
    if not unsafe:
        yield SCRATCH
        return
    with tempfile.TemporaryDirectory(prefix="ablate-judged-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o777)  # nosec B103 - nobody's, for as long as the program runs
        yield folder


def _launched(program: Program, limits: Limits, unsafe: bool, scratch: str) -> bytes:
    """What the launcher prints; nothing where it did not come to an end."""
    asked: dict[str, Any] = {"limits": dataclasses.asdict(limits), "unsafe": unsafe, "scratch": scratch}
    packages = sysconfig.get_paths()["purelib"]
    folders = dict.fromkeys([sys.base_prefix, os.path.realpath(sys.base_prefix), packages, os.path.realpath(packages)])
    asked |= {"parent": os.getpid(), "packages": [packages], "folders": [*folders]}
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-P", "-s", "-S", "-B", "-c", START.format(root=root), json.dumps(asked)]
    environment = ENVIRONMENT | {"HOME": scratch, "TMPDIR": scratch}
    content = json.dumps(dataclasses.asdict(program)).encode()
    try:
        done = subprocess.run(
            command,
            input=content,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=limits.wall_seconds + GRACE,
            start_new_session=True,
            check=False,
        )
    except OSError as error:
        return json.dumps({"refused": str(error)}).encode()
    except subprocess.TimeoutExpired:
        return json.dumps({"reason": "its limit of wall time has passed, and it was slow to end"}).encode()
    return done.stdout

"""What is started for each judged program: it makes the sandbox, keeps the time, and ends all that is left in it.

    sandbox.judge -> launcher -> (new namespaces) -> tests' process -> solution's process

Run by a Python without site-packages; see `sandbox.judge`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ablate.code_tasks import namespaces
from ablate.code_tasks.judged_process import judged

LONGEST_VERDICT = 2**16  # bytes


def main(asked: dict[str, Any]) -> None:
    """Prints a verdict of one line, as `judged` writes it, or {"refused": reason}. What is asked: see `sandbox`."""
    deadline = time.monotonic() + asked["limits"]["wall_seconds"]
    sys.set_int_max_str_digits(0)  # a program's whole numbers have as many digits as they like
    os.umask(0o022)  # what is made here is read by a user without rights
    namespaces.die_with_parent()
    if os.getppid() != asked["parent"]:
        return
    try:
        namespaces.adopt_orphans()
        if os.getuid() == 0:
            os.setgroups([])
        pipe = os.pipe()
        child = os.fork() if asked["unsafe"] else _in_namespaces(asked, pipe)
    except OSError as error:
        line = _refusal(error)
    else:
        if child == 0:
            _judged(asked, *pipe)
        os.close(pipe[1])
        line = _line(pipe[0], deadline)
    _end_all()
    print(line or json.dumps({"passed": False, "reason": "the tests ended without a verdict"}))


def _line(descriptor: int, deadline: float) -> str:
    """The verdict; "" where none was made."""
    found = b""
    while not found.endswith(b"\n") and len(found) < LONGEST_VERDICT:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return json.dumps({"passed": False, "reason": "its limit of wall time has passed"})
        piece = os.read(descriptor, LONGEST_VERDICT)
        if not piece:
            return ""
        found += piece
    return found.decode().strip()


def _in_namespaces(asked: dict[str, Any], pipe: tuple[int, int]) -> int:
    """Forks twice: the first child gets new namespaces and waits for its own, which is the first process in there.
    Returns 0 in that one, here the child that waits."""
    unshared, mapped = os.pipe(), os.pipe()
    waiting = os.fork()
    if waiting:
        os.close(unshared[1])
        if os.read(unshared[0], 1):
            namespaces.map_users(waiting)
            os.write(mapped[1], b"1")
        os.close(mapped[1])
        return waiting
    os.close(mapped[1])
    os.close(pipe[0])
    with _refusing(pipe[1]):
        namespaces.die_with_parent()
        namespaces.first_to_go()
        namespaces.unshare()
        os.write(unshared[1], b"1")
        if not os.read(mapped[0], 1):
            os._exit(1)
        namespaces.new_root(asked["folders"], asked["limits"]["file_bytes"])
        first = os.fork()
    if first:
        os.close(pipe[1])
        os.waitpid(first, 0)
        os._exit(0)
    return 0


def _judged(asked: dict[str, Any], read: int, write: int) -> NoReturn:
    """In the process of the tests, which gives up its rights first."""
    limits, alone = asked["limits"], not asked["unsafe"] or os.getuid() == 0
    with _refusing(write):
        if asked["unsafe"]:
            os.close(read)
        os.chdir(asked["scratch"])
        namespaces.become_nobody()
        namespaces.limit(limits, alone)
        namespaces.die_with_parent()  # the change of user has forgotten it
        os.write(write, b" ")  # fails where the launcher has died before
    try:
        judged(0, write, limits, asked["packages"])
    finally:
        os._exit(0)


@contextmanager
def _refusing(write: int) -> Iterator[None]:
    """Ends this process with the reason why there is no sandbox."""
    try:
        yield
    except OSError as error:
        os.write(write, _refusal(error).encode() + b"\n")
        os._exit(1)


def _refusal(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return json.dumps({"refused": f"{where}{error.strerror or error}"})


def _end_all() -> None:
    """Kills every process that came of this one, until there is none: a child's orphans come here."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    while True:
        for process in listed.read_text().split():
            os.kill(int(process), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return

"""How every command ends: its exit code, and one line for whatever stopped it."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

from ablate.core.interruption import INTERRUPTED, TERMINATED, Terminated, listen
from ablate.core.storage import ADVICE, WriteError
from ablate.core.validation import UsageError

BAD_INPUT, FAULT = 2, 70  # exit codes; the latter is EX_SOFTWARE of sysexits.h
GO_ON = "the same command goes on from the last checkpoint, where there is one"


def guarded(start: Callable[[], int | None]) -> NoReturn:
    """Starts a command and exits with what it returns.

    Else with 2 for what cannot be done, 70 for a fault of the program, 130 at Ctrl-C, 143 at SIGTERM and SIGUSR1; each
    is one line on stderr. The traceback of a fault is kept in a file, which the line names.
    """
    listen()
    try:
        code = start() or 0
        sys.stdout.flush()
    except SystemExit:
        raise
    except BrokenPipeError:  # whoever read the output has left, such as `head`
        _silence(sys.stdout)
        code = 0
    except BaseException as error:  # a library in Rust panics with what is no Exception
        code = _told(_asked_to_stop(error) or error)
        try:
            sys.stdout.flush()
        except OSError:
            _silence(sys.stdout)
    sys.exit(code)


def _told(error: BaseException) -> int:
    """The line for what stopped a command; returns the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return _say(f"interrupted; {GO_ON}", INTERRUPTED)
    if isinstance(error, Terminated):
        return _say(f"terminated; {GO_ON}", TERMINATED)
    if isinstance(error, UsageError):
        return refuse(error)
    return refuse(described(error)) if isinstance(error, OSError) else _say(f"error: {_kept(error)}", FAULT)


def _asked_to_stop(error: BaseException | None) -> BaseException | None:
    """The signal that came first, where a library that it stopped then failed in its own way."""
    while error is not None and not isinstance(error, KeyboardInterrupt | Terminated):
        error = error.__context__
    return error


def refuse(reason: Any) -> int:
    """Says in one line what cannot be done; returns the exit code."""
    return _say(f"error: {reason}", BAD_INPUT)


def described(error: OSError) -> str:
    """What the system refused: where, what was wanted, what came, what to type."""
    if isinstance(error, WriteError):
        return str(error)
    where = f"{error.filename}: wanted to use it" if error.filename else "wanted to use a file"
    reason = error.strerror or str(error) or type(error).__name__
    return f"{where}, got: {reason}; {ADVICE.get(error.errno or 0, 'name another place')}"


def _say(line: str, code: int) -> int:
    if os.environ.get("RANK", "0") == "0":  # of several processes one says it
        try:
            print(" ".join(line.split()), file=sys.stderr, flush=True)
        except OSError:  # a log on a full disk; the code says it still
            _silence(sys.stderr)
    return code


def _silence(stream: TextIO) -> None:
    """Leads to nowhere what is still to be written, so that its failure does not become the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _kept(error: BaseException) -> str:
    """Writes the traceback to a file; says what happened and where that lies."""
    told = f"{type(error).__name__}: {error}; this is a fault of the program"
    try:
        number, path = tempfile.mkstemp(prefix="ablate-fault-", suffix=".txt", text=True)
        with os.fdopen(number, "w") as file:
            print(shlex.join(sys.argv), sys.version, "", traceback.format_exc(), sep="\n", file=file)
    except OSError:
        return f"{told}, and its traceback could not be kept; please open an issue with this line and the command"
    return f"{told}; please open an issue with {path}, which holds its traceback and the command"

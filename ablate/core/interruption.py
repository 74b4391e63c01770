"""Signals that ask a command to stop: SIGTERM of a system or its user, SIGUSR1 of a batch queue before it takes a
machine back.

A command listens from its start. It ends at once with `Terminated`, but in training, which `deferred` lets finish its
step and keep it. Ctrl-C is another thing: it ends at once everywhere.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
INTERRUPTED, TERMINATED = 130, 143  # exit codes at Ctrl-C and at these signals, as shells give them


class Terminated(BaseException):
    """A signal asked this process to stop. No Exception, so that nothing takes it for a fault."""


class _Signals:
    """What this process has heard: signals are the process's own, so there is one."""

    listening = False
    deferring = False
    asked = False


def listen() -> None:
    """From here on each of `SIGNALS` raises Terminated, or waits in `deferred`. For the main thread alone."""
    for number in SIGNALS:
        signal.signal(number, _hear)
    _Signals.listening = True


def listen_again() -> None:
    """Takes the signals back where a library has put its own handlers over those of `listen`."""
    if _Signals.listening:
        listen()


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, the first signal is only noted (see `asked`); a second one does not wait. One that was noted raises
    Terminated at the end of the block."""
    _Signals.deferring, _Signals.asked = True, False
    try:
        yield
        if _Signals.asked:
            raise Terminated
    finally:
        _Signals.deferring = False


def asked() -> bool:
    """Has a signal been noted?"""
    return _Signals.asked


def _hear(number: int, frame: Any) -> None:
    if not _Signals.deferring or _Signals.asked:
        raise Terminated
    _Signals.asked = True

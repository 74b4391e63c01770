"""SIGINT and SIGTERM of commands at work: one exit code each, nothing left running, and the same command goes on."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from tests.torture.commands import COMMANDS, Command, output_of
from tests.torture.counts import number, part
from tests.torture.judge import TRACE
from tests.torture.warm import start

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
BEGUN = 0.1  # seconds: before, a command has not yet said what a signal means to it
SOON = 30  # seconds in which it must have ended


@pytest.mark.parametrize(
    "command", [COMMANDS[name] for name in ("run", "pack", "study", "sweep")], ids=lambda one: one.name
)
@pytest.mark.parametrize("stop", CODES, ids=lambda one: one.name)
def test_a_signal_stops_and_the_same_command_goes_on(command: Command, stop: signal.Signals, tmp_path: Path) -> None:
    draw = random.Random(f"{command.name} {stop}")
    seconds = command.calm[2]
    with part(f"signals: {stop.name} of {command.name}") as tried:
        for _ in range(number(command.share)):
            moment = draw.uniform(BEGUN, seconds)
            with tried.case(f"after {moment:.3f} of {seconds:.3f} s"):
                place = command.laid(tmp_path / "place")
                child = start(command.work(place), output_of(place))
                time.sleep(moment)
                child.send(stop)
                ended = child.wait(SOON)
                assert ended.code in (0, CODES[stop]), ended.error
                assert TRACE not in ended.said, ended.error
                child.settle(SOON)
                command.require_unharmed(place)

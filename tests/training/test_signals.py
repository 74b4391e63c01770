"""SIGTERM and SIGUSR1 at a run: its step is kept, and the same run goes on from it as if nothing had been."""

import dataclasses
import json
import os
import signal

import pandas as pd
import pytest
from rich.console import Console

from ablate.core import interruption, records
from ablate.core.interruption import SIGNALS, Terminated
from ablate.training import checkpoint
from ablate.training.checkpoint import final_weights, weights_hash
from ablate.training.lightning_module import TrainingModule
from ablate.training.train import train
from tests.builders import tiny_run

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    run = tiny_run(tmp_path_factory.mktemp("unbroken"))
    train(run, QUIET)
    return run


@pytest.fixture
def listening():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    interruption.listen()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interruption._Signals.listening = False


def steps_of(unbroken):
    """A step between two pauses, a pause, and the last step of the first stage."""
    pauses, end = unbroken.pauses(), unbroken.stage_steps[0]
    between = next(s for s in range(pauses[0] + 1, end) if s not in pauses)
    return {"between": between, "pause": pauses[0], "end of stage": end}


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("when", ["between", "pause", "end of stage"])
def test_a_signal_keeps_the_step_in_progress(unbroken, listening, tmp_path, monkeypatch, number, when):
    run = dataclasses.replace(unbroken, out=str(tmp_path / "run"))
    stop, original, count = steps_of(unbroken)[when], TrainingModule.training_step, [0]

    def stopping(self, item, i):
        count[0] += 1
        if count[0] == stop:
            os.kill(os.getpid(), number)
        return original(self, item, i)

    monkeypatch.setattr(TrainingModule, "training_step", stopping)
    with pytest.raises(Terminated):
        train(run, QUIET)
    monkeypatch.undo()
    assert json.loads((run.folder / "manifest.json").read_text())["status"] == "interrupted"
    assert checkpoint.latest(run.folder).name.startswith(f"{stop:09d}-")
    train(run, QUIET)
    pd.testing.assert_frame_equal(records.read(run.folder), records.read(unbroken.folder))
    assert weights_hash(final_weights(run.folder)) == weights_hash(final_weights(unbroken.folder))


def deferring(signals):
    """Sends itself so many signals in a deferred block; returns how many were noted and not heeded."""
    noted = 0
    try:
        with interruption.deferred():
            for _ in range(signals):
                os.kill(os.getpid(), signal.SIGTERM)
                noted += interruption.asked()
    except Terminated:
        return noted
    return None


def test_one_signal_waits_for_the_block_and_a_second_one_does_not(listening):
    assert deferring(0) is None
    assert deferring(1) == 1
    assert deferring(2) == 1


def test_outside_of_training_a_signal_ends_at_once(listening):
    with pytest.raises(Terminated):
        os.kill(os.getpid(), signal.SIGUSR1)

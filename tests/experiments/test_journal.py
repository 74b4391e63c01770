"""A sweep's journal: half a line that a killed process left is cut away, and no trial is lost."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage

from ablate.core.storage import WriteError
from experiments.sweep_runner import trial_worker
from experiments.sweep_runner.journal_file import Journal
from tests.builders import full


def opened(path):
    return optuna.create_study(storage=JournalStorage(Journal(path)), study_name="x", load_if_exists=True)


def trial(study, value):
    asked = study.ask({"lr": optuna.distributions.FloatDistribution(0, 1)})
    asked.set_user_attr("long", "y" * 200)
    study.tell(asked, value)


def two_trials(folder):
    path = folder / "journal.log"
    study = opened(path)
    for value in (0.5, 0.25):
        trial(study, value)
    return path, study


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_a_torn_line_is_cut_wherever_it_was_torn(tmp_path):
    path, _ = two_trials(tmp_path)
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(last, len(whole), 7):
        path.write_bytes(whole[:end])
        again = opened(path)
        assert [t.value for t in again.trials] == [0.5, None], "the last line says that the second has ended"
        trial(again, 0.125)
        assert [t.value for t in opened(path).trials] == [0.5, None, 0.125]
        assert all(json.loads(line) for line in path.read_bytes().splitlines())
        assert path.read_bytes().startswith(whole[:last])


def test_no_flipped_bit_is_another_value(tmp_path):
    """It is named, or the line is as if it had not been written, or nothing has changed."""
    path, study = two_trials(tmp_path)
    whole = path.read_bytes()
    told = [[(t.params, t.value, t.user_attrs) for t in study.trials]]
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    told.append([(t.params, t.value, t.user_attrs) for t in opened(path).trials])
    refused = 0
    for at in range(0, len(whole), 3):
        content = bytearray(whole)
        content[at] ^= 1 << at % 8
        path.write_bytes(content)
        try:
            found = [(t.params, t.value, t.user_attrs) for t in opened(path).trials]
        except (ValueError, KeyError, AssertionError):
            refused += 1
        else:
            assert found in told, at
    assert refused > len(whole) / 6


def test_a_line_torn_beyond_a_block_and_a_first_line(tmp_path):
    path = tmp_path / "journal.log"
    study = opened(path)
    trial(study, 0.5)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":4,"worker_id":"' + b"x" * 200_000)
    trial(opened(path), 0.25)
    assert [t.value for t in opened(path).trials] == [0.5, 0.25]
    path.write_bytes(whole[:10])
    trial(opened(path), 0.25)
    assert [t.value for t in opened(path).trials] == [0.25]


def test_workers_that_write_at_once_after_a_torn_line_lose_nothing(tmp_path):
    path = tmp_path / "journal.log"
    opened(path)
    path.write_bytes(path.read_bytes() + b'{"op')

    def work(number):
        study = opened(path)
        for i in range(5):
            trial(study, number + i / 10)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert sorted(t.value for t in opened(path).trials) == [n + i / 10 for n in range(3) for i in range(5)]


def test_a_full_disk_names_the_journal_and_leaves_it_as_it_was(tmp_path):
    path = tmp_path / "journal.log"
    study = opened(path)
    trial(study, 0.5)
    before = path.read_bytes()
    said = r"journal.log: wanted to write it, got: File too large; raise the limit"
    with full(len(before) + 20), pytest.raises(WriteError, match=said):
        trial(study, 0.25)
    assert path.read_bytes() == before
    trial(opened(path), 0.125)
    assert [t.value for t in opened(path).trials] == [0.5, 0.125]


def test_the_lock_of_a_killed_process_is_free(tmp_path, monkeypatch):
    """Where the journal's path is relative, too: Optuna's own lock then held for ever."""
    monkeypatch.chdir(tmp_path)
    path = Path("journal.log")
    opened(path)
    pid = os.fork()
    if not pid:
        Journal(path)._lock.acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    begun = time.monotonic()
    opened(path).set_user_attr("a", 1)
    assert time.monotonic() - begun < 10
    assert opened(path).user_attrs == {"a": 1}


def test_a_worker_says_that_it_could_not_write_whatever_optuna_makes_of_it(tmp_path, capsys):
    class Worker:
        stop = print

        def go(self):
            study = opened(tmp_path / "journal.log")
            with full((tmp_path / "journal.log").stat().st_size + 400):
                study.optimize(lambda trial: trial.suggest_float("lr", 0, 1), n_trials=5)

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with pytest.raises(SystemExit):
            trial_worker.work(Worker())
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
    said = capsys.readouterr().err
    assert "journal.log: wanted to write it, got: File too large" in said
    assert len(said.splitlines()) == 1

"""Where a sweep's trials are kept: a journal file or a database, opened, claimed by one sweep and cleared of the dead.

A worker holds a lock on a file named after the trial that it is at, and the system frees the lock when it dies. So
whoever can have the lock of a running trial knows it to be dead, and asks for it again. Databases have Optuna's
heartbeat as well, for folders whose locks do not reach other machines.
"""

from __future__ import annotations

import json
import secrets
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ablate.core.rng import address
from ablate.core.storage import describe, lock, locked, write_bytes
from ablate.core.validation import UsageError
from experiments.sweep_runner.journal_file import Journal

if TYPE_CHECKING:
    from experiments.sweep_runner.search import Search

HEARTBEAT, GRACE = 15, 90  # seconds between signs of life, and after the last one
CONNECT = 10  # seconds for a database to answer
IDENTITY = ("seeds", "sampler", "pruner", "objectives", "words")  # fields that, with the space, make a sweep
FAULTS = (OptunaError, SQLAlchemyError)  # of a storage that does not answer
KILLED = "killed"  # of a trial that failed: a signal ended its run each time, and that says nothing of its values
DRIVERS = {"postgresql": "psycopg2-binary", "mysql": "mysqlclient"}
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ExperimentalWarning)
    retry = RetryHeartbeatStaleTrialCallback()  # puts a dead trial into the queue again; dead workers are not replaced


def place(search: Search) -> str:
    """Where the trials are, without user and password."""
    if not search.storage:
        return str(search.home / "journal.log")
    url = _url(search.storage)
    return URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database).render_as_string()


def open_study(search: Search) -> optuna.Study:
    """The sweep's trials so far. Raises UsageError where there is no such storage, where it does not answer and where
    it holds another sweep of this name."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)
    try:
        storage = _storage(search)
        search.home.mkdir(parents=True, exist_ok=True)
        with locked(search.home / "asking.lock"):
            study = optuna.create_study(
                study_name=search.title,
                storage=storage,
                load_if_exists=True,
                directions=["minimize" for _ in search.objectives],
            )
            _claim(study, search)
    except (*FAULTS, RuntimeError) as error:  # the last: tables of another version of Optuna
        raise fault(search, error) from None
    return study


def fault(search: Search, error: Exception) -> UsageError:
    """What a storage that does not answer says, in one line."""
    said = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    return UsageError(
        f"storage={place(search)}: wanted a database that answers, got {said[0].strip()}; start it, or "
        "leave storage out for a journal file"
    )


def _url(storage: str) -> URL:
    try:
        url = make_url(storage)
    except ArgumentError:
        raise UsageError(
            "storage: wanted an URL such as postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///FILE, "
            "got something else; leave storage out for a journal file"
        ) from None
    # SQLAlchemy 2.1 means psycopg 3 by the bare name, earlier ones psycopg 2
    return url.set(drivername="postgresql+psycopg2") if url.drivername == "postgresql" else url


def _storage(search: Search) -> BaseStorage:
    if not search.storage:
        return _journal(search.home / "journal.log")
    url = _url(search.storage)
    backend = url.drivername.partition("+")[0]
    arguments = {"connect_args": {"connect_timeout": CONNECT}} if backend in DRIVERS else {}
    try:
        return RDBStorage(
            url.render_as_string(hide_password=False),
            {"pool_pre_ping": True, **arguments},
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=retry,
        )
    except ImportError:
        extra = " or '.[postgres]'" if backend == "postgresql" else ""
        name = DRIVERS.get(backend, f"DRIVER-OF-{backend.upper()}")
        raise UsageError(
            f"storage={place(search)}: wanted the driver of {backend}, which is not installed; type "
            f"python -m pip install {name}{extra}"
        ) from None
    except ArgumentError as error:
        raise UsageError(
            f"storage={place(search)}: wanted a database that SQLAlchemy knows, got {error}; type "
            "storage=postgresql://USER@HOST/DATABASE or leave it out"
        ) from None


def _journal(path: Path) -> BaseStorage:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return JournalStorage(Journal(path))
    except (ValueError, KeyError, AssertionError):
        raise UsageError(
            f"{path}: wanted the journal of a sweep, got a damaged file; delete {path.parent}, whose runs "
            "are found again where they are, or type name=OTHER"
        ) from None


def identity(search: Search) -> dict[str, object]:
    """What a sweep asks; more trials make it longer, not another one."""
    content = describe(search)
    return {"parameters": content["sweep"]["parameters"], **{name: content[name] for name in IDENTITY}}


def _claim(study: optuna.Study, search: Search) -> None:
    """Says in the storage whose study this is, and where its locks are. Raises UsageError where it is another's."""
    token = search.home / "token"
    if not token.exists():
        write_bytes(token, secrets.token_hex(8).encode())
    ours = {name: json.dumps(value, sort_keys=True) for name, value in identity(search).items()}
    ours["folder"] = token.read_text(errors="replace")  # damaged, it is another's
    theirs = study.user_attrs
    if not study.trials and all(ours.get(name) == value for name, value in theirs.items()):
        for name in [name for name in ours if name not in theirs]:  # some are there where one was killed right here
            study.set_user_attr(name, ours[name])
        return
    other = [name for name, value in ours.items() if name not in theirs or theirs[name] != value]
    if other == ["folder"]:
        raise UsageError(
            f"storage={place(search)}: holds the sweep {search.title}, begun in another folder than "
            f"{search.home}, where its workers' locks are; type runs=FOLDER or name=OTHER"
        )
    if other:
        raise UsageError(
            f"{place(search)}: holds another sweep of the name {search.title} (other {', '.join(other)}); "
            "type name=OTHER"
        )


def sampler_of(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """What picks the values of trial `number`, whoever asks."""
    return SAMPLERS[str(search.sampler)](search, number)


def _tpe(search: Search, number: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=_seed(search, number), constant_liar=True)


def _grid(search: Search, _: int) -> optuna.samplers.BaseSampler:
    """The same shuffled grid for every worker."""
    values = {parameter.name: parameter.grid for parameter in search.sweep.parameters}
    return optuna.samplers.GridSampler(values, seed=_seed(search))


def _sobol(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """The same scrambled sequence for every worker; its first trial, which tells Optuna the space, is random."""
    first = optuna.samplers.RandomSampler(seed=_seed(search, number))
    return optuna.samplers.QMCSampler(
        qmc_type="sobol", scramble=True, seed=_seed(search), independent_sampler=first, warn_independent_sampling=False
    )


SAMPLERS = {"tpe": _tpe, "grid": _grid, "sobol": _sobol}


def pruner_of(search: Search, pauses: int) -> optuna.pruners.BasePruner:
    """Its resource is the probes of a trial, counted over seeds."""
    if search.pruner == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.HyperbandPruner(1, pauses * len(search.seeds), reduction_factor=3)


def _seed(search: Search, number: int = 0) -> int:
    return address(0, f"sweep/{search.title}", number) % 2**32


def standing(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count: not those which died and were asked for again."""
    again = {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}
    return [trial for trial in trials if trial.number not in again]


def lock_of(home: Path, number: int) -> Path:
    return home / "trials" / f"{number}.lock"


def clear(study: optuna.Study, home: Path) -> None:
    """Fails every running trial whose worker is dead, and asks for it again, first, so that none is lost. To be called
    by the holder of the lock on asking, so that none is about to get its lock."""
    optuna.storages.fail_stale_trials(study)
    trials = study.get_trials()
    counted = {trial.number for trial in standing(trials)}
    for trial in trials:
        if trial.state is not TrialState.RUNNING:
            continue
        handle = lock(lock_of(home, trial.number))
        if handle is not None:
            with handle:
                if trial.number in counted:
                    retry(study, trial)
                with suppress(ValueError, UpdateFinishedTrialError):  # its heartbeat was missed at the same moment
                    study.tell(trial.number, state=TrialState.FAIL)


def try_again(study: optuna.Study, home: Path) -> None:
    """Asks again for every trial that failed since its run was killed: the sweep's command has been typed again."""
    with locked(home / "asking.lock"):
        for trial in standing(study.get_trials()):
            if trial.state is TrialState.FAIL and trial.user_attrs.get(KILLED):
                retry(study, trial)

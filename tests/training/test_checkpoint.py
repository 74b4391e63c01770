"""Checkpoints: at no moment is no whole one there, whenever a process dies and whenever the next one dies too."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import wait
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata

from ablate.core import records
from ablate.core.manifest import write_manifest
from ablate.core.storage import Damaged, digest, file_hash
from ablate.training import checkpoint
from ablate.training.checkpoint import FOLDER, check, checkpoints, final_weights, latest, weights_hash
from ablate.training.checkpoint_writer import Writer
from ablate.training.run_manifest import RunError
from ablate.training.train import train
from tests.builders import BUDGET, tiny_run
from tests.dying import dying

QUIET = Console(quiet=True)


def write(folder: Path, *steps: int) -> None:
    """Checkpoints of so many steps, whose one tensor says which it is."""
    writer = Writer(folder / FOLDER, 0, 1)
    try:
        for step in steps:
            writer.write(f"{step:09d}-0", {"network": {"x": torch.full((3,), float(step))}}, {"step": step})
            writer.wait()
    finally:
        wait([writer.pending] if writer.pending else [])


def step_of(folder: Path) -> int:
    """That of the checkpoint that a resume would go on from, 0 for none; its tensor agrees."""
    path = latest(folder)
    if path is None:
        return 0
    step = checkpoint.load(path / "plain.ckpt")["step"]
    x = torch.empty(3)
    checkpoint.fill(path, {"network": {"x": x}})
    assert x.tolist() == [step] * 3
    return step


def operations(folder: Path, *steps: int) -> int:
    with dying(folder) as death:
        write(folder, *steps)
    return death.count


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / FOLDER).iterdir())


def test_the_last_two_stay_in_the_order_of_steps_and_stages(tmp_path):
    write(tmp_path, 1, 2, 3)
    assert names(tmp_path) == ["000000002-0", "000000003-0"]
    many = [tmp_path / f"{step}-{stage}" for step, stage in ((9, 2), (9, 10), (10**9, 0), (10**10, 0))]
    for path in reversed(many):
        path.mkdir()
    assert checkpoints(tmp_path) == many


def killed_twice(place: Path, first: int, second: int) -> int:
    """Three checkpoints by a process that dies at its `first` operation, then what is left of them by one that dies at
    its `second`, then by one that lives. The step that the second went on from."""
    folder = place / f"{first}.{second}"
    folder.mkdir(parents=True)
    with dying(folder, first):
        write(folder, 1, 2, 3)
    reached = step_of(folder)
    with dying(folder, second):
        write(folder, *range(max(reached, 1), 4))
    assert step_of(folder) >= reached, "a whole checkpoint was lost"
    write(folder, *range(max(step_of(folder), 1), 4))
    assert names(folder) == ["000000002-0", "000000003-0"]
    assert step_of(folder) == 3
    return reached


def test_no_checkpoint_is_lost_by_a_kill_around_its_replacement_and_another_in_the_resume(tmp_path):
    """The third checkpoint takes the first one's place."""
    first, last = (operations(tmp_path / str(steps), *steps) for steps in ((1, 2), (1, 2, 3)))
    assert last - first > 10
    reached = [killed_twice(tmp_path, at, 1 + at % 4) for at in range(first + 1, last + 1)]
    assert reached == sorted(reached)
    assert set(reached) == {2, 3}


@pytest.mark.slow
def test_no_checkpoint_is_lost_by_a_kill_at_any_operation_and_another_at_any_of_the_resume(tmp_path):
    total = operations(tmp_path / "whole", 1, 2, 3)
    tried = [killed_twice(tmp_path, first, second) for first in range(1, total + 1) for second in (1, 4, 9, 16)]
    assert set(tried) == {0, 1, 2, 3}


def test_a_whole_copy_under_a_hidden_name_is_taken_up(tmp_path):
    """What a process leaves that dies just before it renames, where the other copy is damaged or absent."""
    for damage in (lambda whole: (whole / "__0_0.distcp").unlink(), shutil.rmtree):
        write(tmp_path, 1)
        whole = latest(tmp_path)
        shutil.copytree(whole, whole.with_name(f".{whole.name}"))
        damage(whole)
        Writer(tmp_path / FOLDER, 0, 1)
        assert names(tmp_path) == [whole.name]
        assert step_of(tmp_path) == 1
        shutil.rmtree(tmp_path / FOLDER)


def test_a_whole_checkpoint_is_not_written_again_and_a_damaged_one_is(tmp_path):
    write(tmp_path, 1)
    path = latest(tmp_path)
    before = path.stat().st_ino
    write(tmp_path, 1)
    assert path.stat().st_ino == before
    (path / ".metadata").unlink()
    write(tmp_path, 1)
    check(path)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of several checkpoints that was killed just before its end was written down."""
    run = tiny_run(tmp_path_factory.mktemp("stopped"), budget=dataclasses.replace(BUDGET, evaluations=5))
    train(run, QUIET)
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert set(manifest.pop("files")) == {"records.parquet", "config.yaml"}
    write_manifest(run.folder, manifest | {"status": "running"})
    return run


def copy_of(run, folder):
    copy = dataclasses.replace(run, out=str(folder / "copy"))
    shutil.copytree(run.folder, copy.folder)
    return copy


def heard(run) -> str:
    console = Console(record=True, width=500, file=open("/dev/null", "w"))  # noqa: SIM115
    train(run, console)
    return console.export_text()


def require_same(run, other):
    pd.testing.assert_frame_equal(records.read(run.folder), records.read(other.folder))
    assert weights_hash(final_weights(run.folder)) == weights_hash(final_weights(other.folder))
    assert json.loads((run.folder / "manifest.json").read_text())["status"] == "complete"


def test_the_only_whole_copy_survives_the_resume_of_a_finished_unsealed_run(stopped, tmp_path):
    """The fault as it was found: the last checkpoint, hidden and whole; one part gone of that with its name."""
    run = copy_of(stopped, tmp_path)
    shutil.rmtree(checkpoints(run.folder / FOLDER)[0])
    (whole,) = checkpoints(run.folder / FOLDER)
    shutil.copytree(whole, whole.with_name(f".{whole.name}"))
    (whole / "__0_0.distcp").unlink()
    train(run, QUIET)
    require_same(run, stopped)


@pytest.mark.parametrize("file", ["checksums.json", "__0_0.distcp"])
def test_a_damaged_last_checkpoint_is_named_and_the_one_before_goes_on(stopped, tmp_path, file):
    run = copy_of(stopped, tmp_path)
    before, last = checkpoints(run.folder / FOLDER)
    (last / file).unlink()
    said = heard(run)
    assert f"{last}: wanted a whole checkpoint, got damaged content" in said
    assert f"going on from the last whole one, {before.name}" in said
    require_same(run, stopped)
    assert checkpoints(run.folder / FOLDER) == [before, last]


def test_no_whole_checkpoint_is_an_error_not_a_fresh_start(stopped, tmp_path):
    run = copy_of(stopped, tmp_path)
    for path in checkpoints(run.folder / FOLDER):
        (path / "checksums.json").unlink()
    files = sorted(run.folder.rglob("*"))
    with pytest.raises(RunError, match=r"no whole checkpoint is left: delete .* or type out=PATH"):
        train(run, QUIET)
    assert sorted(run.folder.rglob("*")) == files


class Made:
    """What calls a function when it is unpickled."""

    def __init__(self, function: object, *arguments: object):
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.function, self.arguments


def lists(folder: Path, metadata: Metadata) -> dict[str, tuple[bytes, str]]:
    """Hostile lists of tensors: their bytes, and what is said of each."""
    changed = b"cpathlib\nPosixPath\n(N}S'is_file'\nctorch\nSize\nstb0" + pickle.dumps(metadata)
    outside = copy.deepcopy(metadata)
    for part in outside.storage_data.values():
        part.relative_path = "../outside"
    other = copy.deepcopy(metadata)
    other.state_dict_metadata = {"network.x": BytesStorageMetadata()}
    return {
        "a call": (pickle.dumps(Made(os.mkdir, str(folder / "was here"))), "mkdir"),
        "a class that is changed": (changed, "changes a class"),
        "a file elsewhere": (pickle.dumps(outside), "wanted the name of a file"),
        "no tensor": (pickle.dumps(other), "wanted a tensor"),
    }


@pytest.mark.parametrize("what", ["a call", "a class that is changed", "a file elsewhere", "no tensor"])
def test_a_strangers_list_of_tensors_does_nothing(tmp_path, what):
    """It is a pickle, and its checksums can be right: who writes the one writes the other."""
    write(tmp_path, 1)
    path, is_file = tmp_path / FOLDER / "000000001-0", Path.is_file
    content, said = lists(tmp_path, pickle.loads((path / ".metadata").read_bytes()))[what]
    (path / ".metadata").write_bytes(content)
    listed = {file.name: file_hash(file) for file in path.iterdir() if file.name != "checksums.json"}
    (path / "checksums.json").write_text(json.dumps({"files": listed, "self": digest(listed)}))
    check(path)
    with pytest.raises(Damaged, match=said):
        final_weights(tmp_path)
    assert not (tmp_path / "was here").exists()
    assert type(tmp_path).is_file is is_file


@pytest.mark.parametrize("name", ["../../outside", "/dev/zero"])
def test_a_strangers_list_of_checksums_names_files_of_the_checkpoint_alone(tmp_path, name):
    """Else a device would be read for ever."""
    write(tmp_path, 1)
    path = tmp_path / FOLDER / "000000001-0"
    (tmp_path / "outside").write_text("")
    listed = {name: file_hash(tmp_path / "outside")}
    (path / "checksums.json").write_text(json.dumps({"files": listed, "self": digest(listed)}))
    with pytest.raises(Damaged, match="wanted a whole checkpoint"):
        check(path)


INTERRUPTED = """
import sys, threading
from pathlib import Path
import torch
from ablate.training.checkpoint_writer import Writer

start, left = threading.Thread.start, int(sys.argv[2])

def interrupted(thread):  # Ctrl-C while the process waits for a thread's first sign of life
    global left
    start(thread)
    left -= 1
    if not left:
        raise KeyboardInterrupt

threading.Thread.start = interrupted
writer = Writer(Path(sys.argv[1]), 0, 1)
try:
    writer.write("000000001-0", {"network": {"x": torch.ones(3)}}, {"step": 1})
    writer.wait()
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
def test_the_process_ends_whichever_thread_was_being_started_at_ctrl_c(tmp_path):
    for thread in range(1, 10):
        said = subprocess.run(
            [sys.executable, "-c", INTERRUPTED, str(tmp_path / str(thread)), str(thread)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        if not said:  # there are fewer threads
            break
    assert thread > 1
    assert not said

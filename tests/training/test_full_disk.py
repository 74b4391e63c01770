"""A disk that is full ends a run in one line that names the file; the same command goes on when there is room.

A limit on the size of a file stands in for the full disk: the system refuses what goes beyond it.
"""

from __future__ import annotations

import dataclasses
import json

import pandas as pd
import pytest
import torch
from rich.console import Console

from ablate.core import records
from ablate.core.storage import WriteError, write_bytes
from ablate.training import checkpoint
from ablate.training.base_model import base_weights
from ablate.training.checkpoint import FOLDER, final_weights, weights_hash
from ablate.training.checkpoint_writer import Writer
from ablate.training.resolution import resolve
from ablate.training.train import train
from tests.builders import full, tiny_run

QUIET = Console(quiet=True)
ROW = dict.fromkeys(records.COLUMNS, "") | dict.fromkeys(("seed", "stage", "step", "tokens", "loss_tokens"), 0)
ROW |= records.NO_BLOCKS | {"question": None, "flops": 0.0, "value": 0.0}


def refused(error: pytest.ExceptionInfo[WriteError], *parts: str) -> None:
    said = str(error.value)
    assert "\n" not in said
    assert all(
        part in said
        for part in (*parts, "File too large", "raise the limit of a file's size", "type the same command again")
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tiny_run(tmp_path_factory.mktemp("finished"))
    train(run, QUIET)
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "file", "status"),
    [(1000, "manifest.json", None), (9000, "plain.ckpt", "interrupted"), (30000, "000000017-0", "interrupted")],
)
def test_a_run_ends_interrupted_and_goes_on(finished, tmp_path, size, file, status):
    """In the manifest, in a checkpoint's rows, and in its tensors, where torch's own exception hides the system's."""
    run = dataclasses.replace(finished, out=str(tmp_path / "run"))
    with pytest.raises(WriteError) as error, full(size):
        train(run, QUIET)
    refused(error, str(run.folder), file)
    manifest = run.folder / "manifest.json"
    assert (json.loads(manifest.read_text())["status"] if manifest.exists() else None) == status
    assert not list((run.folder / FOLDER).glob(".*")), "what was half written would go on filling the disk"
    train(run, QUIET)
    pd.testing.assert_frame_equal(records.read(run.folder), records.read(finished.folder))
    assert weights_hash(final_weights(run.folder)) == weights_hash(final_weights(finished.folder))


def test_a_base_model_that_does_not_fit_is_named(finished, tmp_path):
    run = resolve(dataclasses.replace(finished, cache=str(tmp_path / "base")))
    with pytest.raises(WriteError, match=r"model.safetensors: wanted to write it, got: .*type the same command"):  # noqa: SIM117
        with full(9000):
            base_weights(run, QUIET)
    assert [path.suffix for path in (tmp_path / "base").iterdir()] == [".lock"]


def test_records_and_plain_files_stay_as_they_were(tmp_path):
    path = tmp_path / "records.parquet"
    records.write(records.table([ROW]), path)
    before = path.read_bytes()
    rows = records.table([{**ROW, "step": step, "value": step**0.5} for step in range(5000)])
    with pytest.raises(WriteError) as error, full(len(before)):
        records.write(rows, path)
    refused(error, str(path))
    with pytest.raises(WriteError) as error, full(10):
        write_bytes(tmp_path / "figure.csv", b"x" * 11)
    refused(error, "figure.csv")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_stands_in_the_place_of_a_file_or_a_folder_is_named(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match=r"folder: wanted to write it, got: Is a directory; move away the folder"):
        write_bytes(tmp_path / "folder", b"x")
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteError, match=r"file/a/b: wanted to write it, got: .*; move away the file"):
        write_bytes(tmp_path / "file" / "a" / "b", b"x")


def test_a_checkpoint_that_fits_in_part_is_refused_at_any_size_and_leaves_nothing(tmp_path):
    tensors = {"network": {str(i): torch.randn(20, 20) for i in range(6)}}
    folder = tmp_path / FOLDER
    for size in range(100, 16_000, 700):
        writer = Writer(folder, 0, 1)
        with full(size), pytest.raises(WriteError, match=r"000000001-0.*: wanted to write it, got: .*raise the limit"):  # noqa: PT012
            writer.write("000000001-0", tensors, {"step": 1})
            writer.wait()
        assert list(folder.iterdir()) == []
    with full(10**6):
        writer.write("000000001-0", tensors, {"step": 1})
        writer.wait()
    assert checkpoint.is_whole(folder / "000000001-0")

"""How commands end: the exit code and the one line of each way to stop."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.core.interruption import Terminated
from ablate.core.storage import refused_write
from ablate.core.terminal import terminal
from ablate.core.validation import UsageError
from experiments.cli.guard import guarded
from tests import ROOT


class Panic(BaseException):
    """What a library in Rust raises."""


@pytest.fixture(autouse=True)
def own_place(monkeypatch, tmp_path):
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ended(capsys, what):
    def start():
        if isinstance(what, BaseException):
            raise what
        return what

    with pytest.raises(SystemExit) as left:
        guarded(start)
    return left.value.code, capsys.readouterr().err


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (Terminated(), 143)])
@pytest.mark.parametrize("later", [AttributeError("'NoneType' object"), UsageError("no such key")])
def test_a_signal_counts_and_not_what_a_library_made_of_it(capsys, stop, code, later):
    """As omegaconf does, whose own tidying fails where it is interrupted."""

    def start():
        try:
            raise stop
        finally:
            raise later

    with pytest.raises(SystemExit) as left:
        guarded(start)
    assert left.value.code == code
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        (None, 0, ""),
        (0, 0, ""),
        (1, 1, ""),
        (SystemExit(7), 7, ""),
        (UsageError("x: wanted\ny"), 2, "error: x: wanted y\n"),
        (IsADirectoryError(errno.EISDIR, "Is a folder", "here"), 2, "error: here: wanted to use it, got: Is a folder"),
        (OSError(errno.ENOSPC, "No space left"), 2, "error: wanted to use a file, got: No space left; make room"),
        (refused_write(Path("here"), "No space", errno.ENOSPC), 2, "error: here: wanted to write it, got: No space"),
        (OSError(errno.EIO, "I/O error", "here"), 2, "error: here: wanted to use it, got: I/O error; name another"),
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on"),
        (Terminated(), 143, "terminated; the same command goes on"),
    ],
)
def test_every_end_has_a_code_and_at_most_one_line(capsys, what, code, said):
    came, error = ended(capsys, what)
    assert came == code
    assert error.startswith(said)
    assert len(error.splitlines()) == bool(said)


@pytest.mark.parametrize("fault", [RuntimeError("odd\nthing"), RecursionError("deep"), Panic("rust"), ValueError("?")])
def test_a_fault_is_one_line_and_its_traceback_a_file(capsys, tmp_path, fault):
    code, error = ended(capsys, fault)
    assert code == 70
    assert len(error.splitlines()) == 1
    assert error.startswith(f"error: {type(fault).__name__}: {' '.join(str(fault).split())}; this is a fault")
    (path,) = map(Path, re.findall(r"\S+\.txt", error))
    assert path.parent == tmp_path
    assert "Traceback" in path.read_text()
    assert str(sys.argv[-1]) in path.read_text()


def test_where_no_file_can_be_written_the_fault_is_still_said(capsys, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    code, error = ended(capsys, RuntimeError("odd"))
    assert code == 70
    assert "could not be kept" in error
    assert len(error.splitlines()) == 1


def test_of_several_processes_one_speaks(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert ended(capsys, UsageError("x")) == (2, "")


def test_what_the_user_typed_is_no_markup(capsys):
    terminal().print("x[/b]y [a] :smile: [red]z", soft_wrap=True)
    assert capsys.readouterr().out == "x[/b]y [a] :smile: [red]z\n"


def test_every_command_is_guarded():
    """Each file of a command ends in a guarded start; `main` of entry.py is one."""
    files = [path for path in (ROOT / "experiments").glob("*.py") if not path.name.startswith("__")]
    for path in [*files, ROOT / "paper_figs.py"]:
        last = path.read_text().strip().splitlines()[-1].strip()
        assert re.fullmatch(r"guarded\(\w+\)|main\([A-Z]+, job\)", last), path


def test_output_that_nobody_reads_is_no_fault(tmp_path):
    command = [sys.executable, "-P", str(ROOT / "experiments" / "run.py"), "--cfg", "job"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, check=False)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    ("start", "code"), [("print('done')", 2), ("raise UsageError('no')", 2), ("raise KeyError", 70)]
)
def test_the_code_is_right_where_not_even_a_line_can_be_written(start, code):
    """As of a run whose log lies on a full disk."""
    program = f"""
from experiments.cli.guard import guarded
from ablate.core.validation import UsageError
def start():
    {start}
guarded(start)
"""
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=full, stderr=full, check=False)
    assert done.returncode == code

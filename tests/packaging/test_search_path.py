"""No file of the current folder, or of the script's, runs in the place of a package of the same name."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.studies.job import Job
from experiments.__main__ import MODULES
from tests import ROOT
from tests.experiments.test_study import TINY

BY_PATH = [sys.executable, str(ROOT / "experiments" / "run.py")]
BY_NAME = [sys.executable, "-m", "experiments.run"]
HEADER = re.compile(r"import os\nimport sys\n\nif not __package__:.*\n    .*\n    __import__\(.experiments.\)\n")


def started(words, folder, **environment):
    """Without an installation: the packages are found where the tests are."""
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return subprocess.run(
        words,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**surroundings, "PYTHONPATH": str(ROOT), **environment},
    )


def console(folder: Path) -> list[str]:
    """A script as pip writes it for `ablate`, in a folder of its own."""
    script = folder / "bin" / "ablate"
    script.parent.mkdir()
    script.write_text("import re\nimport sys\nfrom experiments.__main__ import main\nsys.exit(main())\n")
    return [sys.executable, str(script), "run"]


def test_such_a_file_would_run_where_nothing_is_done(hostile):
    started([sys.executable, "-c", "import pickle"], hostile)
    assert (hostile / "ran").read_text() == "pickle\n"


@pytest.mark.slow
@pytest.mark.parametrize("way", ["path", "name", "console"])
def test_the_current_folder_is_off_the_path(way, hostile):
    words = {"path": BY_PATH, "name": BY_NAME, "console": console(hostile)}[way]
    done = started([*words, "--cfg", "job"], hostile)
    assert done.returncode == 0, done.stderr
    assert "regime:" in done.stdout
    assert not (hostile / "ran").exists(), (hostile / "ran").read_text()


@pytest.mark.slow
def test_nor_is_it_on_the_path_of_children(hostile):
    """Of a sweep: its worker is spawned, and starts a run."""
    words = [*TINY, "regime=bidllm", "sweep=lr", "trials=1", "seeds=[100]"]
    done = started([sys.executable, str(ROOT / "experiments" / "sweep.py"), *words], hostile)
    assert not (hostile / "ran").exists(), (hostile / "ran").read_text()
    assert done.returncode == 0, done.stderr
    assert "1 complete" in done.stdout


def test_nor_is_it_on_the_path_of_runs_and_of_a_pool(hostile):
    assert "-P" in Job("run", Path("run.py"), (), Path("runs")).command
    (hostile / "main.py").write_text(
        "import sys; del sys.path[0]\nfrom ablate.text.process_pool import pool\n"
        "with pool(2) as workers: print(*workers.each(len, ['a', 'bc']))\n"
    )
    assert started([sys.executable, "main.py"], hostile).stdout.strip() == "1 2"
    assert not (hostile / "ran").exists(), (hostile / "ran").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["path", "console"])
def test_another_package_of_the_name_is_left_alone(way, tmp_path):
    """Theirs in the current folder does not stand in for ours; to their own code it is theirs that counts."""
    theirs = tmp_path / "experiments"
    theirs.mkdir()
    for name in ("__init__", "cli", "run"):
        (theirs / f"{name}.py").write_text("raise SystemExit('theirs')\n")
    done = started([*(BY_PATH if way == "path" else console(tmp_path)), "--cfg", "job"], tmp_path)
    assert (done.returncode, "regime:" in done.stdout) == (0, True), done.stderr
    code = "import experiments.run"
    assert started([sys.executable, "-c", code], tmp_path).stderr.strip() == "theirs"


def test_to_import_a_command_leaves_the_path_as_it_is(tmp_path):
    code = "import sys; before = [*sys.path]; import experiments.run; print(before == sys.path)"
    assert started([sys.executable, "-c", code], tmp_path).stdout.strip() == "True"


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["-P"]], ids=["plain", "safe"])
def test_a_path_alone_is_enough_to_find_the_packages(flags, tmp_path):
    """With -P, which children are started with, the script's folder was never on the path."""
    link = tmp_path / "link.py"
    link.symlink_to(ROOT / "experiments" / "run.py")
    for script in (ROOT / "experiments" / "run.py", link):
        done = started([sys.executable, *flags, str(script), "--cfg", "job"], tmp_path, PYTHONPATH="")
        assert (done.returncode, "regime:" in done.stdout) == (0, True), done.stderr


def test_every_command_begins_with_the_same_line():
    files = [path for path in (ROOT / "experiments").glob("*.py") if path.stem != "__init__"]
    assert {path.stem for path in files} == {*MODULES, "__main__"} - {"figures"}
    found = {HEADER.search(path.read_text())[0] for path in files}
    assert len(found) == 1

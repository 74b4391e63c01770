"""Programs that do everything but solve their task: each fails in one line, and nothing of it is left.

A right program is the control of the verdict. Where a program reaches for what is outside, the control is the same
program without namespaces, which then gets there.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablate.code_tasks import sandbox
from ablate.code_tasks.sandbox import Limits, Program, judge
from ablate.core.validation import UsageError
from tests import ROOT
from tests.code_tasks.attacks import BACKGROUND, FAILING, REACHING, REFUSED, THREADS

LIMITS = Limits(seconds=1, wall_seconds=20)
TESTS = "assert f(1) == 2\nassert f(2) == 3\n"
RIGHT = "def f(x):\n    return x + 1\n"


pytestmark = pytest.mark.usefixtures("sandboxed")


def left() -> list[str]:
    """Processes that this one's judging has started and that are still there."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_text()
        except OSError:
            continue
        if f'"parent": {os.getpid()}' in words:
            found.append(folder.name)
    return found


def test_a_right_program_passes_and_a_wrong_one_does_not():
    assert judge(Program(RIGHT, TESTS), LIMITS).passed
    found = judge(Program("def f(x):\n    return x\n", TESTS), LIMITS)
    assert (found.passed, found.reason, found.refused) == (False, "AssertionError", "")
    assert judge(Program(RIGHT, "raise ValueError(f(1))"), LIMITS).reason == "ValueError: 2"


@pytest.mark.parametrize("name", FAILING)
def test_what_does_something_else_fails_and_leaves_nothing(name):
    limits = Limits(seconds=1, wall_seconds=3 if name in ("sleeping", "fork bomb") else 20)
    start = time.monotonic()
    found = judge(Program(FAILING[name], TESTS), limits)
    assert not found.passed
    assert not found.refused
    assert found.reason
    assert len(found.reason.splitlines()) == 1
    assert time.monotonic() - start < limits.wall_seconds + 10
    assert left() == []


@pytest.fixture
def outside(tmp_path):
    """A folder that anybody may write, and somebody who listens."""
    place = Path("/var/tmp") / f"ablate-test-{os.getpid()}"
    place.mkdir()
    place.chmod(0o777)
    (place / "kept").write_text("1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        yield {"folder": str(place), "file": str(place / "written"), "kept": str(place / "kept"), "port": port}
    for file in place.iterdir():
        file.unlink()
    place.rmdir()


@pytest.mark.parametrize("name", REACHING)
def test_what_is_outside_is_not_reached(name, outside):
    solution = REACHING[name].format(**outside)
    assert not judge(Program(solution, TESTS), LIMITS).passed
    assert not Path(outside["file"]).exists()
    assert left() == []
    assert judge(Program(solution, TESTS), LIMITS, unsafe=True).passed, "or nothing was kept out"


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("unsafe", [False, True])
def test_without_rights_nothing_is_done_to_others(name, unsafe):
    assert not judge(Program(REFUSED[name], TESTS), LIMITS, unsafe).passed


@pytest.mark.parametrize("unsafe", [False, True])
def test_a_child_in_the_background_does_not_outlive(unsafe):
    assert judge(Program(BACKGROUND, TESTS), LIMITS, unsafe).passed
    assert left() == []


def test_nothing_outlives_the_process_that_judges():
    code = "from ablate.code_tasks.sandbox import *\n"
    code += "judge(Program('import time\\ntime.sleep(1000)', ''), Limits(wall_seconds=1000))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as judging:
        own = f'"parent": {judging.pid}'

        def there():
            return [p for p in Path("/proc").glob("[0-9]*/cmdline") if own in p.read_text(errors="replace")]

        until(lambda: len(there()) >= 4)
        judging.send_signal(signal.SIGKILL)
    until(lambda: not there())


def until(holds, seconds=20):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except OSError:  # a process that ended while it was read
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_program_has_no_user_no_files_and_no_variables_of_ours(monkeypatch):
    monkeypatch.setenv("ABLATE_SECRET", "known")
    solution = "import os\ndef f():\n    return os.getuid(), os.listdir(), 'ABLATE_SECRET' in os.environ, "
    solution += "os.path.exists('/home')"
    tests = "assert f() == (65534, [], False, False), f()"
    assert judge(Program(solution, tests), LIMITS).reason == ""


def test_the_limit_of_processes_is_one_program_s_own():
    """As many threads as are allowed, however many programs run beside."""
    assert judge(Program(THREADS, "assert f(4) == 4"), LIMITS).passed
    assert "can't start new thread" in judge(Program(THREADS, "assert f(40) == 40"), LIMITS).reason


def test_a_machine_without_namespaces_is_refused_with_its_reason(monkeypatch):
    asking = "sys.path.pop(); from ablate.code_tasks import namespaces; namespaces.UNSHARED = dict(none=1);"
    monkeypatch.setattr(sandbox, "START", sandbox.START.replace("sys.path.pop();", asking))
    found = judge(Program(RIGHT, TESTS), LIMITS)
    assert (found.passed, found.refused) == (False, "unshare: Invalid argument")
    with pytest.raises(UsageError, match=r"got unshare: Invalid argument; allow user namespaces, or type unsafe=true"):
        sandbox.require_sandbox(LIMITS, False)
    assert judge(Program(RIGHT, TESTS), LIMITS, unsafe=True).passed


def test_what_is_no_fault_of_a_program_is_no_verdict(monkeypatch):
    monkeypatch.setattr(sandbox, "START", "import sys; sys.exit(1)")
    assert judge(Program(RIGHT, TESTS), LIMITS).refused == "the launcher was ended from outside"
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert "/nowhere/python" in judge(Program(RIGHT, TESTS), LIMITS).refused


def test_the_tests_have_their_own_names():
    """No name of Python's and no helper is replaced by the solution's; objects that are no plain values stay there."""
    solution = (
        "len = lambda _: 3\nhelp_me = lambda: 'theirs'\nclass Pair:\n    def __init__(self, a):\n        self.a = a\n"
    )
    solution += "def total(pairs):\n    return sum(pair.a for pair in pairs)\n"
    tests = (
        "pair = Pair(3)\npair.a = 4\nassert total([pair, Pair(2)]) == 6\nassert pair.a == 4\nassert len('ab') == 2\n"
    )
    tests += "assert help_me() == 'ours'\nassert pair != 4\n"
    assert judge(Program(solution, tests, "def help_me():\n    return 'ours'\n"), LIMITS).reason == ""


def test_arguments_are_copies_and_plain_values_alone():
    solution = "def f(x):\n    x.append(1)\n    return x\n"
    assert judge(Program(solution, "one = []\nassert f(one) == [1]\nassert one == []"), LIMITS).reason == ""
    assert "wanted plain values" in judge(Program(solution, "f(lambda: 1)"), LIMITS).reason


def test_whole_numbers_have_as_many_digits_as_they_like_in_there_alone():
    assert judge(Program("def f(x):\n    return x + 1\n", "assert f(10**5000) == 10**5000 + 1"), LIMITS).reason == ""
    assert sys.get_int_max_str_digits() == sys.int_info.default_max_str_digits


def test_what_the_tests_do_not_mention_stays_there():
    solution = "table = [*range(10**6)]\nself = []\nself.append(self)\ndef f(x):\n    return table[x] + 1\n"
    assert judge(Program(solution, TESTS), LIMITS).reason == ""


def test_exceptions_of_the_solution_are_raised_in_the_tests():
    tests = "try:\n    f(0)\n    assert False\nexcept ZeroDivisionError:\n    pass\n"
    assert judge(Program("def f(x):\n    return 1 / x\n", tests), LIMITS).passed
    assert (
        judge(Program("class Odd(Exception):\n    pass\ndef f(x):\n    raise Odd(1)\n", tests), LIMITS).reason
        == "SolutionError: Odd: 1"
    )

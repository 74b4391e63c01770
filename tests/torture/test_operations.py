"""The count of operations is right: strace sees no other change of a folder's names than those that are counted."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.torture.commands import COMMANDS, Command, output_of
from tests.torture.counts import part
from tests.torture.operations import Operations
from tests.torture.warm import start

CALLS = "open,openat,creat,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat"
LINE = re.compile(r"^\d+\s+(\w+)\((.*)\)\s+= (\d+)")
KINDS = {"openat": "open", "creat": "open", "renameat": "rename", "renameat2": "rename", "unlink": "remove"}
KINDS |= {"mkdirat": "mkdir", "linkat": "link", "symlinkat": "symlink"}


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed: apt-get install strace")
@pytest.mark.parametrize(
    "command", [COMMANDS[name] for name in ("run", "base", "text", "export")], ids=lambda c: c.name
)
def test_strace_sees_what_is_counted(command: Command, tmp_path: Path) -> None:
    """Files that native code opens are under temporary names, which nothing reads: half of one is never met."""
    place = command.laid(tmp_path / "place")
    log, trace = tmp_path / "log", tmp_path / "trace"

    def ready() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)
        Operations(place, log=log).begin()

    child = start(command.work(place), output_of(place), ready)
    watcher = subprocess.Popen(
        ["strace", "-f", "-y", "-e", f"trace={CALLS}", "-o", str(trace), "-p", str(child.pid)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watcher.stderr is not None
    said = watcher.stderr.readline()
    if "attached" not in said:
        child.kill()
        watcher.wait()
        pytest.skip(f"strace may not look at another process here: {said.strip()}")
    time.sleep(0.1)
    child.send(signal.SIGCONT)
    ended = child.wait()
    assert ended.code == 0, ended.error
    watcher.wait(30)
    counted = log.read_text().splitlines()
    found = changes(trace, place)
    with part(f"operations: {command.name}, against strace") as tried:
        for line in sorted(set(found)):
            with tried.case(line):
                *folders, name = line.split(" ", 1)[1].split("/")
                hidden = any(part.startswith(".") for part in folders) or (name[0] == "." and line.startswith("open "))
                assert hidden or found.count(line) <= counted.count(line), "strace sees more than is counted"


def changes(trace: Path, place: Path) -> list[str]:
    """Calls that succeeded and change names below the folder, as operations.py spells them."""
    found, root = [], os.path.realpath(place)
    for line in joined(trace.read_text(errors="replace").splitlines()):
        match = LINE.match(line)
        if not match:
            continue
        call, arguments = match[1], match[2]
        if call in ("open", "openat", "creat") and not re.search(r"O_(WRONLY|RDWR|CREAT)", arguments):
            continue
        kind = "rmdir" if "AT_REMOVEDIR" in arguments else "remove" if call == "unlinkat" else KINDS.get(call, call)
        base = re.match(r"(?:AT_FDCWD|\d+)<([^>]*)>", arguments)
        name = re.search(r'"((?:[^"\\]|\\.)*)"', arguments)
        if name is None:
            continue
        path = os.path.normpath(os.path.join(base[1] if base else root, name[1]))
        if path.startswith(root + os.sep):
            found.append(f"{kind} {path.removeprefix(root + os.sep)}")
    return found


def joined(lines: list[str]) -> list[str]:
    """Calls that were written in two halves, as another thread came between, made one."""
    begun: dict[str, str] = {}
    whole = []
    for line in lines:
        pid = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            begun[pid] = line.removesuffix("<unfinished ...>").rstrip()
        elif " resumed>" in line and pid in begun:
            whole.append(begun.pop(pid) + line.split(" resumed>", 1)[1])
        else:
            whole.append(line)
    return whole

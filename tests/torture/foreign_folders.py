"""Folders of strangers out of a grammar, written and handed to a process that opens them within time and memory."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from hypothesis import strategies as st

from ablate.core.child_processes import python
from tests import ROOT

SECONDS = 180  # for one folder; most take less than one
MEMORY = 3 * 2**29  # bytes of the process at its peak, torch included
WORDS = ["text", "content", "a", "", "\0", "\ud800", "ü", "type", "id", "x" * 3000]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2, 7, 2**31, 2**63, 10**9, 10**15, 10**18, 10**40, -(10**15)]),
    st.sampled_from([0.0, 0.5, 1.0, -1.5, 1e-300, 1e300, float("nan"), float("inf"), -float("inf")]),
    st.sampled_from(WORDS),
    st.text(max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from([w for w in WORDS if w != "\ud800"]), inner, max_size=3),
    ),
    max_leaves=8,
)
deep = st.builds(
    lambda n, pair: pair[0] * n + pair[1] * n,
    st.sampled_from([65, 900, 10**5]),
    st.sampled_from(["[]", ('{"a":', "}")]),
)
no_json = st.one_of(
    deep.map(str.encode), st.binary(max_size=40), st.sampled_from([b"", b"{", b"\xef\xbb\xbf{}", b"1" * 5000])
)
special = st.sampled_from(["pipe", "folder", "socket", "loop", "dangling", "zero", "out", "sparse"])


def changed(plain: Any, most: int = 3) -> st.SearchStrategy[Any]:
    """A plain value of dictionaries and lists with up to so many places changed to something else."""
    places = [place for place in _places(plain) if place]

    def change(changes: list[tuple[tuple[Any, ...], Any, bool]]) -> Any:
        made = json.loads(json.dumps(plain))
        for place, value, absent in changes:
            part = made
            try:
                for key in place[:-1]:
                    part = part[key]
                if absent and isinstance(part, dict):
                    part.pop(place[-1], None)
                else:
                    part[place[-1]] = value
            except (KeyError, IndexError, TypeError):
                pass  # another change has taken the place away
        return made

    one = st.tuples(st.sampled_from(places), values, st.sampled_from([False, False, False, True]))
    return st.lists(one, max_size=most).map(change)


def _places(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [before, *(place for key, one in inner for place in _places(one, (*before, key)))]


def as_json(value: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return value.map(lambda one: json.dumps(one).encode())


def damaged(raw: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with a few of them others, cut short, or longer."""

    def damage(flips: list[tuple[int, int]], end: int | None, more: bytes) -> bytes:
        changed = bytearray(raw[:end])
        for place, value in flips:
            if changed:
                changed[place % len(changed)] = value
        return bytes(changed) + more

    flips = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4)
    ends = st.one_of(st.none(), st.none(), st.integers(0, max(1, len(raw))))
    return st.builds(damage, flips, ends, st.sampled_from([b"", b"", b"\0" * 9, b"x"]))


def write(folder: Path, files: dict[str, Any]) -> Path:
    """The folder, with files by name: bytes, or the word for something that is no file."""
    folder.mkdir(parents=True)
    outside = folder.parent / "outside"
    outside.write_text("what lies outside\n" * 20)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content == "pipe":
            os.mkfifo(path)
        elif content == "folder":
            path.mkdir()
        elif content == "socket":
            before = os.getcwd()
            os.chdir(path.parent)  # whose name may be too long for a socket
            try:
                with socket.socket(socket.AF_UNIX) as server:
                    server.bind("socket")
                os.rename("socket", path.name)
            finally:
                os.chdir(before)
        elif content == "sparse":
            with path.open("wb") as file:
                file.truncate(2**40)
        else:
            path.symlink_to(
                {"loop": path, "dangling": folder / "nowhere", "zero": "/dev/zero", "out": outside}[content]
            )
    return folder


@dataclass
class Opener:
    """The process at work, and what it has said. lost: what no stranger's folder may do, a line each."""

    kind: str
    tried: int = 0
    peak: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    def open(self, folder: Path, what: str) -> None:
        self.tried += 1
        if self.process is None:
            self.process = self._start()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        answer = ""
        try:
            self.process.stdin.write(json.dumps(str(folder)) + "\n")
            self.process.stdin.flush()
            answer = self._answer(self.process.stdout)
        except BrokenPipeError:
            pass
        if not answer:
            self.end()
            self.lost.append(f"{what}: no answer within {SECONDS} s, or the process died")
            return
        said = json.loads(answer)
        self.peak = max(self.peak, said["peak"])
        self.reached.update(said["successes"])
        self.reached["refused"] += bool(said["refusals"])
        self.lost += [f"{what}: {fault}" for fault in said["faults"]]
        if said["peak"] > MEMORY:
            self.lost.append(f"{what}: {said['peak'] / 2**20:.0f} MiB")

    def _start(self) -> subprocess.Popen[str]:
        surroundings = {**python("")[1], "RUST_BACKTRACE": "0", "MALLOC_TRIM_THRESHOLD_": "1000000"}
        command = [sys.executable, "-m", "tests.torture.foreign_worker", self.kind]
        surroundings["PYTHONPATH"] = f"{ROOT}{os.pathsep}{surroundings['PYTHONPATH']}"
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=surroundings,
        )

    def _answer(self, answers: IO[str]) -> str:
        ready, _, _ = select.select([answers], [], [], SECONDS)
        return answers.readline() if ready else ""

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def fresh(place: Path) -> Path:
    """An empty folder of this name."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place

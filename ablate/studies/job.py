"""A job: one run as a command line and a folder, and several as one command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ablate.core.manifest import MANIFEST, is_vouched, load
from ablate.core.storage import Damaged


@dataclass(frozen=True)
class Job:
    """One run: words of the command line `python SCRIPT word ...`, and the folder that it leaves complete, with the
    files `leaves` in it. group: jobs of one group, where it has a name, can be carried out by one command (see
    `together`)."""

    name: str
    script: Path
    words: tuple[str, ...]
    folder: Path
    leaves: tuple[str, ...] = ()
    group: str = ""

    @property
    def command(self) -> list[str]:
        # -P: neither the current folder nor the script's may stand in for a package of the same name
        return [sys.executable, "-P", str(self.script), *self.words]

    @property
    def complete(self) -> bool:
        """Does the run's manifest say so, and is there, as it was written, what it leaves?"""
        return self.status == "complete" and all(is_vouched(self.folder / name) for name in self.leaves)

    @property
    def status(self) -> str:
        """What the run's manifest says of it; empty where there is none that can be read."""
        try:
            return load(self.folder / MANIFEST, {"status": str})["status"]
        except Damaged:
            return ""

    @property
    def log(self) -> Path:
        """What the run said."""
        return self.folder.parent / ".logs" / f"{self.folder.name}.log"

    @property
    def claim(self) -> Path:
        return self.folder.parent / ".claims" / f"{self.folder.name}.lock"

    def complaint(self) -> str:
        """The last line that the run said."""
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else f"it said nothing in {self.log}; is the disk full?"


def together(jobs: Sequence[Job]) -> Job:
    """One command for jobs of a group, whose words differ in seed and place alone: a run of each, trained as one
    network. It says what it has to say in the log of the first."""
    first = jobs[0]
    if len(jobs) == 1:
        return first
    words = []
    for found in zip(*(job.words for job in jobs), strict=True):
        key = found[0].partition("=")[0]
        ways = {"seed": ",".join(word.partition("=")[2] for word in found), "out": first.folder.with_name("*")}
        words.append(found[0] if len(set(found)) == 1 else f"{key}={ways[key]}")
    return replace(first, words=("-m", *words, f"pack={len(jobs)}"))

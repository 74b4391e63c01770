"""Folders of strangers: whatever stands in them, a run begins or is refused in one line, within time and memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.text.prose import fill
from tests.torture.counts import number, part


def opened(kind: str, folders: Any, write: Callable[[dict[str, Any]], Path], *must: str) -> None:
    """Ten folders a round out of a grammar, each written, and opened as this kind. must: what some have to reach, so
    that not everything is refused at once."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    from tests.torture.foreign_folders import Opener

    opener = Opener(kind)
    cases = number(10)
    ways: dict[str, Any] = {"deadline": None, "database": None, "phases": [Phase.generate]}

    @seed(cases)
    @settings(max_examples=cases, suppress_health_check=list(HealthCheck), **ways)
    @given(folders)
    def every(files: dict[str, Any]) -> None:
        opener.open(write(files), repr(files)[:1500])

    with part(f"foreign {kind}") as one:
        try:
            every()
        finally:
            opener.end()
            one.tried, one.lost = opener.tried, opener.lost
            print(f"{opener.tried} folders, peak {opener.peak / 2**20:.0f} MiB, reached {dict(opener.reached)}")
    assert all(opener.reached[name] for name in must)


@pytest.mark.filterwarnings("ignore")
def test_checkpoints(tmp_path: Path) -> None:
    from tests.torture.checkpoints_grammar import folders
    from tests.torture.foreign_folders import fresh, write

    def place(files: dict[str, Any]) -> Path:
        return write(fresh(tmp_path / "place") / "model", files)

    opened("checkpoint", folders, place, "tensors", "encode", "refused")


def test_corpora(tmp_path: Path) -> None:
    from tests.torture.corpora_grammar import folders
    from tests.torture.foreign_folders import fresh, write

    def place(files: dict[str, Any]) -> Path:
        """A folder of an even number of files is read with `follow`."""
        home = fresh(tmp_path / "place")
        fill(home / "general", 100)
        if len(files) % 2 == 0:
            (home / "follow").touch()
        return write(home / "new", files)

    opened("corpus", folders, place, "batch", "refused")

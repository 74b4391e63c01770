"""What a command may do that cannot go on: say so in one line, exit with 2, lose nothing."""

from __future__ import annotations

from pathlib import Path

from tests.torture.warm import Ended

REFUSED, SOME_FAILED = 2, 1  # exit codes: of bad input; of a study or a sweep of whose runs some failed
NO_LOG = "is the disk full?"  # of a run whose log had no room
TRACE = "Traceback (most recent call last)"


def require_said(ended: Ended, place: Path, named: str = "") -> bool:
    """True where the command ended well, False where it refused in one line, which names `named` if given.

    Raises AssertionError else, and for a traceback, also in the log of a run that a study or a sweep started.
    """
    assert TRACE not in ended.said, f"a traceback: {ended.error}"
    logs = {path: path.read_text(errors="replace") for path in place.glob("runs/.logs/*.log") if path.is_file()}
    for path, said in logs.items():
        assert TRACE not in said, f"a traceback in {path.name}: {said[-500:]}"
    if ended.code == 0:
        return True
    told = [line for line in ended.said.splitlines() if line.startswith("error: ")]
    if ended.code == SOME_FAILED and (place / "runs").is_dir():
        told += [line for said in logs.values() for line in said.splitlines() if line.startswith("error: ")]
        told += [line for line in ended.said.splitlines() if NO_LOG in line or line.startswith("worker ")]
        assert told, f"failed without a reason: {ended.error}"
        return False
    assert ended.code == REFUSED, f"wanted 0 or 2: {ended.error}"
    assert len(told) == 1, f"wanted one line, got {len(told)}: {ended.error}"
    assert named in ended.said, f"wanted {named} named: {ended.error}"
    return False

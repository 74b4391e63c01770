"""`python -m tests.torture --rounds 100`: the whole suite, and a table of what was tried and lost."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests import ROOT
from tests.torture import counts

BEGIN, END = "<!-- counts -->", "<!-- end of counts -->"


def main() -> int:
    """Exit code of pytest: 0 where nothing was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how much is tried; from 100 on everything (default 3)")
    parser.add_argument("--workers", default="2", help="processes (default 2)")
    parser.add_argument("--counts", type=Path, default=counts.FILE, help="file of the counts, a JSON line a part")
    parser.add_argument("--page", type=Path, help="page whose table is to be this run's: docs/reliability.md")
    parser.add_argument("--resume", action="store_true", help="leave out the tests that have passed by the counts")
    parser.add_argument("only", nargs="*", help="files of the suite, all by default")
    asked = parser.parse_args()
    kept = counts.resumed(asked.counts.read_text().splitlines()) if asked.resume and asked.counts.exists() else []
    asked.counts.parent.mkdir(parents=True, exist_ok=True)
    asked.counts.write_text("".join(f"{line}\n" for line in kept))
    command = [sys.executable, "-m", "pytest", "-m", "torture", "-n", asked.workers, "--dist", "load", "-rs"]
    command += asked.only or [str(Path(__file__).parent)]
    surroundings = {"TORTURE_ROUNDS": str(asked.rounds), "TORTURE_COUNTS": str(asked.counts.resolve())}
    surroundings |= {"TORTURE_RESUME": "1"} if asked.resume else {}
    code = subprocess.run(command, cwd=ROOT, env={**os.environ, **surroundings}, check=False).returncode
    if asked.counts.exists():
        lines = asked.counts.read_text().splitlines()
        print(counts.table(lines))
        if asked.page:
            before, _, rest = asked.page.read_text().partition(BEGIN)
            asked.page.write_text(f"{before}{BEGIN}\n\n{counts.page(lines)}\n\n{END}{rest.partition(END)[2]}")
    return code


if __name__ == "__main__":
    sys.exit(main())

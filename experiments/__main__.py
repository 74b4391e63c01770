"""Every command by its name: `ablate run regime=ar_to_bidllm` is `python experiments/run.py regime=ar_to_bidllm`."""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

import ast
import difflib
import runpy
from importlib.util import find_spec
from pathlib import Path

RUNS = ("run", "compare", "study", "verdicts", "warmup", "sweep", "evaluate", "generate", "export")
MEASUREMENTS = ("knowledge", "atlas", "variance", "no_signal", "plan", "bench", "one_step")
MODULES = {**{name: f"experiments.{name}" for name in (*RUNS, *MEASUREMENTS)}, "figures": "paper_figs"}


def main() -> None:
    """Runs the command that is named first, as if its file had been started. Exits with 2 where there is none."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        print(described())
        return
    if name not in MODULES:
        near = (difflib.get_close_matches(name, MODULES, 1) or ["run"])[0]
        print(f"error: {name}: wanted one of {', '.join(MODULES)}; got {name!r}; type ablate {near}", file=sys.stderr)
        sys.exit(2)
    _keep_the_scripts_folder_off_the_path()
    del sys.argv[1]
    runpy.run_module(MODULES[name], run_name="__main__", alter_sys=True)


def described() -> str:
    """What `ablate --help` prints: a line for each command, the first of its file."""
    lines = ["usage: ablate COMMAND [key=value ...]; ablate COMMAND --help says more", ""]
    return "\n".join([*lines, *(f"  {name:<10} {_first_line(module)}" for name, module in MODULES.items())])


def _first_line(module: str) -> str:
    """Of a module's docstring, without importing it."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return "not installed"
    told = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    told = told.splitlines()[0].split(" Command: ")[0].split(" `python ")[0].removesuffix(" See --help.")
    told = told.removeprefix("Question: ").rstrip(".:")
    return told[:1].upper() + told[1:]


def _keep_the_scripts_folder_off_the_path() -> None:
    """The folder of the console script `ablate` holds other programs; children do likewise (see experiments)."""
    if not sys.flags.safe_path and sys.path[:1] == [os.path.dirname(os.path.realpath(sys.argv[0]))]:
        del sys.path[0]
    os.environ["PYTHONSAFEPATH"] = "1"


if __name__ == "__main__":
    main()

"""The plan of the house, read from the source: who imports whom, and what loads without torch."""

import ast
import subprocess
import sys

import pytest

from tests import ROOT

ROOMS = [
    "seeds",
    "knowledge",
    "summary",
    "null_theory",
    "mismatch",
    "store",
    "records",
    "stats",
    "outcomes",
    "prediction",
    "spikes",
    "workers",
    "study",
    "schedule",
    "noise",
    "masks",
    "corpus",
    "duplicates",
    "rows",
    "files",
    "census",
    "pool",
    "tokenizer",
    "windows",
    "shards",
    "build",
    "packed",
    "text",
    "pattern",
    "flex",
    "attention",
    "problem",
    "block",
    "objective",
    "closed_forms",
    "no_signal",
    "rope",
    "shape",
    "family",
    "head",
    "model",
    "pretrained",
    "loss",
    "regime",
    "optimizer",
    "machine",
    "processes",
    "flops",
    "decode",
    "contexts",
    "visits",
    "probe",
    "budget",
    "run",
    "questions",
    "survey",
    "manifest",
    "checkpoint",
    "engine",
    "stand_ins",
    "memory",
    "plan",
    "learner",
    "variance",
    "base",
    "train",
    "control",
]


def imports(path):
    """Top-level names and, inside this project, full module names that a file imports, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names if node.module == "ablate"}
    return found


def test_rooms_are_all_there():
    assert {p.stem for p in (ROOT / "ablate").glob("*.py")} == {"__init__", *ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_before_it(room):
    before = ROOMS[: ROOMS.index(room)]
    for name in imports(ROOT / "ablate" / f"{room}.py"):
        top, _, rest = name.partition(".")
        assert top not in ("synthetic_data", "experiments", "figures", "hydra", "omegaconf", "optuna"), name
        if top == "ablate" and rest:
            assert rest.split(".")[0] in before, f"{room} imports {name}"


def test_worlds_and_figures_import_what_they_may():
    allowed = {
        "synthetic_data": {"ablate.core.corpus", "ablate.core.rng", "ablate.evaluation.metrics"},
        "figures": {"ablate.core.records", "ablate.analysis.statistics"},
    }
    for folder, rooms in allowed.items():
        for path in (ROOT / folder).glob("*.py"):
            ours = {n for n in imports(path) if n.startswith("ablate.")}
            assert ours <= rooms, f"{path.name} imports {ours - rooms}"
            if folder == "figures":
                assert not any(n.split(".")[0] == "torch" for n in imports(path))


def test_configuration_and_figures_load_without_torch():
    code = "import experiments.presets.registry, experiments.cli.compose, paper_figs, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_no_large_files_or_long_functions():
    """About 200 lines a file and 40 a function; these are the limits beyond which a cut is due."""
    for folder in ("ablate", "synthetic_data", "experiments", "figures"):
        for path in (ROOT / folder).glob("*.py"):
            source = path.read_text()
            assert len(source.splitlines()) <= 260, path
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < 50, f"{path.name}: {node.name}"


def test_the_readme_tree_matches_the_folders():
    tree = next(part for part in (ROOT / "README.md").read_text().split("```") if "\nablate/" in part)
    named, folder = set(), ""
    for line in filter(None, tree.splitlines()):
        name = line.split()[0]
        folder = name if name.endswith("/") else folder
        if line.startswith("  ") and name.endswith(".py"):
            named.add(folder + name)
    rooms = ("ablate", "synthetic_data", "experiments", "figures")
    assert named == {f"{f}/{p.name}" for f in rooms for p in (ROOT / f).glob("*.py") if p.stem != "__init__"}

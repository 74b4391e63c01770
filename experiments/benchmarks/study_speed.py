"""A study packed and warm beside the same runs one by one in fresh processes, and training steps by pack size.

Shapes: S seeds that train together, L positions.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from ablate.core import records
from ablate.studies.design import Study
from experiments.benchmarks.timing import in_fresh_process, spread
from experiments.cli.run_command import SCRIPT
from experiments.presets.registry import GROUPS

STUDY_SCRIPT = SCRIPT.with_name("study.py")
CONDITION = "trace"
SHORT = ["budget.base_tokens=4000", "budget.tokens=16000", "budget.evaluations=2", "budget.questions=8"]
PACKS, OPERATIONS = (1, 2, 4, 8, 16), {13: 5, 33: 15}  # operations of a trace, by its tokens
WAYS = ("fresh processes, pack=1", "packed and warm, empty compile cache", "packed and warm, warm compile cache")
UNCOMPILED = "packed and warm, too short to compile"
PACK = 4  # of eight seeds: three arms then keep two workers busy to the end
A_TURN = 2.0  # CPU seconds that a training loop is timed for


@dataclass(frozen=True)
class Contest:
    """What is carried out in every way: the paper's arms on one world."""

    seeds: int = 8
    words: tuple[str, ...] = ()
    workers: int = os.cpu_count() or 1

    @property
    def study(self) -> Study:
        asked = GROUPS["study"]["regimes"]
        return replace(asked, seeds=asked.seeds[: self.seeds], last=[*asked.last, *self.words])

    @property
    def runs(self) -> int:
        return len(self.study.arms) * self.seeds

    def commands(self, home: Path) -> list[list[str]]:
        """Every run as a command line; the first arm's on every seed come first, so that bases are trained once."""
        study = self.study
        (condition,) = (condition for condition in study.conditions if condition.name == CONDITION)
        place = [f"out={home}/runs/*", f"cache={home}/base", "draw=false"]
        words = (study.words_of(condition, arm, seed) for arm in study.arms for seed in study.seeds)
        return [[sys.executable, "-P", str(SCRIPT), *typed, *place] for typed in words]

    def command(self, home: Path) -> list[str]:
        """All of them as one study, packed."""
        words = [f"'{word}'" for word in self.words]
        return [
            *(sys.executable, "-P", str(STUDY_SCRIPT), "study=regimes", "study.name=bench", "study.predictions=[]"),
            f"study.seeds=[{','.join(map(str, self.study.seeds))}]",
            f"only=[{CONDITION}]",
            f"words=[{','.join(words)}]",
            f"workers={self.workers}",
            f"pack={PACK}",
            f"runs={home}/runs",
            f"results={home}/results",
        ]


def throughput(contest: Contest, rounds: int, compiled: bool) -> dict[str, Any]:
    """Runs an hour, every way once a round, in turns. compiled: with an empty and with a warm compile cache; else the
    runs are too short to be compiled."""
    alone, *packs = WAYS if compiled else (WAYS[0], UNCOMPILED)
    rates: dict[str, list[float]] = {way: [] for way in (alone, *packs)}
    rows: dict[str, list[int]] = {way: [] for way in (alone, *packs)}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            _note(alone, rates, rows, _one_by_one(contest, home / "fresh"))
            for i, way in enumerate(packs):
                _note(way, rates, rows, _packed(contest, home / f"packed{i}", home / "compiled"))
    entries = {way: {"runs_an_hour": spread(found), "rows_a_run": rows[way]} for way, found in rates.items()}
    return {
        "runs": contest.runs,
        "workers": contest.workers,
        "ways": entries,
        "throughput": {way: spread(b / a for a, b in zip(rates[alone], rates[way], strict=True)) for way in packs},
    }


def _note(way: str, rates: dict[str, list[float]], rows: dict[str, list[int]], found: tuple[float, set[int]]) -> None:
    rates[way].append(found[0])
    rows[way] += sorted(found[1])


def _one_by_one(contest: Contest, home: Path) -> tuple[float, set[int]]:
    """Runs an hour and rows of a run, each in a process of its own, as many at once as there are workers."""
    begun = time.monotonic()
    with ThreadPoolExecutor(contest.workers) as pool:
        list(pool.map(lambda command: _do(command, home), contest.commands(home)))
    return 3600 * contest.runs / (time.monotonic() - begun), _rows(home)


def _packed(contest: Contest, home: Path, cache: Path) -> tuple[float, set[int]]:
    begun = time.monotonic()
    _do(contest.command(home), home, TORCHINDUCTOR_CACHE_DIR=str(cache))
    return 3600 * contest.runs / (time.monotonic() - begun), _rows(home)


def _do(command: list[str], home: Path, **surroundings: str) -> None:
    """Raises RuntimeError where it fails."""
    home.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        command, cwd=home, env={**os.environ, **surroundings}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:6])} ...: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")


def _rows(home: Path) -> set[int]:
    return {len(records.read(path.parent)) for path in home.glob(f"runs/*/{records.FILE}")}


def steps(packs: Iterable[int], lengths: Iterable[int]) -> list[dict[str, Any]]:
    """Seed-steps a CPU second of training on one thread, by pack size and length, each in a fresh process: one network
    as it is, and packs as they are and compiled. Data and noise are part of a step."""
    found = []
    for length in lengths:
        alone = in_fresh_process(seed_steps, length, 1, False)
        for seeds in packs:
            for compiled in (False, True):
                entry = (
                    alone if (seeds, compiled) == (1, False) else in_fresh_process(seed_steps, length, seeds, compiled)
                )
                found.append(entry | {"times_one": entry["seed_steps_a_cpu_second"] / alone["seed_steps_a_cpu_second"]})
    return found


def seed_steps(length: int, seeds: int, compiled: bool) -> dict[str, Any]:
    """One thread, AR, batches of 32: the fastest of five turns. Call in a fresh process."""
    import torch

    from ablate.compute.execution import keep_freed_memory
    from experiments.benchmarks.step_profile import Loop

    keep_freed_memory()

    torch.set_num_threads(1)
    loop = Loop.of(OPERATIONS[length], seeds, compiled)
    start = time.perf_counter()
    loop.step()
    first = time.perf_counter() - start
    for _ in range(3):
        loop.step()
    best = 0.0
    for _ in range(5):
        begun, done = time.process_time(), 0
        while time.process_time() - begun < A_TURN / 5:
            loop.step()
            done += 1
        best = max(best, seeds * done / (time.process_time() - begun))
    return {
        "length": length,
        "seeds": seeds,
        "compiled": compiled,
        "precision": loop.precision.value,
        "seed_steps_a_cpu_second": best,
        "first_step_seconds": first,
    }


def table(result: dict[str, Any]) -> Table:
    """A line for each way, and for each pack size and length."""
    lines = Table("", "", "times one by one", box=box.SIMPLE, title="A study's speed")
    for way, entry in result["ways"].items():
        ratio = result["throughput"].get(way)
        rate = f"{entry['runs_an_hour']['median']:.0f} runs an hour"
        lines.add_row(way, rate, f"{ratio['median']:.2f}" if ratio else "1")
    for entry in result.get("steps", []):
        name = f"L={entry['length']}, S={entry['seeds']}{', compiled' * entry['compiled']}, {entry['precision']}"
        rate = f"{entry['seed_steps_a_cpu_second']:.0f} seed-steps a CPU s"
        lines.add_row(name, rate, f"{entry['times_one']:.2f}")
    return lines


def notes(result: dict[str, Any]) -> str:
    """What the numbers belong to."""
    rows = {way: sorted(set(entry["rows_a_run"])) for way, entry in result["ways"].items()}
    same = "the same number of rows a run in every way" if len({*map(tuple, rows.values())}) == 1 else f"ROWS: {rows}"
    return f"{result['runs']} runs, {result['workers']} at once; base models, probes and loading count; {same}"


def ratios(result: dict[str, Any]) -> dict[str, float]:
    """What `bench.py guard` compares, by name."""
    found = {way: ratio["median"] for way, ratio in result["throughput"].items()}
    for entry in result.get("steps", []):
        if (entry["seeds"], entry["compiled"]) != (1, False):
            found[f"L={entry['length']} S={entry['seeds']}{' compiled' * entry['compiled']}"] = entry["times_one"]
    return found

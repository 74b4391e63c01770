"""What lasts: memory and open files of a long run, and a folder of ten thousand runs. With a hundred rounds alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from experiments.study_runner import kept_results, plan_runs
from tests.experiments.test_study import assignment, blank, study
from tests.torture.commands import QUIET, tiny
from tests.torture.counts import ALL, part

STEPS, WARM, EVERY = 50_000, 5_000, 1_000
GROWTH = 0.02  # of resident memory in a stage, after its warm-up: another objective needs memory of its own
RUNS, SECONDS = 10_000, 10
pytestmark = pytest.mark.skipif(not ALL, reason="takes long: python -m tests.torture --rounds 100")


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_and_open_files_of_fifty_thousand_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from ablate.training.progress import ProgressCallback
    from ablate.training.train import train
    from experiments.presets.model_sizes import MODELS

    stages: dict[str, list[tuple[int, int, int]]] = {}  # by what is trained: step, memory, open files
    original = ProgressCallback.on_train_batch_end

    def looking(self, *arguments, **more):
        original(self, *arguments, **more)
        if not (step := self.counters[0].step) % EVERY:
            stages.setdefault(self.title, []).append((step, resident(), len(os.listdir("/proc/self/fd"))))

    monkeypatch.setattr(ProgressCallback, "on_train_batch_end", looking)
    run = tiny()
    tokens = STEPS * 2 * run.corpus.length
    budget = replace(run.budget, tokens=tokens, every=EVERY, evaluations=20)
    run = replace(
        run, model=MODELS["tiny"], batch=2, budget=budget, out=str(tmp_path / "run"), cache=str(tmp_path / "base")
    )
    with part("long: 50,000 steps, memory and open files") as tried:
        train(run, QUIET)
        for title, seen in [*stages.items()][-len(run.regime.stages) :]:
            after = [(memory, files) for step, memory, files in seen if step >= seen[0][0] + WARM]
            with tried.case(f"{title}: steps"):
                assert len(after) >= 5, f"looked at {[step for step, _, _ in seen]}"
            with tried.case(f"{title}: memory"):
                growth = max(memory for memory, _ in after) / after[0][0] - 1
                assert growth < GROWTH, f"grew by {growth:.1%}"
            with tried.case(f"{title}: open files"):  # a checkpoint that is being written is open for a moment
                half = len(after) // 2
                first, second = (min(files for _, files in part) for part in (after[:half], after[half:]))
                assert first == second, f"{first}, then {second}"


def test_ten_thousand_runs_in_one_results_folder_are_read_in_seconds(tmp_path: Path) -> None:
    asked = study(("ar", "regime=ar"), ("bidllm", "regime=bidllm"), seeds=list(range(RUNS // 2)))
    plan = plan_runs.plan(assignment(tmp_path, asked))
    kept_results.begin(plan)
    kept_results.keep(plan, blank(plan))
    with part("long: 10,000 runs in one results folder") as tried, tried.case("read"):
        begun = time.monotonic()
        known = kept_results.earlier(plan.study, plan.folder)
        assert len(known["runs"]) == RUNS
        seconds = time.monotonic() - begun
        assert seconds < SECONDS, f"{seconds:.1f} s"

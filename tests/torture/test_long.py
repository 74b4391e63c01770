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

STEPS, WARM, EVERY = 50_000, 10_000, 1_000
GROWTH = 0.02  # of resident memory after the warm-up
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

    seen: list[tuple[int, int, int]] = []
    original = ProgressCallback.on_train_batch_end

    def looking(self, *arguments, **more):
        original(self, *arguments, **more)
        if len(seen) * EVERY <= self.counters[0].step:
            seen.append((self.counters[0].step, resident(), len(os.listdir("/proc/self/fd"))))

    monkeypatch.setattr(ProgressCallback, "on_train_batch_end", looking)
    run = tiny()
    tokens = STEPS * 2 * run.corpus.length
    budget = replace(run.budget, tokens=tokens, every=EVERY, evaluations=20)
    run = replace(
        run, model=MODELS["tiny"], batch=2, budget=budget, out=str(tmp_path / "run"), cache=str(tmp_path / "base")
    )
    with part("long: 50,000 steps, memory and open files") as tried:
        train(run, QUIET)
        after = [(step, memory, files) for step, memory, files in seen if step >= WARM]
        with tried.case("steps"):
            assert seen[-1][0] > STEPS * 0.95, f"{seen[-1][0]} steps"
        with tried.case("memory"):
            growth = max(memory for _, memory, _ in after) / after[0][1] - 1
            assert growth < GROWTH, f"grew by {growth:.1%} from step {after[0][0]} on"
        with tried.case("open files"):
            assert len({files for _, _, files in after}) == 1, f"open files: {sorted({f for _, _, f in after})}"


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

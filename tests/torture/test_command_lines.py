"""Command lines from a grammar of hostile pieces: every one ends well or is refused in one line, and what is accepted
trains a step a stage."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablate.core.storage import describe
from ablate.core.terminal import terminal
from ablate.training.run_config import Run
from ablate.training.train import train
from experiments import (
    atlas,
    compare,
    evaluate,
    export,
    generate,
    knowledge,
    no_signal,
    one_step,
    plan,
    study,
    sweep,
    variance,
    verdicts,
    warmup,
)
from experiments.cli.command import Command
from experiments.cli.compose import jobs
from experiments.cli.entry import asked_for
from experiments.cli.guard import guarded
from experiments.cli.run_command import RUN
from experiments.finished_runs.evaluation import Evaluation
from experiments.finished_runs.generation import Generation
from experiments.presets.registry import GROUPS
from experiments.sweep_runner.search import gathered
from tests import ROOT
from tests.torture.commands import kept_run
from tests.torture.counts import ALL, ROUNDS, part

A_ROUND, PROCESSES, TRAINED = 50, 2, 3  # cases a round in this process, as processes, and accepted runs that train
PATIENCE = 120  # seconds for one case
LARGE = 4_000_000  # parameters, and LONG tokens a step: accepted, but not trained here
LONG = 20_000
HYDRA = {
    "run": RUN,
    "study": study.STUDY,
    "sweep": sweep.SWEEP,
    "knowledge": knowledge.SURVEY,
    "plan": plan.PLAN,
    "variance": variance.VARIANCE,
    "one_step": one_step.COMMAND,
}
PLAIN: dict[str, Callable[[list[str]], int]] = {
    "atlas": atlas.main,
    "verdicts": verdicts.main,
    "warmup": warmup.main,
    "compare": compare.main,
    "export": export.main,
    "no_signal": no_signal.main,
    "evaluate": evaluate.main,
    "generate": generate.main,
}
HOSTILE = (
    *("", "0", "-1", "1", "2", "7", "1.5", "1e9", "1e400", "nan", "-inf", "2147483648", str(2**63), "1" + "0" * 40),
    *("null", "true", "False", "[]", "{}", "[1,2]", "[0]", "['']", "{a:1}", "{kind:Linear}", "[[1]]", "x", "'x y'"),
    *("../x", "/", "/proc/1/mem", "'~nosuch/x'", "'x[/b]y'", "'[red]'", "':smile:'", "a:b", "'${seed}'", "'${nope}'"),
    *("'${regime}'", "'${oc.env:HOME}'", "${", "'\\n'", "é", "x" * 300, "a,b", "1,2", "range(3)", "glob(*)", "!"),
    *("hf:", "hf:nowhere", "hf:/dev/null", "/dev/zero", "'%s%n'", "=", "a=b", "--", "-1e-320", "0x10", "1_000"),
)
WORDS = ("", "=", "==", "seed", "=1", "+a=1", "~seed", "++seed=1", "seed@x=1", "-m", "--cfg", "-sc", "--", "-", "\\")


def paths_of(config: Any, prefix: str = "") -> Iterator[str]:
    """Every key of a described config that can be typed, inner ones as well."""
    parts = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for name, value in parts:
        if name != "kind":
            yield f"{prefix}{name}"
            yield from paths_of(value, f"{prefix}{name}.")


def lines_of(command: Command) -> st.SearchStrategy[list[str]]:
    """Lists of words for a command."""
    RUN.register()  # a sweep's runs are composed too
    command.register()
    keys = sorted({*paths_of(describe(jobs(command, [])[0])), *(f.name for f in dataclasses.fields(command.config()))})
    groups = [f"{group}={name}" for group in command.groups for name in GROUPS[group] if ALL or name != "python_source"]
    key = st.one_of(st.sampled_from(keys), st.sampled_from(keys).map(lambda k: k[:-1]), st.text(max_size=8))
    value = st.one_of(st.sampled_from(HOSTILE), st.integers().map(str), st.floats().map(str), st.text(max_size=12))
    odd = st.tuples(st.sampled_from(("", "", "+", "~", "++")), key, st.just("="), value).map("".join)
    likely = st.tuples(st.sampled_from(keys), st.sampled_from(HOSTILE)).map("=".join)
    word = st.one_of(odd, likely, likely, likely, st.sampled_from(groups or WORDS), st.sampled_from(WORDS))
    return st.lists(word.map(lambda w: w.replace("\0", "")), min_size=1, max_size=5)


def plain_lines() -> st.SearchStrategy[list[str]]:
    """Lists of words for commands that take options."""
    options = ("--out", "--results", "--predictions", "--draws", "--seed", "--metric", "out=", "dtype=", "--nope", "-x")
    options += ("prompt=", "order=", "pace=", "block_size=", "trace=", "questions=", "paces=", "orders=", "bounds=")
    options += ("task=", "task=humaneval", "task=mbpp", "samples=", "file=", "problems=", "samples_per_problem=", "ks=")
    word = st.one_of(st.sampled_from(options), st.sampled_from([h.strip("'") for h in HOSTILE]), st.text(max_size=8))
    return st.lists(word.map(lambda w: w.replace("\0", "")), max_size=5)


def drawn(lines: st.SearchStrategy[list[str]], cases: int, try_one: Callable[[list[str]], None]) -> None:
    """Tries so many lists of words, the same ones at every call."""
    quiet = settings(
        max_examples=cases, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    quiet(given(lines)(try_one))()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder; text is cached beside it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / "here"


def ended(script: str, words: list[str], start: Callable[[], int | None]) -> tuple[int, str]:
    """Exit code and errors of a command in this process. One that takes too long counts as a fault of its own."""

    def too_long(*_: Any) -> None:
        raise AssertionError(f"no end after {PATIENCE} seconds")

    out, error = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, [script, *words]
    handler = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(PATIENCE)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            guarded(start)
    except SystemExit as left:
        return int(left.code or 0), error.getvalue()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        sys.argv = before
    raise AssertionError("a guarded command returned")


def require_refused_or_done(words: list[str], code: int, error: str, place: Path) -> None:
    assert code in (0, 2), f"{words}: exit code {code}: {error}{trace_of(error)}"
    assert "no end after" not in error, f"{words}: {error}"
    assert "Traceback" not in error, f"{words}: {error}"
    if code == 2 and not error.startswith("usage: "):  # argparse says usage first
        assert 1 <= len(error.splitlines()) <= max(1, len(words)), f"{words}: {error}"  # one for each bad word at most


def trace_of(error: str) -> str:
    """The traceback that the line names."""
    files = [word.rstrip(",;") for word in error.split() if "ablate-fault-" in word]
    return "".join(Path(file).read_text() for file in files if Path(file).exists())


def shortened(run: Run) -> Run | None:
    """The run with a step a stage and little to measure; None where it is too large to train here, or where its
    other values do not allow two steps."""
    if run.model.parameters(run.vocabulary) > LARGE or run.batch * run.corpus.length > LONG:
        return None
    stages = [dataclasses.replace(stage, steps=1, share=0.0, warmup=0) for stage in run.regime.stages]
    little = {"evaluations": 1, "questions": 1, "contexts": 1, "decoded": 64, "base_tokens": 1, "tokens": 1}
    budget = dataclasses.replace(run.budget, **little)
    base = dataclasses.replace(run.base, steps=1, warmup=0, until=0.0)
    return dataclasses.replace(
        run, regime=dataclasses.replace(run.regime, stages=stages), base=base, budget=budget, out="out", cache="cache"
    )


@pytest.mark.parametrize("name", HYDRA)
def test_words_of_a_config_are_taken_or_refused(name: str, place: Path) -> None:
    command, cases = HYDRA[name], ROUNDS * A_ROUND // (2 if name == "run" else 12)
    with part(f"command lines: {name}") as tried:

        def try_one(words: list[str]) -> None:
            tried.tried += 1

            def start() -> None:
                asked_for(command, gathered(words) if name == "sweep" else words)

            code, error = ended(command.script, words, start)
            require_refused_or_done(words, code, error, place)
            assert not [*place.iterdir()], f"{words}: something was written"

        drawn(lines_of(command).filter(lambda words: not {"--cfg", "-sc"} & {*words}), cases, try_one)


def test_accepted_runs_train_two_steps(place: Path) -> None:
    with part("command lines: accepted runs train") as tried:
        lines = lines_of(RUN).filter(lambda words: not {"--cfg", "-sc", "-m"} & {*words})

        def try_one(words: list[str]) -> None:
            def job(run: Run) -> None:
                try:
                    short = shortened(run)
                except ValueError:
                    return
                if short is not None:
                    tried.tried += 1
                    train(short, terminal(quiet=True))

            if tried.tried < ROUNDS * TRAINED:
                words = ["model=tiny", "threads=1", *words]
                code, error = ended(
                    RUN.script, words, lambda: [job(run) for pack in asked_for(RUN, words) for run in pack] and 0
                )
                require_refused_or_done(words, code, error, place)
                shutil.rmtree(place / "out", ignore_errors=True)

        drawn(lines, ROUNDS * TRAINED * 20, try_one)


@pytest.mark.parametrize("name", PLAIN)
def test_words_of_options_are_taken_or_refused(name: str, place: Path) -> None:
    with part(f"command lines: {name}") as tried:

        def try_one(words: list[str]) -> None:
            tried.tried += 1
            code, error = ended(f"{name}.py", words, lambda: PLAIN[name](words))
            require_refused_or_done(words, code, error, place)

        few = {"no_signal": ["--draws", "100"], "atlas": ["--sample", "10", "programs_3"]}
        drawn(plain_lines().map(lambda words: [*few.get(name, []), *words]), ROUNDS * A_ROUND // 12, try_one)


@pytest.mark.parametrize(("name", "config"), [("generate", Generation), ("evaluate", Evaluation)])
def test_values_of_a_decoder_are_taken_or_refused(name: str, config: type, place: Path) -> None:
    """Of a finished run; what would take long is asked for little."""
    run = kept_run() / "run"
    few = {"generate": ["questions=1"], "evaluate": ["questions=1", "contexts=2", "block_sizes=[1]", "paces=[all]"]}[
        name
    ]
    keys = [f.name for f in dataclasses.fields(config) if f.name not in ("run", "runs", "sequences")]
    word = st.tuples(st.sampled_from(keys), st.sampled_from([h.strip("'") for h in HOSTILE])).map("=".join)
    with part(f"command lines: values of {name}") as tried:

        def try_one(words: list[str]) -> None:
            tried.tried += 1
            copy = place.parent / "run"  # rows go beside the run
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(run, copy)
            words = [str(copy), "questions=1", *few, *words]
            code, error = ended(f"{name}.py", words, lambda: PLAIN[name](words))
            require_refused_or_done(words, code, error, place)

        drawn(st.lists(word, max_size=2), ROUNDS * A_ROUND // 12, try_one)


def test_processes_end_in_the_same_way(place: Path) -> None:
    """As typed in a shell. What is accepted prints its configuration and stops."""
    scripts = [*(f"experiments/{name}.py" for name in {**HYDRA, **PLAIN, "bench": None}), "paper_figs.py"]

    def line(script: str) -> st.SearchStrategy[list[str]]:
        name = Path(script).stem
        words = lines_of(HYDRA[name]).map(lambda w: [*w, "--cfg", "job"]) if name in HYDRA else plain_lines()
        nonsense = (
            ["nonsense"] if name in ("atlas", "bench", "paper_figs", "no_signal") else []
        )  # else they would set to work
        return words.map(lambda w: [script, *nonsense, *w])

    with part("command lines: as processes") as tried:

        def try_one(words: list[str]) -> None:
            tried.tried += 1
            script, *rest = words
            done = subprocess.run(
                [sys.executable, str(ROOT / script), *rest],
                cwd=place,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=PATIENCE,
            )
            require_refused_or_done(words, done.returncode, done.stderr, place)

        drawn(st.sampled_from(scripts).flatmap(line), ROUNDS * PROCESSES, try_one)

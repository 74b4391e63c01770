"""Every figure by name: what is drawn from which rows, what is said where there are none, and that torch stays away."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import paper_figs
from ablate.core import records
from experiments.reports import figure_catalogue
from figures.drawing import style
from tests.figures import example_rows
from tests.figures.example_rows import keep, study

DRAWN = {
    "training_dynamics": ["_regimes_trace", "_regimes_python_python_source"],
    "excess_bits": ["_regimes_trace"],
    "warmup_stability": ["_warmup_trace"],
    "warmup_ingredients": ["_warmup_trace"],
    "outcomes_by_arm": ["_regimes", "_order", "_dial_k"],
    "after_switch": ["_order"],
    "dose_response": ["_dial_k"],
    "candidates_by_sampler": ["_arithmetic", "_trace"],
    "visits_and_mismatch": ["_arithmetic", "_trace"],
    "learning_cost": ["_arithmetic", "_trace"],
    "null_theory": ["_regimes_trace"],
    "decoding_paces": ["_trace"],
    "sweep_map": ["_s"],
    "importance": ["_s"],
    "verdicts": ["", "_exploratory"],
}
EVERY = {f"{name}{end}" for name in paper_figs.FIGURES for end in DRAWN.get(name, [""])}
SECONDS = 120  # of one core: a minute of two


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return example_rows.results(tmp_path_factory.mktemp("rows") / "results")


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Names that were drawn, without the time it takes."""
    stems = []
    monkeypatch.setattr(paper_figs, "OUT", tmp_path / "out")
    monkeypatch.setattr(paper_figs, "MOST", 1)
    monkeypatch.setattr(style, "save", lambda figure, stem: stems.append(stem.name) or [stem])
    return stems


@pytest.mark.slow
def test_every_figure_is_drawn_in_seconds_and_without_torch(results, tmp_path):
    """Of one core's time, so that whatever else the machine does is not counted."""
    code = (
        "import sys, pathlib, paper_figs; paper_figs.OUT = pathlib.Path(sys.argv[2]);"
        "done = paper_figs.main(['--results', sys.argv[1]]);"
        "print(*{'torch', 'hydra', 'lightning', 'optuna'} & set(sys.modules), file=sys.stderr); sys.exit(done)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    root = Path(paper_figs.__file__).parent
    command = [sys.executable, "-c", code, str(results), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stderr.strip() == ""
    assert "not drawn" not in done.stdout
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {f"{stem}.{kind}" for stem in EVERY for kind in ("png", "pdf")}
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < SECONDS


@pytest.mark.slow
def test_torch_is_not_even_imported():
    code = "import sys, paper_figs, experiments.compare; print(*{'torch', 'hydra', 'lightning'} & set(sys.modules))"
    root = Path(paper_figs.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_what_lacks_its_rows_is_said_and_the_rest_is_drawn(drawn, tmp_path, capsys):
    assert paper_figs.main(["--results", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert drawn == ["paper_training_dynamics", "paper_warmup"]
    for name in paper_figs.FIGURES:
        assert f"{name}: not drawn, wanted rows in {tmp_path}" in said or name in drawn
    assert "type python experiments/study.py study=regimes" in said
    assert "type python experiments/verdicts.py" in said


def test_a_part_that_lacks_a_measurement_is_left_out(drawn, results):
    """Real text has no oracle, so its condition has curves of bits per byte and no excess bits."""
    asked = ["training_dynamics", "excess_bits", "null_theory"]
    assert paper_figs.main([*asked, "--results", str(results)]) == 0
    assert sorted(drawn) == sorted(f"{name}{end}" for name in asked for end in DRAWN[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "nonsense: unknown; wanted one of paper_training_dynamics"),
        (["excess_bits"], "regimes/records.parquet; nothing there; type python experiments/study.py study=regimes"),
        (["learning_cost"], "type python experiments/knowledge.py corpus=trace corpus.operations=5"),
        (["null_theory", "--from", "world"], "wanted metric excess_bits and corpus trace in the rows of --from"),
        (["excess_bits", "--survey", "survey"], "regimes/records.parquet; nothing there"),
        (["--from", "nowhere"], "nowhere: wanted a run folder"),
        (["--survey", "nowhere"], "nowhere: wanted a run folder"),
        (["--survey", "world"], "came without fingerprint, context_sampler"),
        (["--from", "survey"], "came without run"),
    ],
)
def test_paper_figs_refuses(arguments, message, drawn, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    keep(tmp_path / "world", study(regimes=["ar"], seeds=1))
    keep(tmp_path / "survey", example_rows.survey(), records.SURVEY)
    assert paper_figs.main([*arguments, "--results", "empty"]) == 2
    assert message in capsys.readouterr().err
    assert drawn == []


def test_a_damaged_file_is_named(drawn, results, tmp_path, capsys):
    shutil.copytree(results, tmp_path / "results")
    (tmp_path / "results" / "verdicts.parquet").write_text("no parquet")
    assert paper_figs.main(["--results", str(tmp_path / "results")]) == 2
    assert "verdicts.parquet: wanted a parquet file" in capsys.readouterr().err


def test_new_runs_and_surveys_are_drawn_in_their_place(drawn, tmp_path):
    keep(tmp_path / "run", study(regimes=["ar"], seeds=1))
    keep(tmp_path / "survey", example_rows.survey(), records.SURVEY)
    assert paper_figs.main(["--from", str(tmp_path / "run"), "--results", str(tmp_path)]) == 0
    assert drawn == ["training_dynamics", "excess_bits", "outcomes_by_arm"]
    drawn.clear()
    assert paper_figs.main(["--survey", str(tmp_path / "survey")]) == 0
    assert drawn == [f"{name}_trace" for name in ("candidates_by_sampler", "visits_and_mismatch", "learning_cost")]


def test_a_study_can_be_named_instead_of_a_run(drawn, results):
    rows = figure_catalogue.read_runs([str(results / "regimes")])
    assert set(rows["regime"]) == set(example_rows.PAPER)
    assert paper_figs.main(["outcomes_by_arm", "--from", str(results / "regimes")]) == 0
    assert drawn == ["outcomes_by_arm_regimes"]


def test_arms_of_a_study_are_told_apart_where_their_regime_is_one(tmp_path):
    rows = example_rows.regimes().assign(regime="same")
    keep(tmp_path / "s", rows, records.STUDY)
    assert set(figure_catalogue.read_study(tmp_path / "s")["regime"]) == set(example_rows.PAPER)


def test_too_few_trials_for_an_importance_are_no_rows(drawn, results, tmp_path, capsys):
    shutil.copytree(results / "sweep", tmp_path / "sweep")
    path = tmp_path / "sweep" / "importance.parquet"
    pd.read_parquet(path).assign(importance=float("nan")).to_parquet(path)
    assert paper_figs.main(["importance", "--results", str(tmp_path)]) == 2
    assert "came none; type python experiments/sweep.py" in capsys.readouterr().err


@pytest.mark.slow
def test_several_processes_draw_what_one_draws(results, tmp_path, monkeypatch):
    names = ["clean_share", "importance"]
    for most, folder in ((1, "one"), (2, "two")):
        monkeypatch.setattr(paper_figs, "MOST", most)
        monkeypatch.setattr(paper_figs, "OUT", tmp_path / folder)
        assert paper_figs.main([*names, "--results", str(results)]) == 0
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert len(list((tmp_path / "two").iterdir())) == 4

"""The command line of the survey, as typed."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import synthetic_data
from ablate.analysis.corpus_survey import Survey
from ablate.core import records
from ablate.core.corpus import Split
from ablate.training.run_files import write_config
from experiments import knowledge
from experiments.presets.corpus_presets import CORPORA, context_samplers

SMALL = "corpus=arithmetic corpus.chain=2 rows=32 questions=8 rates=[0.5]"
LEFT = {"records.parquet", "config.yaml"} | {
    f"{name}.{kind}" for name in ("candidates_by_sampler", "learning_cost") for kind in ("png", "pdf")
}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("corpus=sudoku", ["corpus=sudoku", "arithmetic", "type corpus="]),
        ("sead=1", ["sead", "type seed=VALUE"]),
        ("corpus=arithmetic corpus.digit=2", ["corpus.digit", "type corpus.digits="]),
        ("regime=ar", ["regime", "wanted one of corpus, seed, rows"]),
        ("rows=1", ["rows: wanted 4..", "got 1; try rows=4"]),
        ("rows=3", ["rows: wanted 4.."]),
        ("questions=7", ["questions: wanted 8..", "got 7; try questions=8"]),
        ("rates=[0.5,0]", ["rates: wanted mask rates in (0, 1]"]),
        ("corpus=text", ["corpus=text", "oracle", "type corpus=trace"]),
        ("corpus=python_source", ["corpus=python_source", "oracle"]),
        ("out=/proc/x", ["out=/proc/x", "can be written", "type out=PATH"]),
        ("corpus.split=nonsense", ["corpus.split", "nonsense", "type corpus.split=train"]),
        ("corpus=trace,arithmetic", ["no sweep was asked for", "type -m corpus=trace,arithmetic"]),
        ("-m corpus=trace,arithmetic out=both", ["both: wanted a folder for each survey"]),
        ("-m seed=3,3", ["a folder for each survey"]),
        ("-m corpus=trace,sudoku", ["corpus=sudoku"]),
        ("--frobnicate", ["no such option", "--help"]),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(words, said, typed, tmp_path):
    code, out, error = typed(knowledge.SURVEY, knowledge.job, *words.split())
    assert code == 2
    assert out == ""
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert all(part in error for part in said), error
    assert list(tmp_path.iterdir()) == []


def test_help_names_the_corpora(typed, tmp_path):
    code, out, _ = typed(knowledge.SURVEY, knowledge.job, *["--help"])
    assert code == 0
    assert all(f"\n  {name} " in out for name in CORPORA)
    assert "rows=4096" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_small_survey_as_typed(typed, tmp_path):
    """Rows of every law, the figures, the configuration; the same command again, in another process, equals it."""
    command = [sys.executable, knowledge.__file__, *SMALL.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert typed(knowledge.SURVEY, knowledge.job, *SMALL.split())[0] == 0
    assert list((tmp_path / "runs").iterdir()) == [folder]
    assert first == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(first) == LEFT
    assert folder.name.startswith("knowledge-arithmetic-")
    assert all(name in done.stdout for name in LEFT)
    rows = records.read(folder, records.SURVEY)
    assert set(rows["context_sampler"]) == {*context_samplers(), records.FIXED_RATE}
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["rows"], config["questions"], config["corpus"]["chain"]) == (32, 8, 2)


@pytest.mark.slow
def test_a_sweep_surveys_each_corpus(typed, tmp_path, monkeypatch):
    few = {name: law for name, law in context_samplers().items() if name in ("AR", "block 2")}
    monkeypatch.setattr(knowledge, "context_samplers", lambda: few)
    words = ["-m", "corpus=trace,arithmetic", "rows=32", "questions=8", "rates=[0.5]"]
    code, out, error = typed(knowledge.SURVEY, knowledge.job, *words)
    assert (code, error) == (0, "")
    corpora = set()
    for folder in (tmp_path / "runs").iterdir():
        assert {path.name for path in folder.iterdir()} == LEFT
        corpora |= set(records.read(folder, records.SURVEY)["corpus"])
    assert corpora == {"trace", "arithmetic"}
    assert all(f"{corpus}, new domain, train split" in out for corpus in corpora)


def survey(**about):
    return Survey(synthetic_data.make("trace", operations=3), **about)


def test_two_surveys_never_share_a_folder():
    one = survey()
    world = one.corpus
    others = [
        survey(seed=1),
        survey(rows=640),
        survey(questions=16),
        survey(rates=[0.5]),
        replace(one, thresholds=replace(one.thresholds, reasoning=2.0)),
        *(
            replace(one, corpus=corpus)
            for corpus in (
                replace(world, operations=4),
                replace(world, split=Split.test),
                synthetic_data.noisy(world, 0.05),
                synthetic_data.noisy(world, 0.1),
            )
        ),
    ]
    folders = [one.folder, *(other.folder for other in others)]
    assert len(set(folders)) == len(folders)
    assert survey().folder == one.folder
    assert one.folder.parent == Path("runs")
    assert survey(out="there").folder == Path("there")


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    mine = survey(out=str(tmp_path / "mine"))
    write_config(mine)
    (tmp_path / "mine" / records.FILE).write_text("rows")
    assert knowledge.check([mine]) == [mine]  # its own: measured again
    other = survey(out=mine.out, seed=1)
    run = tmp_path / "run"
    run.mkdir()
    (run / records.FILE).write_text("rows of a run")
    for refused in (other, survey(out=str(run))):
        with pytest.raises(ValueError, match="got other files; type out=PATH"):
            knowledge.check([refused])
    (tmp_path / "mine" / "config.yaml").write_text("[broken")
    with pytest.raises(ValueError, match="got other files"):
        knowledge.check([mine])


def rows(**costs):
    """Two laws: what they cost in their own contexts and in AR's."""
    blank = {
        "corpus": "world",
        "domain": "new",
        "split": "train",
        "fingerprint": "f",
        "seed": 0,
        "rate": None,
        "block_size": None,
        "asked": "all",
        "weight": "",
        "infer": "",
        "metric": "cost_known",
    }
    cells = {("AR", "AR"): costs["ar"], ("random masks", "random masks"): costs["own"], ("random masks", "AR"): 99.0}
    paid = [{**blank, "context_sampler": law, "infer": infer, "value": value} for (law, infer), value in cells.items()]
    entropy = {**blank, "context_sampler": "AR", "metric": "k1", "weight": "loss", "value": 2.0}
    return records.table([*paid, entropy], records.SURVEY)


@pytest.mark.parametrize(
    ("ar", "own", "cell"),
    [(0.0775, 0.093, "0.093 (1.2x)"), (0.0, 0.093, "0.093"), (0.1, 0.0, "0.000 (0x)"), (0.1, float("nan"), "–")],
)
def test_a_cost_is_told_in_its_own_contexts_beside_ars(ar, own, cell):
    assert knowledge._cost(rows(ar=ar, own=own), "random masks", "cost_known") == cell


def test_what_was_not_measured_is_a_dash():
    frame = rows(ar=0.1, own=0.2)
    value = knowledge._reader(frame, "AR")
    assert value("k1", "all", weight="loss") == 2.0
    assert value("k1", "all") != value("k1", "all")  # nan: no such row
    assert knowledge._cost(frame, "suffix masks", "cost_known") == knowledge.NOTHING
    cells = [column._cells for column in knowledge.table(frame).columns]
    assert [cell[0] for cell in cells] == ["AR", "2.00", *"–––––", "0.100 (1.0x)", "–", "–"]

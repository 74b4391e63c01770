"""Finished runs under many protocols: tidy rows, kept as they come, and words that are refused in one line."""

import shutil

import pandas as pd
import pytest
from rich.console import Console

from ablate.core import records
from ablate.core.blocks import Grid
from ablate.core.validation import UsageError
from ablate.decoding.protocol import Order
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.regime import Regime, Stage
from ablate.training.train import train
from experiments import evaluate
from experiments.finished_runs import measure
from experiments.finished_runs.evaluation import read
from tests.builders import tiny_run

FEW = ["block_sizes=[1,8]", "orders=[random,oracle_k]", "paces=[tokens:1,all]", "questions=6", "contexts=40"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    regime = Regime("block", [Stage(BlockDiffusion(2), 1.0, warmup=2)])
    run = tiny_run(tmp_path_factory.mktemp("evaluated"), regime=regime)
    train(run, Console(quiet=True))
    return run.folder


@pytest.mark.slow
def test_every_combination_is_a_row_of_each_metric_with_its_error(finished, capsys):
    words = [str(finished), *FEW, "grids=[answer,sequence]", "bounds=[2]", "oracle=true", "draw=false"]
    assert evaluate.main(words) == 0
    rows = records.read(finished / measure.FILE, records.EVALUATION)
    decoded = rows[rows["contexts"] == "decode"]
    assert decoded.groupby("objective").size().to_dict() == {"BlockDiffusion(2)": 16 * 5, "oracle": 16 * 5}
    assert set(decoded["metric"]) == {"score", "exact", "tokens_a_pass", "left_to_right", "inconsistent"}
    assert decoded.loc[decoded["metric"].isin(["score", "exact"]), "error"].notna().all()
    assert (decoded["n"] == 6).all()
    one = decoded[(decoded["pace"] == "tokens:1") & (decoded["metric"] == "tokens_a_pass")]
    assert (one["value"] == 1).all()
    bound = rows[rows["contexts"] == "bound"]
    assert sorted(bound["offset"]) == [0, 0, 1, 1]
    assert (bound["n"] == 40).all()
    said = capsys.readouterr().out
    assert "oracle" in said
    assert "offset 1" in said


def test_what_is_there_is_not_measured_again(finished, monkeypatch):
    asked = read([str(finished), *FEW])
    measure.evaluated(finished, asked)
    before = measure.evaluated(finished, asked)  # as it is kept
    monkeypatch.setattr(measure, "decode", None)
    pd.testing.assert_frame_equal(measure.evaluated(finished, asked), before)
    more = read([str(finished), *FEW[:-2], "questions=7"])
    with pytest.raises(TypeError):  # other questions are asked
        measure.evaluated(finished, more)


def test_damaged_records_are_named(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "records.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"records\.parquet"):
        evaluate.main([str(tmp_path / "run"), *FEW, "questions=3"])


def test_a_heat_map_of_each_metric_lies_beside_the_rows(finished):
    words = [str(finished), *FEW, "sequences=4", "questions=5"]
    assert evaluate.main([*words, "draw=false"]) == 0
    assert not list(finished.glob("evaluation_*"))
    assert evaluate.main(words) == 0
    metrics = ("score", "exact", "tokens_a_pass", "left_to_right", "inconsistent")
    names = [*metrics, "sequences_possible", "sequences_tokens_a_pass", "sequences_left_to_right"]
    wanted = {f"evaluation_{name}.{kind}" for name in names for kind in ("png", "pdf")}
    assert {path.name for path in finished.glob("evaluation_*")} == wanted


def test_the_prefix_cache_is_named_approximate_in_its_rows(finished, tmp_path):
    run = tiny_run(tmp_path, regime=Regime("full", [Stage(MaskedDiffusion(), 1.0, warmup=2)]))
    train(run, Console(quiet=True))
    few = ["block_sizes=[2]", "orders=[confidence]", "paces=[tokens:1]", "questions=6", "draw=false"]
    rows = measure.evaluated(run.folder, read([str(run.folder), *few, "caches=[exact,prefix]"]))
    named = rows.groupby("metric")["protocol"].apply(lambda p: sorted("prefix cache, approximate" in one for one in p))
    assert named.map(lambda found: found == [False, True]).all()
    for folder, words in ((finished, []), (run.folder, ["oracle=true"])):
        with pytest.raises(UsageError, match=r"caches=\[prefix\]: wanted a network with full attention, got "):
            evaluate.main([str(folder), *few, "caches=[prefix]", *words])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "wanted one or more folders of finished runs"),
        (["x", "order=random"], "order=random: wanted RUN folders and block_sizes, orders"),
        (["x", "--fast"], "--fast: wanted RUN folders"),
        (["x", "caches=[fast]"], "caches: 'fast' is not a valid Cache"),
        (["x", "draw=perhaps"], "draw: wanted true or false"),
        (["x", "orders=[sideways]"], "orders: 'sideways' is not a valid Order"),
        (["x", "orders=random"], r"orders: wanted a list, got 'random'; type orders=\[random\]"),
        (["x", "paces=[fast]"], "paces: pace: wanted tokens:N"),
        (["x", "block_sizes=[0]"], "block_sizes: wanted whole numbers"),
        (["x", "block_sizes=[true]"], "block_sizes: wanted whole numbers"),
        (["x", "block_sizes=[1.5]"], "block_sizes: wanted whole numbers"),
        (["x", "questions=0"], "questions: wanted 1"),
        (["x", "oracle=perhaps"], "oracle: wanted true or false"),
        (["x", "paces=[a"], "wanted paces=VALUE"),
        (["nowhere"], "nowhere: wanted the folder of a run"),
    ],
)
def test_other_words_are_refused(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        evaluate.main(words)
    assert not list(tmp_path.iterdir())


def test_orders_and_grids_are_read_by_name():
    asked = read(["x", "orders=[margin]", "grids=[sequence]", "paces=[dynamic:0.5]"])
    assert (asked.orders, asked.grids, asked.paces) == ([Order.margin], [Grid.sequence], ["dynamic:0.5"])

"""Records and what is drawn from them: figures are functions of rows alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from ablate.core import records
from ablate.core.storage import WriteError
from experiments import compare
from figures.drawing import arms, curves, style
from figures.learning import excess_bits, training_dynamics
from figures.paper import paper_training_dynamics
from tests.builders import full
from tests.figures.example_rows import END, ROW, SWITCH, keep, run_rows, study


def artists(figure, gid):
    """Per panel, the data of the artists of one kind."""
    return [[line for line in axis.lines if line.get_gid() == gid] for axis in figure.axes]


def points(figure):
    """Everything drawn as plain numbers."""
    found = []
    for axis in figure.axes:
        for line in axis.lines:
            found.append((line.get_gid(), line.get_color(), line.get_linestyle(), line.get_xydata().tolist()))
        for band in axis.collections:
            found.append((band.get_gid(), band.get_facecolor().tolist(), band.get_paths()[0].vertices.tolist()))
    return found


def test_records_survive_the_file(tmp_path):
    frame = records.table([ROW, ROW | {"block_size": None, "value": 0.25}])
    records.write(frame, tmp_path / records.FILE)
    for path in (tmp_path, tmp_path / records.FILE):
        pd.testing.assert_frame_equal(records.read(path), frame)
    assert frame["block_size"].dtype == "Int64"
    assert frame["block_size"].isna().sum() == 1


def test_equal_runs_give_equal_files(tmp_path):
    rows = run_rows()
    records.write(records.table(rows), tmp_path / "a")
    records.write(records.table(rows[::-1]), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_no_rows_are_a_table_too(tmp_path):
    records.write(records.table([]), tmp_path / "a")
    assert list(records.read(tmp_path / "a")) == list(records.COLUMNS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "row 0.*unknown extra"),
        ({"step": 1.5}, "column step wants int64"),
        ({"seed": None}, "column seed wants int64"),
        ({"value": "high"}, "column value wants float64"),
        ({"run": 3}, "column run wants text; came 3"),
    ],
)
def test_wrong_rows_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        records.table([ROW | change])


def test_missing_columns_are_named():
    with pytest.raises(ValueError, match="missing stage, value"):
        records.table([{name: value for name, value in ROW.items() if name not in ("stage", "value")}])


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / records.FILE
    records.write(records.table([ROW]), path)
    before = path.read_bytes()

    def fail(frame, file, **_):
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(OSError, match="disk full"):
        records.write(records.table([ROW | {"value": 0.75}]), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_reading_says_what_is_wrong(tmp_path):
    (tmp_path / "text.parquet").write_text("not parquet")
    pd.DataFrame({"run": ["a"]}).to_parquet(tmp_path / "other.parquet")
    for name, message in [
        ("none", "nothing there"),
        ("", "without records.parquet"),
        ("text.parquet", "cannot be read"),
    ]:
        with pytest.raises(ValueError, match=message):
            records.read(tmp_path / name)
    with pytest.raises(ValueError, match="came without corpus, regime"):
        records.read(tmp_path / "other.parquet")


def test_gathering_names_every_bad_folder_and_every_twin(tmp_path):
    good, copy = (keep(tmp_path / name, records.table([ROW])) for name in ("good", "copy"))
    with pytest.raises(ValueError, match=r"(?s)absent.*bare.*run 'r': wanted once"):
        records.gather([good, copy, tmp_path / "absent", tmp_path / "bare"])
    assert len(records.gather([good, good])) == 1


def test_a_figure_is_a_function_of_its_rows():
    rows = study()
    shuffled = rows.sample(frac=1, random_state=0)
    for draw in (training_dynamics.draw, excess_bits.draw):
        assert points(draw(rows)) == points(draw(shuffled))


def test_panels_go_from_large_blocks_to_small():
    assert [axis.get_title() for axis in training_dynamics.draw(study()).axes] == [
        "Block size 32",
        "Block size 2",
        "Block size 1",
    ]


def test_lines_are_solid_then_dotted_over_a_dashed_baseline():
    rows = study(regimes=["ar_to_bidllm"], seeds=1)
    figure = training_dynamics.draw(rows)
    for lines, baselines, switches in zip(
        *(artists(figure, gid) for gid in ("seed", "baseline", "switch")), strict=True
    ):
        solid, dotted = lines
        assert solid.get_linestyle() == "-"
        assert dotted.get_linestyle() == "--"  # matplotlib's word for any dash pattern
        assert dotted._unscaled_dash_pattern[1] == curves.DOTTED[1]
        assert solid.get_xdata().tolist() == [0, 20, 40, 60]
        assert dotted.get_xdata().tolist() == [60, 60, 80]
        np.testing.assert_allclose(dotted.get_ydata(), [0.7, 0.75, 0.95])
        assert [line.get_ydata()[0] for line in baselines] == [0.1]
        assert [line.get_xdata()[0] for line in switches] == [SWITCH]
    assert figure.axes[0].get_ylim() == (-0.02, 1.02)


def test_the_band_is_the_t_interval_over_seeds():
    rows = study(regimes=["ar"], seeds=4, sizes=(1,))
    band = training_dynamics.draw(rows).axes[0].collections[0]
    values = rows[(rows["stage"] == 0) & (rows["step"] == END) & (rows["metric"] == "score")]["value"]
    at_end = [y for x, y in band.get_paths()[0].vertices if x == END]
    expected = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose([min(at_end), max(at_end)], expected)


def test_two_seeds_are_drawn_one_by_one():
    figure = training_dynamics.draw(study(regimes=["ar"], seeds=2, sizes=(1,)))
    assert len(artists(figure, "seed")[0]) == 2
    assert len(artists(figure, "mean")[0]) == 1
    assert not figure.axes[0].collections


def test_a_mean_stops_where_a_seed_is_missing():
    rows = study(regimes=["ar"], sizes=(1,))
    figure = training_dynamics.draw(rows[(rows["seed"] != 1) | (rows["step"] <= 40)])
    assert artists(figure, "mean")[0][0].get_xdata().tolist() == [0, 20, 40]


def test_base_models_that_differ_between_arms_are_drawn_apart():
    rows = study(sizes=(1,))
    moved = (rows["stage"] < 0) & (rows["regime"] == "bidllm")
    figure = training_dynamics.draw(rows.assign(value=rows["value"].where(~moved, 0.3)))
    colours = {line.get_color() for line in artists(figure, "baseline")[0]}
    assert colours == {style.COLOURS["ar_to_bidllm"], style.COLOURS["bidllm"]}


def test_real_text_is_drawn_by_law_of_contexts():
    rows = study(corpus="text", metrics=("bits_per_byte",))
    assert training_dynamics.headline(rows) == "bits_per_byte"
    figure = training_dynamics.draw(rows, metric="bits_per_byte")
    titles = [axis.get_title() for axis in figure.axes if axis.axison]
    assert titles == ["Random masks"] + [f"Block contexts, size {size}" for size in (32, 2, 1)]
    with pytest.raises(ValueError, match=r"wanted metric excess_bits.*came bits_per_byte new test"):
        excess_bits.draw(rows)


def test_curves_are_not_mixed():
    rows = study(regimes=["ar"], seeds=1)
    with pytest.raises(ValueError, match=r"one corpus; came other .*; world .*"):
        training_dynamics.draw(pd.concat([rows, study(regimes=["ar"], corpus="other")]))
    with pytest.raises(ValueError, match="regime ar, seed 0: wanted one run"):
        training_dynamics.draw(pd.concat([rows, rows.assign(run="again")]))
    half = rows.assign(protocol=np.where(rows["step"] > 20, "greedy", "random"))
    with pytest.raises(ValueError, match="one decoding protocol; came greedy; random"):
        training_dynamics.draw(half)


def test_every_regime_has_its_own_look():
    names = [*style.COLOURS, *(f"other_{index}" for index in range(20))]
    assert len(set(style.looks(names).values())) == len(names)
    assert style.looks(["z", "ar"]) == style.looks(["ar", "z"])
    assert style.label("ardllm_to_bidllm") == "ARDLLM→BiDLLM"


def test_saving_twice_gives_equal_bytes(tmp_path):
    rows = study(regimes=["ar"], seeds=1, sizes=(1,))
    first, second = (style.save(training_dynamics.draw(rows), tmp_path / name) for name in ("a", "b"))
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdf", "a.png", "b.pdf", "b.png"]


def test_a_full_disk_is_named_whatever_is_being_written(tmp_path):
    """Also where the PNG fits and the PDF does not, in the middle of which matplotlib meets errors of its own."""
    drawn = Figure(figsize=(1, 1))
    drawn.subplots().plot(np.random.default_rng(0).random(9000))
    png, pdf = (path.stat().st_size for path in style.save(drawn, tmp_path / "whole"))
    for size in (0, png - 1, png, (png + pdf) // 2, pdf - 1):
        folder = tmp_path / f"{size}"
        with full(size), pytest.raises(WriteError, match="File too large"):
            style.save(drawn, folder / "a")
        assert [path.name for path in folder.iterdir()] == ["a.png"] * (size >= png)


def test_the_papers_table_is_what_its_figure_shows():
    rows = paper_training_dynamics.rows()
    at = rows[(rows["block_size"] == 1) & (rows["step"] == 100_000)].set_index("regime")["value"]
    assert at.to_dict() == {"ar_to_bidllm": 24.7, "ardllm_to_bidllm": 22.0, "bidllm": 13.7}
    figure = paper_training_dynamics.draw()
    assert [line[0].get_ydata()[0] for line in artists(figure, "baseline")] == [16.5] * 3
    assert [line[0].get_xdata()[0] for line in artists(figure, "switch")] == [100_000] * 3


@pytest.mark.slow
def test_compare_end_to_end(tmp_path):
    folders = [keep(tmp_path / name, study([name], seeds=1, sizes=(1,))) for name in ("ar_to_bidllm", "bidllm")]
    command = [sys.executable, compare.__file__, *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert {path.name for path in (folders[0].parent / "compare").iterdir()} == {
        f"{stem}.{kind}" for stem in ("compare", "compare_excess_bits") for kind in ("png", "pdf")
    }
    assert "AR→BiDLLM" in done.stdout
    assert "1/1 reached" in done.stdout
    again = sorted(tmp_path.iterdir())  # the folder of pictures is itself among the arguments
    assert len(again) == 3
    assert compare.main(list(map(str, again))) == 0


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a", "other"], "wanted one corpus; came other"), (["a", "bare"], "bare: wanted a run folder")],
)
def test_compare_refuses_and_writes_nothing(names, message, tmp_path, capsys):
    keep(tmp_path / "a", study(regimes=["ar"], seeds=1))
    keep(tmp_path / "other", study(regimes=["ar"], seeds=1, corpus="other"))
    assert compare.main([str(tmp_path / name) for name in names]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "compare").exists()


def test_steps_to_the_threshold_count_runs_that_stopped_short():
    rows = study(regimes=["ar"], seeds=4, sizes=(1,), metrics=("score",))
    assert compare.steps_cell(rows) == "4/4 reached\nmedian 80"
    short = rows[(rows["seed"] > 0) | (rows["step"] < END)]
    assert compare.steps_cell(short) == "3/4 reached\nmedian 80"
    assert compare.steps_cell(rows[rows["step"] < END]) == "0/4 reached"


def test_mean_over_training_is_the_area_over_the_steps():
    curve = records.table(ROW | {"step": step, "value": value} for step, value in [(0, 1.0), (10, 0.0), (30, 0.0)])
    assert compare.mean_over_training(curve) == pytest.approx(5 / 30)
    assert compare.mean_over_training(curve[:1]) is None


def test_intervals_wait_for_three_seeds():
    assert np.isnan(arms.interval(np.array([1.0, 2.0]))[1])
    mean, half = arms.interval(np.array([1.0, 2.0, 3.0]))
    assert (mean, half) == (2.0, pytest.approx(stats.t.ppf(0.975, 2) / np.sqrt(3)))

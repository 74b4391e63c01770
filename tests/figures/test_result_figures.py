"""Figures of committed results: every number stands where it belongs, and what was not measured stands nowhere."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from figures.contexts import tabular_and_network, visits_and_mismatch
from figures.drawing import arms, figure_rows, sampler_labels, style
from figures.learning import (
    decoding_map,
    outcomes_by_arm,
    parameter_importance,
    prediction_verdicts,
    sweep_map,
    warmup_dynamics,
)
from figures.noise import clean_context, empty_blocks
from figures.paper import paper_training_dynamics, paper_warmup
from tests.figures import example_rows


def lines(axis, gid):
    return [line for line in axis.lines if line.get_gid() == gid]


def tables(*questions):
    surveys = [example_rows.survey(questions=n) for n in questions]
    return pd.concat([rows.assign(shown=sampler_labels.questions_of(rows) // 2) for rows in surveys], ignore_index=True)


def caption(figure):
    (text,) = (text for part in figure.subfigs for text in part.texts if text.get_gid() == "caption")
    return text.get_text().replace("\n", " ")


def test_our_curves_stand_below_the_papers_in_its_layout():
    figure = paper_training_dynamics.beside(example_rows.regimes())
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == 2 * ["Block size 32", "Block size 2", "Block size 1"]
    paper, ours = figure.axes[2], figure.axes[5]
    assert len(lines(paper, "seed")) == 5  # two arms in two stages, one in one
    assert {line.get_color() for line in lines(paper, "seed")} == {line.get_color() for line in lines(ours, "mean")}
    assert max(line.get_xdata().max() for line in lines(paper, "seed")) == 135_000
    assert max(line.get_xdata().max() for line in lines(ours, "seed")) == example_rows.END
    assert "trace" in caption(figure)


@pytest.mark.parametrize(
    ("arm", "ingredient", "share"),
    [
        ("none", "none", None),
        ("cap_0.3", "cap", 0.3),
        ("drop_.1", "drop", 0.1),
        ("both_0.1", "both", 0.1),
        ("cap_drop", "both", None),
        ("ar", "ar", None),
        ("block_4", "", None),
        ("cap_4_clip", "", None),
    ],
)
def test_an_arms_name_says_what_of_the_warmup_it_has(arm, ingredient, share):
    name, found = warmup_dynamics.ingredient(arm)
    assert name == ingredient
    assert found == share or (share is None and np.isnan(found))


def test_warmup_steps_count_from_the_switch():
    logged = warmup_dynamics.select(example_rows.warmup())
    assert logged["step"].min() == 2
    assert logged["step"].max() == 80
    assert set(logged["stage"]) == {1}
    ends = logged.groupby("regime")["end"].first()
    assert ends["both_0.1"] == 8
    assert ends["both_0.3"] == 24
    assert np.isnan(ends["none"])
    one_stage = example_rows.warmup().query("stage == 1").assign(regime="cap_drop")
    assert set(warmup_dynamics.select(one_stage, end=50)["end"]) == {50.0}


def test_warmups_of_each_length_have_their_stroke_and_end():
    figure = warmup_dynamics.draw(example_rows.warmup())
    without, cap, _, both = figure.axes[:4]
    assert len(lines(without, "median")) == len(lines(cap, "median")) == 1
    assert len(lines(both, "median")) == 2
    assert len({line._unscaled_dash_pattern for line in lines(both, "median")}) == 2
    assert [line.get_xdata()[0] for line in lines(both, "end of warmup")] == [8, 24]
    assert lines(without, "end of warmup") == []
    assert "n = 2 seeds" in caption(figure)
    with pytest.raises(ValueError, match="wanted logged losses and gradient norms"):
        warmup_dynamics.draw(example_rows.regimes())


def test_the_papers_warmup_shares_its_axes_with_ours():
    figure = paper_warmup.beside(example_rows.warmup())
    above = figure.axes[:4]
    assert [axis.get_title() for axis in above] == [
        "Paper, without warmup",
        "Paper, with warmup",
        "Here, without warmup",
        "Here, with warmup",
    ]
    assert len({axis.get_ylim() for axis in above}) == 1


def test_empty_blocks_are_listed_as_their_lines_end():
    (axis,) = (axis for axis in empty_blocks.draw(example_rows.no_signal()).axes)
    labels = [text.get_text() for text in axis.figure.legends[0].texts]
    assert labels == [empty_blocks.LAWS[name][2] for name in ("cos", "linear", "atom_clip(B)")]


def test_clean_shares_without_a_variance_are_hollow():
    rows = example_rows.clean_share()
    loss, token = clean_context.draw(rows).axes
    hollow = [
        line
        for axis in (loss, token)
        for line in axis.lines
        if line.get_markerfacecolor() == "white" and len(line.get_xdata())
    ]
    (one,) = hollow
    expected = rows[(rows["schedule"] == "linear") & (rows["weighting"] == "loss")]
    np.testing.assert_allclose(one.get_xydata(), expected[["parents", "estimate"]])
    assert one in loss.lines


def test_visits_and_mismatch_have_every_law_on_its_line():
    rows = example_rows.survey()
    figure = visits_and_mismatch.draw(rows)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == sampler_labels.ordered(rows)
    for axis, measure in zip(figure.axes, visits_and_mismatch.MEASURES, strict=True):
        for asked in ("all", "answers"):
            found = sampler_labels.values(rows, metric=measure.metric, asked=asked, infer=measure.infer)
            marks = [tuple(line.get_xydata()[0]) for line in lines(axis, f"{measure.metric} {asked}")]
            expected = [(found[law], line) for line, law in enumerate(sampler_labels.ordered(rows))]
            assert [(x, round(y)) for x, y in sorted(marks, key=lambda mark: mark[1])] == expected
    assert "n = 500 asked tokens" in caption(figure)


def test_a_surveys_size_is_read_from_its_rows():
    rows = example_rows.survey(questions=640)
    assert sampler_labels.questions_of(rows) == 640
    assert sampler_labels.sequences_of(rows) == 4096
    bare = rows[~rows["metric"].isin(["sequences", "raw_visits"])]
    assert (sampler_labels.questions_of(bare), sampler_labels.sequences_of(bare)) == (0, 0)


def test_predicted_and_measured_costs_share_axes_and_colours():
    rows, surveys = example_rows.regimes(), tables(64, 1024)
    figure = tabular_and_network.draw(rows, surveys)
    answers, tokens, random = figure.axes
    (line,) = lines(answers, "cost_vocabulary ar_to_bidllm")
    assert line.get_xdata().tolist() == [32, 512]
    np.testing.assert_allclose(line.get_ydata(), [900 / 64, 900 / 1024])
    assert lines(answers, "cost_known ar_to_bidllm") == []  # one token is valid: it costs nothing
    assert len(lines(tokens, "cost_known ar_to_bidllm")) == 1
    assert [lines(random, f"cost_known {arm}") != [] for arm in tabular_and_network.TRAINED] == [False, False, True]
    (measured,) = lines(answers, "measured bidllm")
    assert measured.get_color() == style.COLOURS["bidllm"]
    assert measured.get_xdata().tolist() == [300 * step for step in (20, 40, 60, 80)]
    chosen = rows[(rows["regime"] == "bidllm") & (rows["contexts"] == "block") & (rows["block_size"] == 1)]
    means = np.exp(np.log(chosen[chosen["step"] > 0].set_index(["step", "seed"])["value"]).groupby("step").mean())
    np.testing.assert_allclose(measured.get_ydata(), means)


def test_a_table_goes_on_as_one_over_n():
    (line,) = lines(tabular_and_network.draw(example_rows.regimes(), tables(64, 1024)).axes[2], "1/n bidllm")[:1]
    (x0, y0), (x1, y1) = line.get_xydata()
    assert x0 * y0 == pytest.approx(x1 * y1)


def test_worlds_are_not_mixed():
    with pytest.raises(ValueError, match="one world; came arithmetic, trace"):
        tabular_and_network.draw(example_rows.regimes(), example_rows.survey("arithmetic").assign(shown=1))
    with pytest.raises(ValueError, match="wanted excess bits"):
        tabular_and_network.draw(example_rows.regimes().query("metric == 'score'"), tables(64))


def test_cells_of_a_sweep_hold_means_over_complete_trials():
    rows = example_rows.trials()
    axis = sweep_map.draw(rows).axes[0]
    texts = [text.get_text() for text in axis.texts if text.get_gid() == "cell"]
    assert len(texts) == 3 * 5
    counts = [int(text.split("n = ")[1]) for text in texts if "n = " in text]
    assert sum(counts) == 9  # of ten trials one failed
    first = rows[(rows["trial"] == 0)]["value"].mean()
    assert any(text.startswith(f"{first:.2f}") for text in texts)
    assert "9 complete trials (1 failed)" in caption(sweep_map.draw(rows))
    with pytest.raises(ValueError, match="wanted complete trials"):
        sweep_map.draw(rows[rows["state"] == "failed"])


def test_few_warmups_are_columns_and_many_are_binned():
    edges, names = sweep_map.bins(np.array([0.0, 0.1, 0.3, 0.1]))
    assert (edges.tolist(), names) == ([0.0, 0.1, 0.3], ["0", "0.1", "0.3"])
    edges, names = sweep_map.bins(np.linspace(0, 0.5, 30))
    np.testing.assert_allclose(edges, [0, 0.1, 0.2, 0.3, 0.4])
    assert names[0] == "0–0.1"


def test_an_interval_of_a_cell_is_over_its_trials():
    trials = pd.DataFrame({"block_size": 4, "bin": [0, 0, 0, 1], "mean": [1.0, 2.0, 3.0, 9.0]})
    cells = sweep_map.summary(trials)
    assert tuple(cells.loc[(4, 0)]) == (2.0, pytest.approx(stats.t.ppf(0.975, 2) / np.sqrt(3)), 3)
    assert np.isnan(cells.loc[(4, 1), "half"])


def test_the_weightiest_parameter_is_on_top_and_a_missing_interval_is_none():
    (axis,) = parameter_importance.draw(example_rows.importance().sample(frac=1, random_state=0)).axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["learning rate", "block size", "clip and guard"]
    (bars,) = (item for item in axis.collections if item.get_gid() == "interval")
    assert [path.vertices[:, 0].tolist() for path in bars.get_paths()] == [[0.4, 0.8], [0.1, 0.5]]
    with pytest.raises(ValueError, match="once; came 6 rows"):
        parameter_importance.draw(pd.concat([example_rows.importance()] * 2))


def test_what_was_predicted_is_to_the_right():
    rows = example_rows.verdicts()
    forest = prediction_verdicts.draw(rows).axes[1]
    marks = {round(line.get_xdata()[0], 6): line.get_color() for line in lines(forest, "difference")}
    blue, red, grey = (
        style.PALETTE[prediction_verdicts.LOOKS[verdict][0]] for verdict in ("supported", "refuted", "undecided")
    )
    assert marks == {5.0: blue, -3.0: red, 0.2: grey}  # the fourth lies beyond the axis: an arrow
    assert sum(line.get_marker() == ">" for line in forest.lines) == 1
    spans = [line.get_xdata().tolist() for line in lines(forest, "interval")]
    np.testing.assert_allclose(spans[0], [4.0, 6.0])


def test_every_verdict_is_in_the_table_under_its_heading():
    figure = prediction_verdicts.draw(example_rows.verdicts())
    claims, _, numbers = figure.axes
    words = [text.get_text() for text in claims.texts]
    assert [word for word in words if word in ("Primary predictions", "Secondary, exploratory")]
    assert all(any(word.startswith(name) for word in words) for name in ("H1", "H2", "E1", "E2"))
    assert sum(text.get_text() in prediction_verdicts.LOOKS for text in numbers.texts) == 4
    assert "2 supported, 1 refuted, 1 undecided" in caption(figure)


def outcome_rows():
    values = {"a": [1.0, 2.0, 3.0], "b": [0.1, 0.2, 0.3]}
    rows = [("s", "c", arm, seed, "Bits", v) for arm, found in values.items() for seed, v in enumerate(found)]
    return pd.DataFrame([*rows, ("s", "c", "a", 0, "Score", 0.5)], columns=outcomes_by_arm.COLUMNS)


def test_arms_are_in_the_order_of_the_first_outcome_with_every_seed():
    bits, score = outcomes_by_arm.draw(outcome_rows()).axes
    assert [text.get_text() for text in bits.get_yticklabels()] == ["b", "a"]
    assert [line.get_xdata().tolist() for line in lines(bits, "seed")] == [[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]]
    np.testing.assert_allclose(lines(bits, "mean")[1].get_xdata(), [2.0])
    mean, half = arms.interval(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(lines(bits, "interval")[1].get_xdata(), [mean - half, mean + half])
    assert len(lines(score, "mean")) == 1  # what was not measured stands nowhere
    with pytest.raises(ValueError, match="outcomes of one study; came s, t"):
        outcomes_by_arm.draw(pd.concat([outcome_rows(), outcome_rows().assign(study="t")]))


def test_rows_are_parted_by_columns_and_parts_without_a_value_left_out():
    rows = figure_rows.Rows("f", pd.read_csv, "make", ("study", "condition"), {"metric": "excess_bits"})
    frame = pd.DataFrame(
        {"study": ["s", "s", ""], "condition": ["x", "y", ""], "metric": ["excess_bits", "score", "excess_bits"]}
    )
    assert list(rows.parts(frame)) == ["", "_s_x"]


def test_a_caption_takes_the_height_that_it_needs():
    short, _ = style.sheet(4, 2, "word")
    long, _ = style.sheet(4, 2, "word " * 100)
    assert long.get_size_inches()[1] > short.get_size_inches()[1] > 2


def test_a_map_of_protocols_has_mean_and_error_in_each_cell():
    rows = example_rows.evaluation()
    one = rows[(rows["seed"] == 0) & (rows["regime"] == "ar")]
    figure = decoding_map.draw(one, "possible")
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["ar, grid answer", "oracle, grid answer"]
    lines = [label.get_text() for label in panels[0].get_yticklabels()]
    for axis, (objective, part) in zip(panels, one.groupby("objective"), strict=True):
        cells = {tuple(text.get_position()): text.get_text() for text in axis.texts}
        assert len(cells) == len(lines) == 9, objective
        for _, row in part[part["metric"] == "possible"].iterrows():
            line = lines.index(f"{row['order'].replace('_', ' ')}, {row['pace']}")
            assert cells[0.5, line + 0.5] == f"{row['value']:.2f}\n± {row['error']:.2f}"
    with pytest.raises(ValueError, match="wanted one run and one set of questions"):
        decoding_map.draw(rows, "possible")
    with pytest.raises(ValueError, match="with the metric score, came none"):
        decoding_map.draw(one, "score")

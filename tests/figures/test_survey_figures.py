"""What is drawn from a survey: every number at its law's line, in its panel, and nowhere else."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ablate.core import records
from figures.contexts import candidates_by_sampler, learning_cost
from figures.drawing import sampler_labels

COMMON = {
    "corpus": "world",
    "domain": "new",
    "split": "train",
    "fingerprint": "f",
    "seed": 0,
    "rate": None,
    "block_size": None,
    "asked": "",
    "weight": "",
    "infer": "",
}
LAWS = ["AR", "AR backwards", "suffix masks", "block 2", "block 16", "random masks", "random masks, t <= 0.5"]
RATES = [0.05, 0.5, 0.95]
WEIGHTS, ASKED = ("loss", "token"), ("all", "answers")
TABLES = ("cost_known", "cost_vocabulary")


def k1(law, asked, weight):
    """Values that differ for every law, kind of token and weight."""
    return 1.5 + LAWS.index(law) + 0.2 * ASKED.index(asked) + 0.05 * WEIGHTS.index(weight)


def paid(law, asked, infer, metric):
    if metric == "cost_known" and asked == "answers" and infer == "AR":
        return 0.0
    base = 0.01 * (1 + LAWS.index(law)) * (1 + 9 * TABLES.index(metric)) * (2 if infer == "AR" != law else 1)
    return base + 0.001 * ASKED.index(asked)


def rows():
    out = []
    for law, asked, weight in itertools.product(LAWS, ASKED, WEIGHTS):
        value = k1(law, asked, weight)
        out += [
            {"context_sampler": law, "asked": asked, "weight": weight, "metric": m, "value": v}
            for m, v in (("k1", value), ("certain", 1 / value))
        ]
    for rate, asked, weight in itertools.product(RATES, ASKED, WEIGHTS):
        value = 1 + 5 * rate + ASKED.index(asked) + 0.1 * WEIGHTS.index(weight)
        out += [
            {"context_sampler": "fixed rate", "rate": rate, "asked": asked, "weight": weight, "metric": m, "value": v}
            for m, v in (("k1", value), ("certain", 1 / value))
        ]
    for law, asked, metric in itertools.product(LAWS, ASKED, TABLES):
        out += [
            {
                "context_sampler": law,
                "asked": asked,
                "infer": infer,
                "metric": metric,
                "value": paid(law, asked, infer, metric),
            }
            for infer in dict.fromkeys((law, "AR"))
        ]
    return records.table([{**COMMON, **row} for row in out], records.SURVEY)


def changed(where, value):
    """The rows with the value of some of them replaced."""
    frame = rows()
    chosen = np.logical_and.reduce([frame[name] == wanted for name, wanted in where.items()])
    assert chosen.any()
    return frame.assign(value=frame["value"].where(~chosen, value))


def dots(axis, gid):
    """(x, y) of the marks of one kind, from top to bottom."""
    found = [tuple(line.get_xydata()[0]) for line in axis.lines if line.get_gid() == gid]
    return sorted(found, key=lambda point: point[1])


def drawn(figure):
    """Everything drawn, as plain values."""
    lines = [(a.get_title(), line.get_gid(), line.get_xydata().tolist()) for a in figure.axes for line in a.lines]
    texts = [(a.get_title(), t.get_text(), t.xy, t.get_color()) for a in figure.axes for t in a.texts]
    return sorted(map(repr, [*lines, *texts]))


def boxes(figure):
    """Where every word of a panel lies, in pixels, once laid out."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axis in figure.axes:
        low, high = sorted(axis.get_ylim())
        ticks = [text for text in axis.get_yticklabels() if low <= text.get_position()[1] <= high]
        texts = [*axis.texts, axis.title, axis.xaxis.label, axis.yaxis.label, *ticks]
        yield [text.get_window_extent() for text in texts if text.get_text()]


def test_laws_stand_in_reading_order():
    names = [
        "random masks, t <= 0.5",
        "zeta",
        "block 16",
        "random masks, causal",
        "block 2",
        "AR",
        "fixed rate",
        "random masks, t <= 0.1",
        "alpha",
        "suffix masks",
        "block 4",
        "random masks",
        "block 128",
        "AR backwards",
    ]
    frame = records.table(
        [{**COMMON, "context_sampler": name, "metric": "k1", "value": 1.0} for name in names], records.SURVEY
    )
    expected = [
        "AR",
        "AR backwards",
        "suffix masks",
        "block 2",
        "block 4",
        "block 16",
        "block 128",
        "random masks",
        "random masks, causal",
        "random masks, t <= 0.1",
        "random masks, t <= 0.5",
        "alpha",
        "zeta",
    ]
    assert sampler_labels.ordered(frame) == sampler_labels.ordered(frame[::-1]) == expected


@pytest.mark.parametrize(
    ("value", "reference", "text"),
    [
        (0.12, 0.1, "1.2x"),
        (0.1, 0.1, "1.0x"),
        (0.0996, 0.1, "1.0x"),
        (0.05, 0.1, "0.50x"),
        (1.3, 0.1, "13x"),
        (0.0, 0.1, "0x"),
        (4e-5, 0.1, "<0.01x"),
        (0.1, 0.0, ""),
        (0.1, float("nan"), ""),
        (float("nan"), 0.1, ""),
    ],
)
def test_a_ratio_is_value_over_reference(value, reference, text):
    assert sampler_labels.times(value, reference) == text


@pytest.mark.parametrize("draw", [candidates_by_sampler.draw, learning_cost.draw])
def test_a_figure_is_a_function_of_its_rows(draw):
    assert drawn(draw(rows())) == drawn(draw(rows().sample(frac=1, random_state=0)))


def test_each_law_has_its_four_dots_on_its_own_line():
    labels = [text.get_text() for text in candidates_by_sampler.draw(rows()).axes[2].get_yticklabels()]
    assert labels == [*LAWS[:-1], "random masks, t ≤ 0.5"]
    for axis, value in zip(candidates_by_sampler.draw(rows()).axes[2:], (lambda x: x, lambda x: 1 / x), strict=True):
        for asked, weight in itertools.product(ASKED, WEIGHTS):
            found = dots(axis, f"{weight} {asked}")
            np.testing.assert_allclose([x for x, _ in found], [value(k1(law, asked, weight)) for law in LAWS])
            assert [round(y) for _, y in found] == list(range(len(LAWS)))
    assert axis.yaxis_inverted()


def test_marks_are_filled_where_weighted_as_in_the_loss():
    for axis in candidates_by_sampler.draw(rows()).axes[2:]:
        faces = {line.get_gid(): line.get_markerfacecolor() for line in axis.lines if line.get_gid()}
        assert {gid for gid, face in faces.items() if face == "white"} == {"token all", "token answers"}
        assert {"loss all", "loss answers"} < set(faces)


def test_rates_are_joined_in_order_and_ar_is_a_level_line():
    figure = candidates_by_sampler.draw(rows().sample(frac=1, random_state=1))
    for axis, value in zip(figure.axes[:2], (lambda x: x, lambda x: 1 / x), strict=True):
        for index, asked in enumerate(ASKED):
            (line,) = (line for line in axis.lines if line.get_gid() == f"rate {asked}")
            expected = [(rate, value(1 + 5 * rate + index)) for rate in RATES]
            np.testing.assert_allclose(line.get_xydata(), expected)
            (level,) = (line for line in axis.lines if line.get_gid() == f"AR {asked}")
            np.testing.assert_allclose(level.get_ydata(), value(k1("AR", asked, "loss")))


def test_candidates_start_at_one_on_a_log_axis_that_holds_them_all():
    figure = candidates_by_sampler.draw(rows())
    top, bottom = figure.axes[0], figure.axes[2]
    for low, high, scale in ((*top.get_ylim(), top.get_yscale()), (*bottom.get_xlim(), bottom.get_xscale())):
        assert scale == "log"
        assert 0.8 < low < 1
        assert high > k1(LAWS[-1], "answers", "token")
    assert min(bottom.get_xticks()[bottom.get_xticks() >= bottom.get_xlim()[0]]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("answers", [1.5, 1.51, 1.49, 1.9])
def test_words_do_not_run_into_each_other(answers):
    close = changed({"context_sampler": "AR", "metric": "k1", "asked": "answers", "weight": "loss"}, answers)
    require_apart(candidates_by_sampler.draw(close))


def test_words_about_costs_do_not_either():
    require_apart(learning_cost.draw(rows()))


def require_apart(figure):
    for words in boxes(figure):
        assert not any(one.overlaps(other) for one, other in itertools.combinations(words, 2))


def test_labels_keep_the_order_of_their_lines():
    for answers, first in ((1.49, "AR, all"), (1.51, "AR, answers")):
        close = changed({"context_sampler": "AR", "metric": "k1", "asked": "answers", "weight": "loss"}, answers)
        texts = {text.get_text(): text.xy[1] for text in candidates_by_sampler.draw(close).axes[0].texts}
        assert max(texts, key=texts.__getitem__) == first


def test_a_survey_without_fixed_rates_is_drawn_too():
    frame = rows()
    figure = candidates_by_sampler.draw(frame[frame["context_sampler"] != "fixed rate"])
    assert all(not len(line.get_xdata()) for line in figure.axes[0].lines if str(line.get_gid()).startswith("rate"))


def test_a_missing_measurement_is_a_missing_dot():
    frame = rows()
    gone = (frame["context_sampler"] == "block 2") & (frame["asked"] == "answers")
    axis = candidates_by_sampler.draw(frame[~gone]).axes[2]
    assert [round(y) for _, y in dots(axis, "loss answers")] == [0, 1, 2, 4, 5, 6]
    axis = learning_cost.draw(frame[~gone]).axes[2]
    assert [round(y) for _, y in dots(axis, "cost_vocabulary")] == [0, 1, 2, 4, 5, 6]


def test_costs_stand_in_the_panel_of_their_tokens_and_contexts():
    figure = learning_cost.draw(rows())
    titles = [
        "All scored tokens, own contexts",
        "All scored tokens, AR contexts",
        "Answers, own contexts",
        "Answers, AR contexts",
    ]
    assert [axis.get_title() for axis in figure.axes] == titles
    for axis, (asked, own) in zip(figure.axes, itertools.product(ASKED, (True, False)), strict=True):
        for metric in TABLES:
            costs = [paid(law, asked, law if own else "AR", metric) for law in LAWS]
            expected = [(cost, line) for line, cost in enumerate(costs) if cost > 0]
            found = dots(axis, metric)
            np.testing.assert_allclose([x for x, _ in found], [x for x, _ in expected])
            assert [round(y) for _, y in found] == [y for _, y in expected]


def ratios(axis, metric):
    """The ratios of a table by line; its heading is at line -1."""
    return {
        text.xy[1]: text.get_text() for text in axis.texts if text.get_gid() == f"ratio {metric}" and text.get_text()
    }


def test_ratios_are_to_ar_in_the_same_panel():
    own, ar, *_ = learning_cost.draw(rows()).axes
    for metric in TABLES:
        found = ratios(own, metric)
        assert [found[line] for line in range(3)] == ["1.0×", "2.0×", "3.0×"]
        assert [ratios(ar, metric)[line] for line in range(3)] == ["1.0×", "4.0×", "6.0×"]
    assert ratios(own, "cost_known")[-1] != ratios(own, "cost_vocabulary")[-1]


def test_nothing_is_divided_by_a_zero_cost():
    for axis in learning_cost.draw(rows()).axes[2:]:  # AR's answers are certain, so nothing has to be learned
        assert ratios(axis, "cost_known") == {}
        assert len(ratios(axis, "cost_vocabulary")) == len(LAWS) + 1


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (1e-17, "0"), (4e-5, "4e-05")])
def test_what_a_log_axis_cannot_show_is_an_open_mark_at_its_edge_with_the_number(value, text):
    changes = {"context_sampler": "block 2", "asked": "all", "infer": "AR", "metric": "cost_known"}
    own, ar, *_ = learning_cost.draw(changed(changes, value)).axes
    (mark,) = (line for line in ar.lines if line.get_gid() == "cost_known low")
    assert mark.get_xdata()[0] == ar.get_xlim()[0]
    assert round(mark.get_ydata()[0]) == LAWS.index("block 2")
    assert mark.get_markerfacecolor() == "white"
    assert [t.get_text() for t in ar.texts if t.get_gid() == "cost_known low"] == [text]
    assert not [line for line in own.lines if line.get_gid() == "cost_known low"]


@pytest.mark.parametrize("draw", [candidates_by_sampler.draw, learning_cost.draw])
def test_surveys_are_not_mixed(draw):
    frame = rows()
    with pytest.raises(ValueError, match=r"wanted one survey.*came world new train f 0; world new train f 1; name"):
        draw(records.pd.concat([frame, frame.assign(seed=1)]))
    with pytest.raises(ValueError, match=r"everything measured once.*rows twice"):
        draw(records.pd.concat([frame, frame]))
    with pytest.raises(ValueError, match="no rows at all"):
        draw(frame[:0])
    with pytest.raises(ValueError, match=r"came without (k1|cost_known)"):
        draw(frame[~frame["metric"].isin(["k1", "cost_known"])])

"""Every figure, from made-up rows, against its picture in baseline/.

To draw them again: python -m pytest tests/figures/test_figure_images.py --mpl-generate-path=tests/figures/baseline;
then look at each.
"""

import io
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.legend import Legend
from matplotlib.testing.compare import calculate_rms
from matplotlib.text import Text
from matplotlib.ticker import NullFormatter

import paper_figs
from figures.drawing import figure_rows, sampler_labels
from tests import ROOT
from tests.figures import example_rows

BASELINE = Path(__file__).parent / "baseline"
DPI = 50  # small files, in which every mark can still be made out
# Root mean square over pixels, of 255: room for another version's antialiasing. Without words and legends the hinting
# of letters makes none, and a curve that has moved makes more than three times as much (a test below).
TOLERANCE = 4.0
ROWS = {
    "training_dynamics": example_rows.regimes,
    "excess_bits": example_rows.regimes,
    "warmup_stability": example_rows.warmup,
    "warmup_ingredients": example_rows.warmup,
    "outcomes_by_arm": example_rows.regimes,
    "no_signal": example_rows.no_signal,
    "clean_share": example_rows.clean_share,
    "candidates_by_sampler": example_rows.survey,
    "visits_and_mismatch": example_rows.survey,
    "learning_cost": example_rows.survey,
    "null_theory": example_rows.regimes,
    "after_switch": example_rows.lengths,
    "dose_response": example_rows.dial,
    "atlas": example_rows.atlas_worlds,
    "decoding_paces": example_rows.evaluation,
    "sweep_map": example_rows.trials,
    "importance": example_rows.importance,
    "verdicts": example_rows.verdicts,
}


def drawn(name, rows=None):
    """The figure of that name from made-up rows."""
    drawing: figure_rows.Drawing = paper_figs.FIGURES[name]
    given = [ROWS[name]() if rows is None else rows] if name in ROWS else []
    if drawing.beside:
        given.append(BESIDE[name]())
    return drawing.draw(*given)


def tables():
    surveys = [example_rows.survey(questions=n) for n in (64, 256, 1024)]
    return pd.concat([rows.assign(shown=sampler_labels.questions_of(rows) // 2) for rows in surveys], ignore_index=True)


BESIDE = {"null_theory": tables, "atlas": example_rows.atlas_predictors}


@pytest.mark.slow
@pytest.mark.mpl_image_compare(
    baseline_dir="baseline", style="default", tolerance=TOLERANCE, savefig_kwargs={"dpi": DPI}
)
@pytest.mark.parametrize("name", paper_figs.FIGURES)
def test_image(name):
    return wordless(drawn(name))


def test_baselines_are_small_and_none_is_left_over():
    files = {path.name: path.stat().st_size for path in BASELINE.iterdir()}
    assert set(files) == {f"test_image_{name}.png" for name in paper_figs.FIGURES}
    assert max(files.values()) < 40_000


@pytest.mark.slow
def test_the_tolerance_sees_that_a_curve_has_moved():
    rows = example_rows.regimes()
    moved = rows.assign(value=rows["value"].where((rows["regime"] != "bidllm") | (rows["stage"] < 0), 0.05))
    for name in ("training_dynamics", "excess_bits"):
        whole, again, other = (pixels(drawn(name, part)) for part in (rows, rows, moved))
        assert calculate_rms(whole, again) == 0
        assert calculate_rms(whole, other) > 3 * TOLERANCE


def wordless(figure):
    """The figure without words and legends, whose extent differs between versions of FreeType and moves all else."""
    for axis in figure.axes:
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_formatter(NullFormatter())
            side.set_minor_formatter(NullFormatter())
    for legend in figure.findobj(Legend):
        legend.remove()
    for text in figure.findobj(Text):
        text.set_visible(False)
    return figure


def pixels(figure):
    """The picture as numbers, at the size of the baselines."""
    picture = io.BytesIO()
    wordless(figure).savefig(picture, dpi=DPI, format="png")
    picture.seek(0)
    return (255 * matplotlib.image.imread(picture)[..., :3]).astype(np.int16)


@pytest.mark.slow
@pytest.mark.parametrize("name", paper_figs.FIGURES)
def test_nothing_reaches_over_the_edge(name):
    """Captions, legends and titles lie within the figure; a caption below everything."""
    figure = drawn(name)
    FigureCanvasAgg(figure).draw()
    width, height = figure.bbox.width, figure.bbox.height
    texts = [text for part in (figure, *figure.subfigs) for text in part.texts]
    legends = [legend for part in (figure, *figure.subfigs) for legend in part.legends]
    (caption,) = (text for text in texts if text.get_gid() == "caption")
    boxes = [item.get_window_extent() for item in (*texts, *legends)]
    boxes += [axis.get_tightbbox() for axis in figure.axes if axis.axison]
    for box in boxes:
        assert box.x0 >= -1
        assert box.x1 <= width + 1
        assert box.y0 >= -1
        assert box.y1 <= height + 1
    assert caption.get_window_extent().y1 <= min(box.y0 for box in boxes[1:] if box.y0 != boxes[0].y0) + 1


def test_every_colour_comes_from_the_palette():
    for path in (ROOT / "figures").rglob("*.py"):
        if path.name != "style.py":
            assert not re.search(r"#[0-9A-Fa-f]{6}", path.read_text()), path.name

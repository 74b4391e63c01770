"""Claim of the paper: its Figure 2 (arXiv 2601.15892), redrawn from the numbers in its vector graphics, alone or above
our own curves."""

from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from ablate.core.records import NO_BLOCKS, table
from figures.drawing import arms, curves, style
from figures.learning import training_dynamics

FILE = Path(__file__).parent / "stable_diffcoder_fig2.csv"
BASELINE = 16.5  # the unchanged AR model, points, the same in every panel
SWITCH = 100_000  # steps
LIMITS = (0, 27)
# The file names an arm before the switch by its first objective alone.
ARMS = {"ar": "ar_to_bidllm", "ardllm": "ardllm_to_bidllm"}
CAPTION = "Stable-DiffCoder (2601.15892), Figure 2: one curve an arm; the paper states neither seeds nor intervals."


def draw() -> Figure:
    """Score in points against training steps at block sizes 32, 2 and 1."""
    frame = rows()
    keys = training_dynamics.order(arms.panels(frame))
    return curves.figure(frame, keys, "Score (points)", limits=LIMITS, caption=CAPTION)


def beside(ours: pd.DataFrame) -> Figure:
    """The paper's panels above those of our arms, whose score is the share of answer items that are right.

    ValueError where our rows hold no score, or mix corpora, protocols or two runs of one seed.
    """
    paper, chosen = rows(), arms.select(ours, "score", "new", "test")
    above, below = (training_dynamics.order(arms.panels(frame)) for frame in (paper, chosen))
    caption = f"Top: {CAPTION} Bottom: {curves.about(chosen, log=False)} Steps and scores of the two do not compare."
    with matplotlib.rc_context(style.RC):
        drawing, body = style.sheet(7.2, 4.7, caption)
        grid = body.subplots(2, max(len(above), len(below)), sharex="row", sharey="row", squeeze=False)
        curves.draw_panels(grid[0], paper, above, "Paper: score\n(points)")
        curves.draw_panels(grid[1], chosen, below, f"Here, {chosen['corpus'].iloc[0]}: share\nof answer items right")
        curves.dress(grid[:1], paper, LIMITS, log=False)
        curves.dress(grid[1:], chosen, (-0.02, 1.02), log=False)
        curves.legend(body, chosen)
    return drawing


def rows() -> pd.DataFrame:
    """The paper's points as records of metric "points"; what the paper does not state is "" or 0."""
    points = pd.read_csv(FILE)
    unstated = {"corpus": "stable_diffcoder", "seed": 0, "objective": "", "tokens": 0, "loss_tokens": 0, "flops": 0.0}
    fixed = unstated | {
        "domain": "new",
        "split": "test",
        "metric": "points",
        **NO_BLOCKS,
        "contexts": "decode",
        "question": None,
    }
    found = []
    for point in points.itertuples(index=False):
        regime = ARMS.get(point.regime, point.regime)
        place = {"run": regime, "regime": regime, "block_size": point.block_size}
        stage = int(regime != "bidllm" and point.step > SWITCH)
        found.append(fixed | place | {"stage": stage, "step": point.step, "value": point.score})
    for size in points["block_size"].unique():
        for regime in {row["regime"] for row in found}:
            place = {"run": regime, "regime": regime, "block_size": size}
            found.append(fixed | place | {"stage": -1, "step": 0, "value": BASELINE})
    return table(found)

"""Claim of the paper: its Figure 2 (arXiv 2601.15892), redrawn from the numbers in its vector graphics."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ablate.records import table
from figures import arms, curves, training_dynamics

FILE = Path(__file__).parent / "paper" / "stable_diffcoder_fig2.csv"
BASELINE = 16.5  # the unchanged AR model, points, the same in every panel
SWITCH = 100_000  # steps
# The file names an arm before the switch by its first objective alone.
ARMS = {"ar": "ar_to_bidllm", "ardllm": "ardllm_to_bidllm"}


def draw() -> Figure:
    """Score in points against training steps at block sizes 32, 2 and 1."""
    frame = rows()
    keys = training_dynamics.order(arms.panels(frame))
    caption = "Stable-DiffCoder (2601.15892), Figure 2. One curve per arm; seeds and intervals are not stated."
    return curves.figure(frame, keys, "Score (points)", limits=(0, 27), caption=caption)


def rows() -> pd.DataFrame:
    """The paper's points as records of metric "points"; what the paper does not state is "" or 0."""
    points = pd.read_csv(FILE)
    unstated = {"corpus": "stable_diffcoder", "seed": 0, "objective": "", "tokens": 0, "loss_tokens": 0, "flops": 0.0}
    fixed = unstated | {"domain": "new", "split": "test", "metric": "points", "contexts": "decode", "protocol": "",
                        "question": None}
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

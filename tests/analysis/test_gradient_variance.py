"""Laws of variance components: what was put in comes out, and each objective has the parts that it must have."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import synthetic_data
from ablate.analysis.gradient_variance import gradient_sums, nested
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.masked_diffusion import MaskedDiffusion
from tests import ROOT
from tests.builders import ONE_LAYER, network


def design(x, t, z, data, rate, mask, mean, seed=0, width=3):
    """Vectors with known components, a third of each in every coordinate."""
    rng = np.random.default_rng(seed)
    parts = [
        rng.normal(size=(*shape, width)) * math.sqrt(value / width)
        for shape, value in (((x, 1, 1), data), ((x, t, 1), rate), ((x, t, z), mask))
    ]
    return torch.from_numpy(sum(parts) + math.sqrt(mean / width))


def test_known_components_are_recovered_without_bias():
    """Means over 400 small designs, within 5 standard errors; a biased estimate would be off by mask / masks."""
    wanted = {"data": 2.0, "rate": 1.0, "mask": 3.0, "mean_square": 4.0}
    found = [dataclasses.asdict(nested(design(4, 3, 2, 2.0, 1.0, 3.0, 4.0, seed)).parts()) for seed in range(400)]
    for name, value in wanted.items():
        values = np.array([one[name] for one in found])
        assert values.mean() == pytest.approx(value, abs=5 * values.std() / 20)
        assert values.std() / 20 < 0.2


def test_components_add_up_to_the_variance():
    """With many of each, the total is the plain variance of all vectors."""
    vectors = design(60, 6, 6, 1.0, 2.0, 3.0, 5.0)
    parts = nested(vectors).parts()
    assert parts.total == pytest.approx(float(vectors.flatten(0, 2).var(0, unbiased=True).sum()), rel=0.05)


def test_errors_are_those_of_repetition():
    parts = [nested(design(12, 3, 3, 2.0, 1.0, 3.0, 4.0, seed)) for seed in range(300)]
    spread = np.std([sums.parts().data for sums in parts])
    assert np.mean([sums.errors().data for sums in parts]) == pytest.approx(spread, rel=0.2)


def test_a_design_without_replicates_is_refused():
    with pytest.raises(ValueError, match="at least 2 sequences, levels and masks, got 4, 3 and 1"):
        nested(design(4, 3, 1, 1, 1, 1, 1)).parts()


@pytest.fixture(scope="module")
def world():
    corpus = synthetic_data.make("trace")
    return network(1.0, corpus.vocabulary, ONE_LAYER), corpus


def sums(world, objective, sequences=6, rates=4, masks=3):
    net, corpus = world
    return gradient_sums(net, objective, corpus, 0, sequences, rates, masks)


def parts(world, objective, *sizes):
    return [found.parts() for found in sums(world, objective, *sizes)]


def test_objectives_without_noise_have_no_noise(world):
    for objective in (Autoregressive(), BlockDiffusion(1, clip="atom", strata="none")):
        gradient, loss = parts(world, objective)
        for found in (gradient, loss):
            assert found.rate == pytest.approx(0, abs=1e-9)
            assert found.mask == pytest.approx(0, abs=1e-9)
            assert found.data > 0


def test_the_count_law_has_no_noise_of_the_rate_where_tokens_cost_the_same(world):
    """Positive control: 1/t has."""
    _, corpus = world
    flat = network(0.0, corpus.vocabulary, ONE_LAYER)  # weights set to 0: every token costs log V
    count, linear, atom = (
        parts((flat, corpus), o)[1]
        for o in (
            MaskedDiffusion(mask_sampling="count", strata="none"),
            MaskedDiffusion(strata="none"),
            BlockDiffusion(4, clip="atom", guard="force", strata="none"),
        )
    )
    assert count.total == pytest.approx(0, abs=1e-9)
    assert linear.rate + linear.mask > 0.1
    assert atom.mask > 0.01


@pytest.mark.slow
def test_two_draws_halve_the_noise_of_masks(world):
    """Rate and mask parts of the loss, at levels of their own: half, within what 6 x 40 x 3 draws scatter."""
    one, two = (
        parts(world, BlockDiffusion(4, clip="atom", guard="force", strata="none", draws=d), 4, 40, 2)[1] for d in (1, 2)
    )
    assert (two.rate + two.mask) / (one.rate + one.mask) == pytest.approx(0.5, abs=0.15)


def test_what_is_drawn_does_not_depend_on_how_much(world):
    """Addressed numbers: the sums of the first sequences stay when there are more of them."""
    objective = MaskedDiffusion(strata="none")
    few, more = (sums(world, objective, n, 2, 2)[0] for n in (3, 5))
    assert np.allclose(few.gram_XX, more.gram_XX[:3, :3], rtol=1e-12)


def test_rows_are_drawn():
    import pandas as pd

    from figures.noise import gradient_noise

    rows = pd.DataFrame(
        [
            {"arm": arm, "quantity": "gradient", "part": part, "value": value, "error": 0.1}
            for arm in ("AR", "masked, linear*")
            for part, value in (("data", 2.0), ("rate", -0.1), ("mask", 30.0))
        ]
    )
    drawing = gradient_noise.draw(rows)
    assert [text.get_text() for text in drawing.axes[0].get_yticklabels()] == ["AR", "masked, linear*"]
    with pytest.raises(ValueError, match="gradient rows"):
        gradient_noise.draw(rows[rows["part"] == "none"])


@pytest.mark.slow
def test_the_experiment_runs(tmp_path):
    import subprocess
    import sys

    script = ROOT / "experiments" / "variance.py"

    def typed(*words):
        return subprocess.run(
            [sys.executable, str(script), *words], capture_output=True, text=True, cwd=tmp_path, check=False
        )

    out = tmp_path / "study"
    done = typed("budget=smoke", "sequences=3", "rates=2", "masks=2", f"out={out}", f"cache={tmp_path / 'base'}")
    assert done.returncode == 0, done.stderr
    written = {"variance.csv", "gradient_variance.png", "gradient_variance.pdf", "config.yaml"}
    assert {path.name for path in out.iterdir()} == written
    wrong = typed("rates=1")
    assert wrong.returncode == 2
    assert "rates: wanted 2..10000" in wrong.stderr

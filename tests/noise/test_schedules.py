"""Laws of schedules: weights are derivatives, laws of the rate have theirs by rule, names refuse nonsense."""

import math

import pytest
import torch

from ablate.analysis.noise_checks import expectation, no_signal_probability
from ablate.noise.schedules import (
    AtomClip,
    Cos,
    Cos2,
    Geometric,
    Linear,
    NoiseSchedule,
    Power,
    RateDistribution,
    Sin,
    name_of,
    named,
)

PATHS = ["linear", "power", "cos", "sin", "cos2", "loglinear", "geometric"]
LAWS = {"interval": {"a": 0.2, "b": 0.9}, "atom_clip": {"size": 4}, "cap": {"u_max": 0.3}}
T = torch.linspace(0.02, 0.98, 40, dtype=torch.float64)
# m(t) and m'(t) by hand
BY_HAND = {
    "linear": (lambda t: t, lambda t: 1.0),
    "power": (lambda t: t**3, lambda t: 3 * t**2),
    "cos": (lambda t: 1 - math.cos(math.pi * t / 2), lambda t: math.pi / 2 * math.sin(math.pi * t / 2)),
    "sin": (lambda t: math.sin(math.pi * t / 2), lambda t: math.pi / 2 * math.cos(math.pi * t / 2)),
    "cos2": (lambda t: 1 - math.cos(math.pi * t / 2) ** 2, lambda t: math.pi / 2 * math.sin(math.pi * t)),
    "loglinear": (lambda t: 0.99 * t, lambda t: 0.99),
    "geometric": (
        lambda t: 1 - math.exp(-(1e-3 ** (1 - t)) * 9**t),
        lambda t: math.exp(-(1e-3 ** (1 - t)) * 9**t) * 1e-3 ** (1 - t) * 9**t * math.log(9e3),
    ),
}
PARAMETERS = {"power": {"p": 3}, "loglinear": {"eps": 0.01}, "geometric": {"s0": 1e-3, "s1": 9}}


@pytest.mark.parametrize("name", PATHS)
def test_rates_and_weights_by_hand(name):
    path = named(name, **PARAMETERS.get(name, {}))
    rate, slope = BY_HAND[name]
    assert path.mask_rate(T).tolist() == pytest.approx([rate(t) for t in T.tolist()], rel=1e-12)
    assert path.weight(T).tolist() == pytest.approx([slope(t) / rate(t) for t in T.tolist()], rel=1e-10)
    assert isinstance(path, NoiseSchedule)


@pytest.mark.parametrize("name", PATHS)
def test_paths_rise_from_nothing_to_everything(name):
    path = named(name)
    ends = path.mask_rate(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    assert ends == pytest.approx([0, 1], abs=1.1e-3 if name == "loglinear" else 1.1e-4)
    assert (path.mask_rate(T).diff() > 0).all()
    if name not in ("loglinear", "geometric"):
        assert ends == pytest.approx([0, 1], abs=1e-15)


@pytest.mark.parametrize("name", list(LAWS))
def test_laws_weigh_by_the_rate_alone(name):
    law = named(name, **LAWS[name])
    assert isinstance(law, RateDistribution)
    assert not isinstance(law, NoiseSchedule)
    assert torch.allclose(law.weight(T), 1 / law.mask_rate(T))
    assert expectation(law, lambda u, s: u * s / u) == pytest.approx(1), "mean token weight"


def test_the_clip_puts_an_atom_and_a_derived_weight_would_lose_it():
    """Mass 1/B at u = 1/B; a path max(t, 1/B) would have slope 0 there and a mean token weight of .75 at B = 4."""
    clip = AtomClip(4)
    u = clip.mask_rate(torch.linspace(1e-6, 1, 10_001, dtype=torch.float64))
    assert float((u == 0.25).double().mean()) == pytest.approx(0.25, abs=1e-3)

    class Wrong(NoiseSchedule):
        of = clip

        def mask_rate(self, t):
            return t.clamp_min(0.25)

    t = torch.linspace(1e-6, 1, 100_001, dtype=torch.float64)
    wrong = Wrong()
    assert float((wrong.mask_rate(t) * wrong.weight(t)).mean()) == pytest.approx(0.75, abs=1e-4)
    assert float((clip.mask_rate(t) * clip.weight(t)).mean()) == pytest.approx(1)


def test_a_clipped_path_is_clipped_at_its_rate():
    clip = named("atom_clip", size=4, of=Cos())
    assert torch.equal(clip.mask_rate(T), Cos().mask_rate(T).clamp_min(0.25))
    assert name_of(clip) == "atom_clip(size=4, of=cos)"


def test_cosine_means_curves_seven_times_apart():
    found = {kind: no_signal_probability(kind(), 32) for kind in (Cos, Sin, Cos2)}
    assert found[Cos] / found[Sin] == pytest.approx(7.2, abs=0.1)


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("cosine", {}, "wanted one of linear, power, cos, sin, cos2, loglinear, geometric, interval, atom_clip, cap"),
        ("power", {"q": 2}, "no parameter 'q'; it takes p"),
        ("linear", {"p": 2}, "it takes none"),
        ("power", {"p": 0}, "p: wanted a number above 0, got 0; try p=2"),
        ("power", {"p": "2"}, "p: wanted a number, got '2'"),
        ("power", {"p": math.nan}, "p: wanted a number above 0"),
        ("loglinear", {"eps": 1}, "eps: wanted"),
        ("geometric", {"s0": 3, "s1": 2}, "wanted 0 < s0 < s1"),
        ("interval", {"a": 0.5, "b": 0.5}, "a < b within 0..1"),
        ("cap", {"u_max": 0}, "u_max: wanted more than 0"),
        ("atom_clip", {"size": 2.5}, "1 or more tokens"),
    ],
)
def test_nonsense_is_refused(name, parameters, said):
    with pytest.raises(ValueError, match=said):
        named(name, **parameters)


def test_names_are_read_back():
    assert name_of(Linear()) == "linear"
    assert name_of(Power(3)) == "power(p=3)"
    assert name_of(Geometric()) == "geometric(s0=0.0001, s1=20)"
    assert [name_of(named(name)).split("(")[0] for name in (*PATHS, *LAWS)] == [*PATHS, *LAWS]

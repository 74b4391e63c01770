"""Closed forms against other forms of the same numbers, and a Monte Carlo that catches a wrong one."""

import math

import pytest
from scipy import integrate, special
from scipy.stats import binomtest, norm

from ablate.analysis.block_loss_checks import validate_blocks
from ablate.analysis.noise_checks import CASES, count_empty, normal_p, validate, validate_weights
from ablate.noise.closed_forms import (
    clean_context_share,
    expectation,
    expected_masked_tokens,
    loss_variance,
    mask_pattern_entropy,
    mean_token_weight,
    no_signal_probability,
    ramp_no_signal_probability,
    weight_tail,
)
from ablate.noise.options import Guard
from ablate.noise.schedules import AtomClip, Cos, Interval, Linear, named
from tests.builders import address

SIZES = (1, 2, 3, 4, 8, 16, 32, 64, 512, 4096)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("size", SIZES)
def test_closed_forms_are_the_integrals(case, size):
    if size < case.least:
        pytest.skip("U(1, 1) is no interval")
    exact = case.closed_form(size)
    assert 0 <= exact < 1
    assert exact == pytest.approx(case.quadrature(size), abs=1e-8, rel=1e-8)
    assert no_signal_probability(Linear(), size, forced=True) == 0


@pytest.mark.parametrize("size", [1, 4, 32])
def test_quadrature_is_that_of_others(size):
    """Positive control of the quadrature: SciPy's, on a rate written out again."""
    ours = expectation(Cos(), lambda u, _: (1 - u) ** size)
    assert ours == pytest.approx(integrate.quad(lambda t: math.cos(math.pi * t / 2) ** size, 0, 1)[0], abs=1e-10)


def test_values_by_hand():
    assert no_signal_probability(Linear(), 4) == pytest.approx(1 / 5)
    assert no_signal_probability(named("cos2"), 3) == pytest.approx(special.comb(6, 3) / 4**3)
    assert no_signal_probability(named("power", p=2), 1) == pytest.approx(2 / 3)
    clipped = [no_signal_probability(AtomClip(size), size) for size in (2, 4, 8, 32)]
    assert clipped == pytest.approx([0.1667, 0.1266, 0.0764, 0.0219], abs=5e-5)
    assert no_signal_probability(Interval(0.25, 1.0), 4) == pytest.approx(0.0633, abs=5e-5)
    for size in (2, 5, 9):
        assert no_signal_probability(AtomClip(size), size) == pytest.approx(2 * (1 - 1 / size) ** size / (size + 1))
        truncated = (1 - 1 / size) ** (size + 1) * size / ((size + 1) * (size - 1))
        assert no_signal_probability(Interval(1 / size, 1.0), size) == pytest.approx(truncated)


def test_a_clipped_path_has_no_closed_form_and_says_what_has():
    noise = named("atom_clip", size=4, of=Cos())
    with pytest.raises(ValueError, match=r"no closed form.*expectation\(schedule, lambda u, _"):
        no_signal_probability(noise, 4)
    kink = 2 / math.pi * math.acos(0.75)
    direct = integrate.quad(lambda t: (1 - max(1 - math.cos(math.pi * t / 2), 0.25)) ** 4, 0, 1, points=[kink])[0]
    assert expectation(noise, lambda u, _: (1 - u) ** 4) == pytest.approx(direct, abs=1e-8)
    with pytest.raises(ValueError, match="block_size: wanted at least 1, got 0"):
        no_signal_probability(Linear(), 0)


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1e-3, 1.0), (0.2, 0.7)])
def test_a_ramp_is_the_mean_of_its_caps(start, end):
    mean = integrate.quad(lambda u: no_signal_probability(named("cap", u_max=u), 8), max(start, 1e-12), end)[0]
    assert ramp_no_signal_probability(start, end, 8) == pytest.approx(mean / (end - start), abs=1e-8)
    with pytest.raises(ValueError, match="u_start < u_end"):
        ramp_no_signal_probability(end, start, 8)


def test_masked_tokens_and_weights():
    assert expected_masked_tokens(Linear(), 4) == pytest.approx(2)
    assert expected_masked_tokens(Linear(), 4, Guard.force) == pytest.approx(2 + 1 / 5)
    assert expected_masked_tokens(AtomClip(4), 4) == pytest.approx(4 * (1 / 16 + (1 - 1 / 16) / 2))
    forced = [mean_token_weight(AtomClip(size), size, Guard.force, "1/t") for size in (2, 4, 8, 32)]
    assert forced == pytest.approx([1.159, 1.113, 1.065, 1.018], abs=6e-4)
    for guard in (Guard.none, Guard.force, Guard.resample):
        assert mean_token_weight(named("cos"), 8, guard, "1/q") == pytest.approx(1)
    assert mean_token_weight(Linear(), 4, Guard.none, "1") == pytest.approx(0.5)
    assert mean_token_weight(Linear(), 4, Guard.none, "1/realised") == pytest.approx(0.8)
    assert mean_token_weight(Linear(), 4, Guard.force, "1/t") == math.inf, "a forced mask at u near 0 weighs 1/u"
    assert mean_token_weight(named("loglinear"), 4) == pytest.approx(1 - 1e-3)


def test_tail_of_the_weight():
    """P(1/t > x, N >= 1): the integral; B/(2x^2) far out; x = 1 asks for a mask alone."""
    for x, size in ((1.0, 4), (3.0, 8), (50.0, 32)):
        direct = integrate.quad(lambda t, size=size: 1 - (1 - t) ** size, 0, 1 / x)[0]
        assert weight_tail(x, size) == pytest.approx(direct, rel=1e-9)
    assert weight_tail(1e4, 8) == pytest.approx(8 / (2 * 1e8), rel=2e-3)
    with pytest.raises(ValueError, match="at least 1"):
        weight_tail(0.5, 4)


@pytest.mark.parametrize("r", [0, 1, 3])
def test_clean_context_shares_of_the_theory(r):
    assert clean_context_share(Linear(), r) == pytest.approx(1 / (r + 1))
    assert clean_context_share(Linear(), r, weighted=False) == pytest.approx(2 / ((r + 1) * (r + 2)))
    assert clean_context_share(Interval(0.3, 1.0), r) == pytest.approx(0.7**r / (r + 1))
    u = 0.2
    capped = 2 * (1 - (1 - u) ** (r + 1) * (1 + (r + 1) * u)) / ((r + 1) * (r + 2) * u**2)
    assert clean_context_share(named("cap", u_max=u), r, weighted=False) == pytest.approx(capped)
    if r:
        assert clean_context_share(AtomClip(4), r) < clean_context_share(Linear(), r)
        assert clean_context_share(named("cap", u_max=u), r) > clean_context_share(Linear(), r)


def test_entropy_of_patterns():
    assert [mask_pattern_entropy(Linear(), size) for size in (4, 8, 32)] == pytest.approx([3.64, 6.88, 25.0], abs=0.05)
    assert mask_pattern_entropy(Interval(0.5 - 1e-9, 0.5), 6) == pytest.approx(6, abs=1e-6), "fair coins"


@pytest.mark.parametrize(
    ("noise", "guard", "weight"),
    [
        (AtomClip(4), "none", "1/t"),
        (AtomClip(4), "force", "1/t"),
        (AtomClip(4), "resample", "1/q"),
        (Linear(), "force", "1/q"),
        (Linear(), "none", "1"),
        (Cos(), "none", "1/t"),
        (Interval(0.4, 0.9), "none", "1/t"),
    ],
)
def test_variance_of_the_loss_is_that_of_drawn_masks(noise, guard, weight):
    from ablate.noise.block_layout import layout_of
    from ablate.noise.masking import Corruption
    from ablate.noise.options import Strata

    corruption = Corruption(noise, guard=Guard(guard), weight=weight, strata=Strata.none)
    (masks,) = corruption.masks(layout_of(4, 8), address(200_000, seed=1))
    loss = masks.weight_BL[:, 4:].mean(1).numpy()
    squares = (loss - loss.mean()) ** 2
    error = squares.std() / math.sqrt(len(loss))
    assert squares.mean() == pytest.approx(loss_variance(noise, 4, Guard(guard), weight), abs=6 * error)


def test_where_the_variance_diverges():
    """1/t of the plain bound; not of paths that leave 0 faster than linearly, nor of rates that stay away from it."""
    assert loss_variance(Linear(), 4) == loss_variance(named("sin"), 4) == loss_variance(named("cap"), 4) == math.inf
    assert loss_variance(named("power", p=1.0), 4) == math.inf
    for finite in (named("power", p=2), named("cos"), named("cos2"), AtomClip(4), Interval(0.1, 1.0)):
        assert 0 < loss_variance(finite, 4) < math.inf
    assert loss_variance(named("cos"), 4, Guard.force, "1/t") == math.inf
    assert loss_variance(Linear(), 4, Guard.force, "1/q") < loss_variance(AtomClip(4), 4)


def test_validation_finds_nothing_and_says_all():
    rows = validate(sizes=(1, 4, 16), draws=4000)
    assert len(rows) == 3 * len(CASES) - 1
    wanted = {"schedule", "block_size", "closed_form", "quadrature", "estimate", "low", "high", "p_value", "p_holm"}
    assert wanted <= set(rows[0])
    assert min(row["p_holm"] for row in rows) > 1e-3
    assert all(row["low"] <= row["estimate"] <= row["high"] for row in rows)
    assert min(row["p_holm"] for row in validate_weights(sizes=(4,), draws=20_000)) > 1e-3
    blocks = validate_blocks(sizes=(4, 8))
    assert min(row["p_holm"] for row in blocks) > 1e-3
    known = [row for row in blocks if not math.isnan(row["closed_form"])]
    assert len(known) == len(blocks) - 2
    assert [row["closed_form"] for row in known] == pytest.approx([row["quadrature"] for row in known], abs=1e-8)


def draws_for_power(true, claimed, level, power):
    """Blocks needed to reject at `level` (two-sided) with this power, by the normal approximation, that the
    probability is `claimed` where it is `true`."""
    spread = norm.isf(level / 2) * math.sqrt(claimed * (1 - claimed)) + norm.isf(1 - power) * math.sqrt(
        true * (1 - true)
    )
    return math.ceil((spread / (true - claimed)) ** 2)


MUTATIONS = [  # clipped at 1/B, blocks of one token are all masked: nothing to mistake
    (case, size) for case in CASES for size in (1, 2, 4, 8, 16) if size >= max(case.least, 2 * ("B" in case.name))
]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "size"), MUTATIONS, ids=lambda x: x if isinstance(x, int) else x.name)
def test_a_closed_form_off_by_one_is_rejected(case, size):
    """B + 1 for B, at the adjusted level, with as many draws as give it a power of 1 - 1e-4; the true one is not."""
    noise, level = case.objective(size).noise(), 1e-3 / 83
    true, wrong = (
        ramp_no_signal_probability(*case.ramp, n) if case.ramp else no_signal_probability(noise, n)
        for n in (size, size + 1)
    )
    draws = draws_for_power(true, wrong, level, 1 - 1e-4)
    if draws * size > 5e7:
        pytest.skip(f"{draws:.0e} blocks would be needed: no block of {size} is empty in practice")
    draws = max(draws, 2000)  # the power is a normal approximation
    empty = count_empty(case.objective(size), draws, 11, case.ramp)
    assert binomtest(empty, draws, wrong).pvalue < level
    assert binomtest(empty, draws, true).pvalue > level


@pytest.mark.parametrize(("claimed", "drawn"), [("cos", "sin"), ("sin", "cos"), ("cos2", "cos"), ("linear", "cos2")])
def test_one_cosine_is_not_another(claimed, drawn):
    objectives = {case.name: case.objective for case in CASES}
    true, wrong = (no_signal_probability(objectives[name](8).noise(), 8) for name in (drawn, claimed))
    draws = max(2000, draws_for_power(true, wrong, 1e-5, 0.9999))
    empty = count_empty(objectives[drawn](8), draws, seed=5)
    assert binomtest(empty, draws, wrong).pvalue < 1e-5
    assert binomtest(empty, draws, true).pvalue > 1e-5


@pytest.mark.slow
def test_the_experiment_writes_what_it_says(tmp_path, capsys, monkeypatch):
    from experiments import no_signal

    assert no_signal.main(["--draws", "500", "--out", str(tmp_path)]) == 0
    tables = {f"{name}.csv" for name in ("no_signal", "token_weights", "block_losses", "clean_share")}
    pictures = {f"{name}.{kind}" for name in ("no_signal", "clean_share") for kind in ("png", "pdf")}
    assert {p.name for p in tmp_path.iterdir()} == tables | pictures
    said = capsys.readouterr().out
    assert all(case.name in said for case in CASES)
    monkeypatch.setattr(
        "ablate.analysis.noise_checks.no_signal_probability", lambda noise, size: min(0.99, 0.2 + 1 / size)
    )
    assert no_signal.main(["--draws", "500", "--out", str(tmp_path)]) == 1
    assert no_signal.main(["--out", "/proc/nothing"]) == 2


def test_draws_that_are_all_alike_say_nothing():
    assert normal_p(0.0, 0.3, 0.0) == 1
    assert normal_p(1.0, 1.0 - 1.959963984540054, 1.0) == pytest.approx(0.05)

"""Laws of mask patterns: how often blocks stay without a mask, what tokens weigh, what guards and laws make of them."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad

from ablate.noise.block_layout import Layout
from ablate.noise.masking import Masks, levels
from ablate.noise.options import RULES, Denominator, Guard, MaskSampling, Per, Phase, Strata
from ablate.noise.schedules import named
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.masked_diffusion import MaskedDiffusion
from tests.builders import VOCABULARY, address

LONG = Layout(128, 128)
ERRORS = 5.0  # standard errors that an estimate may be off
FIELDS = dataclasses.fields(Masks)
FORCED = {2: 1.159, 4: 1.113, 8: 1.065, 32: 1.018}  # mean token weight of atom clip, force, 1/u


def drawn(objective, length, steps=40, batch=512, phase=Phase()):  # noqa: B008  # frozen
    """Masks of many independent blocks: hidden, weight and expected weight, (copies, steps * batch, L)."""
    layout = Layout(objective.size, length)
    found = [objective.corruption(phase).masks(layout, address(batch, step), phase) for step in range(steps)]
    copies = [
        [getattr(copy, name) for copy in masks] for name in ("hidden_BL", "weight_BL", "expected_BL") for masks in found
    ]
    per = len(found)
    return [torch.cat([torch.stack(x) for x in copies[i * per : (i + 1) * per]], 1) for i in range(3)]


def close(values_R, wanted):
    """Is the mean of independent rows within ERRORS standard errors of what is wanted?"""
    error = float(values_R.std()) / math.sqrt(len(values_R))
    assert float(values_R.mean()) == pytest.approx(wanted, abs=ERRORS * error + 1e-9)
    assert error < 0.02 * abs(wanted), "too few draws to tell"


@pytest.mark.parametrize("size", list(FORCED))
def test_forcing_with_the_weight_of_the_rate_charges_too_much(size):
    """E over u = max(t, 1/B) of q(u)/u, by quadrature, is the paper's rule's mean token weight; 1/q charges 1."""

    def ratio(t):
        u = max(t, 1 / size)
        return (u + (1 - u) ** size / size) / u

    exact = quad(ratio, 0, 1, points=[1 / size])[0]
    assert exact == pytest.approx(FORCED[size], abs=6e-4)
    for weight, wanted in (("1/t", exact), ("1/q", 1.0)):
        objective = BlockDiffusion(size, clip="atom", guard="force", weight=weight, strata="none")
        _, weight_CRL, expected_CRL = drawn(objective, 2 * size)
        close(weight_CRL[0, :, size:].mean(1), wanted)
        close(expected_CRL[0, :, size:].mean(1), wanted)


@pytest.mark.parametrize("size", [2, 4, 8, 32])
@pytest.mark.parametrize("clip", ["none", "atom", "interval"])
def test_share_of_blocks_without_a_mask(size, clip):
    """1/(B+1); 2(1-1/B)^B/(B+1) after the atom; half of that under U(1/B, 1); none once a mask is forced."""
    wanted = {
        "none": 1 / (size + 1),
        "atom": 2 * (1 - 1 / size) ** size / (size + 1),
        "interval": (1 - 1 / size) ** size / (size + 1),
    }[clip]
    hidden = drawn(BlockDiffusion(size, clip=clip, strata="none"), 2 * size)[0][0, :, size:]
    empty = int((~hidden.any(1)).sum())
    assert stats.binomtest(empty, len(hidden), wanted).pvalue > 1e-6
    for guard in ("force", "resample"):
        assert drawn(BlockDiffusion(size, clip=clip, guard=guard), 2 * size, steps=3)[0][0, :, size:].any(1).all()


OPTIONS = [
    {"weight": weight, "guard": guard, "clip": clip, "t_per": per, "schedule": named(schedule)}
    for weight, guard, clip, per, schedule in itertools.product(
        ("1/t", "1/q"), ("none", "force", "resample"), ("none", "atom"), ("block", "sequence"), ("linear", "cos")
    )
    if weight == "1/q" or guard == "none"
]
OPTIONS += [
    {"mask_sampling": "count"},
    {"mask_sampling": "suffix"},
    {"complementary": True},
    {"draws": 3},
    {"complementary": True, "draws": 4, "clip": "atom"},
    {"schedule": named("interval", a=0.45, b=0.95)},
    {"schedule": named("cap", u_max=0.3), "guard": "resample", "weight": "1/q"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(str(v) for v in o.values()))
def test_mean_token_weight_is_one_where_the_loss_is_unbiased(options):
    """For every position, those of short blocks (given position 0, ragged end) included; copies are averaged."""
    objective = BlockDiffusion(4, **{"strata": "none", **options})
    _, weight_CRL, expected_CRL = drawn(objective, 10, steps=12, batch=2048)
    mean_RL = weight_CRL.sum(0)[:, 1:]
    error_L = mean_RL.std(0) / math.sqrt(len(mean_RL))
    # the plain bound's weight has a tail without variance, which the errors know only in part
    assert ((mean_RL.mean(0) - 1).abs() <= (ERRORS + 3) * error_L + 1e-9).all()
    assert expected_CRL.sum(0)[:, 1:].mean(0) == pytest.approx(np.ones(9), abs=0.05)
    assert (weight_CRL[:, :, 0] == 0).all()
    assert (expected_CRL[:, :, 0] == 0).all()


@pytest.mark.parametrize("guard", ["none", "force", "resample"])
@pytest.mark.parametrize("weight", ["1/realised", "1"])
def test_biased_weights_have_their_declared_means(guard, weight):
    """1/realised charges P(N >= 1); no weight charges the probability to be masked."""
    hidden, weight_CRL, expected_CRL = drawn(BlockDiffusion(4, guard=guard, weight=weight, strata="none"), 8)
    hidden, mean_R = hidden[0, :, 4:], weight_CRL[0, :, 4:].mean(1)
    probability = {"none": 0.5, "force": 0.5 + 1 / 20, "resample": quad(lambda u: u / (1 - (1 - u) ** 4), 0, 1)[0]}
    wanted = probability[guard] if weight == "1" else {"none": 0.8}.get(guard, 1.0)
    close(mean_R, wanted)
    close(expected_CRL[0, :, 4:].mean(1), wanted)
    assert hidden.any(1).all() == (guard != "none")


def test_resampling_is_the_conditional_law():
    """Patterns of a block of three at one rate, given that there is a mask: chi-squared against enumeration."""
    objective = BlockDiffusion(3, schedule=named("interval", a=0.2, b=0.2 + 1e-9), guard="resample", strata="none")
    hidden = drawn(objective, 6, steps=40)[0][0, :, 3:]
    codes = (hidden.long() * torch.tensor([1, 2, 4])).sum(1)
    counts = torch.bincount(codes, minlength=8).numpy()
    law = np.array([0.2 ** bin(c).count("1") * 0.8 ** (3 - bin(c).count("1")) for c in range(8)])
    assert counts[0] == 0
    assert stats.chisquare(counts[1:], law[1:] / law[1:].sum() * counts.sum()).pvalue > 1e-6
    few = drawn(BlockDiffusion(3, schedule=named("cap", u_max=1e-9), guard="resample"), 6, steps=4)[0][0, :, 3:]
    assert (few.sum(1) == 1).all(), "at vanishing rates exactly one, at once"


def test_forcing_picks_uniformly():
    hidden = drawn(BlockDiffusion(5, schedule=named("cap", u_max=1e-9), guard="force", strata="none"), 12)[0][0]
    assert stats.chisquare(hidden[:, 5:10].sum(0).numpy()).pvalue > 1e-6
    assert stats.chisquare(hidden[:, 1:5].sum(0).numpy()).pvalue > 1e-6, "never position 0"
    assert (hidden.sum(1) == 3).all()


def test_complementary_copies_mask_every_token_once():
    hidden = drawn(BlockDiffusion(4, complementary=True), 10, steps=3)[0]
    assert (hidden.sum(0)[:, 1:] == 1).all()
    assert not hidden[:, :, 0].any()


def test_count_law_is_uniform_and_its_weights_exact():
    hidden, weight, _ = drawn(BlockDiffusion(4, mask_sampling="count", strata="none"), 8)
    numbers = hidden[0, :, 4:].sum(1)
    assert stats.chisquare(torch.bincount(numbers, minlength=5)[1:].numpy()).pvalue > 1e-6
    assert torch.allclose(weight[0, :, 4:].sum(1), torch.full((len(numbers),), 4.0, dtype=torch.float64))
    assert stats.chisquare(hidden[0, :, 4:].sum(0).numpy()).pvalue > 1e-6


def test_suffix_law_hides_a_suffix():
    hidden = drawn(BlockDiffusion(8, mask_sampling="suffix", strata="none"), 16)[0][0, :, 8:]
    assert (hidden.long().diff(dim=1) >= 0).all()
    assert stats.chisquare(torch.bincount(hidden.sum(1), minlength=9)[1:].numpy()).pvalue > 1e-6


def declared(weight, guard, n, t, rate, slope):
    """(what a hidden token of a block of n weighs, or None where it depends on the mask; its mean), at level t."""
    some = 1 - (1 - rate) ** n
    q = {"force": rate + (1 - rate) ** n / n, "resample": rate / some}.get(guard, rate)
    return {
        "1/t": (slope / rate, slope * q / rate),
        "1/q": (slope / q, slope),
        "1": (1.0, q),
        "1/realised": (None, 1.0 if guard in ("force", "resample") else some),
    }[weight]


@pytest.mark.parametrize("weight", RULES)
@pytest.mark.parametrize("guard", list(Guard))
def test_weights_and_their_means_are_declared_at_every_level(guard, weight):
    """In blocks of 3, 4 and 2 tokens, by every clip and reach of a level. A path weighs m'/m, a law of rates 1/u."""
    path, law = (lambda t: (1 - math.cos(math.pi * t / 2), math.pi / 2 * math.sin(math.pi * t / 2))), lambda u: (u, 1.0)
    clips = {"none": path, "atom": lambda t: law(max(path(t)[0], 1 / 4)), "interval": lambda t: law(1 / 4 + 3 / 4 * t)}
    for (clip, noise), per, t in itertools.product(clips.items(), Per, (0.3, 0.6, 0.9)):
        schedule = named("linear" if clip == "interval" else "cos")
        corruption = BlockDiffusion(4, schedule, clip, guard, weight, t_per=per).corruption()
        copies = corruption.draw(torch.full((3000, 1), t, dtype=torch.float64), Layout(4, 10), address(3000))
        for copy, masks in enumerate(copies):
            rate, slope = noise(t)
            mean_L, error_L = masks.weight_BL.mean(0), masks.weight_BL.std(0) / math.sqrt(3000)
            if (weight, per) == ("1/realised", Per.sequence) and guard in (Guard.force, Guard.resample):
                # the guard hides more in blocks of few tokens: by the ratio of the sequence only its mean is 1
                assert np.allclose(masks.weight_BL.sum(1), 9, rtol=1e-9, atol=0)
                continue
            for tokens, n in ((slice(1, 4), 3), (slice(4, 8), 4), (slice(8, 10), 2)):
                reach = 9 if per is Per.sequence and weight == "1/realised" else n
                each, mean = declared(weight, guard, reach, t, 1 - rate if copy else rate, slope)
                if each is not None:
                    found = masks.weight_BL[:, tokens][masks.hidden_BL[:, tokens]]
                    assert torch.allclose(found, torch.tensor(each, dtype=torch.float64))
                assert np.allclose(masks.expected_BL[:, tokens], mean, rtol=1e-9, atol=0)
                assert ((mean_L - mean).abs()[tokens] <= (ERRORS + 3) * error_L[tokens] + 1e-9).all(), (clip, per, t, n)


def test_draws_are_independent_and_levels_are_those_of_the_strata():
    half = torch.full((2000, 1), 0.5, dtype=torch.float64)
    one, two = (BlockDiffusion(4, draws=2).corruption().draw(half, LONG, address(2000), d)[0] for d in range(2))
    agree = int((one.hidden_BL == two.hidden_BL)[:, 1:].sum())
    assert stats.binomtest(agree, 2000 * 127, 0.5).pvalue > 1e-6
    for objective, strata in itertools.product((BlockDiffusion(128), MaskedDiffusion()), Strata):
        corruption = dataclasses.replace(objective, strata=strata).corruption()
        (wanted,) = corruption.draw(levels(address(512), strata), LONG, address(512))
        assert torch.equal(corruption.masks(LONG, address(512))[0].weight_BL, wanted.weight_BL)


def test_published_strata_in_order_tie_the_level_to_the_block():
    """Four blocks of one sequence: mean t .125, .375, .625, .875; permuted and independent ones: 1/2 each."""
    for strata, wanted in {"in_order": [0.125, 0.375, 0.625, 0.875], "permuted": [0.5] * 4, "none": [0.5] * 4}.items():
        t = torch.cat([levels(address(1, step), Strata(strata), 4) for step in range(2000)])
        assert ((t > 0) & (t <= 1)).all()
        assert t.mean(0).numpy() == pytest.approx(wanted, abs=5 * math.sqrt(1 / 12 / 2000))


def test_strata_are_filled_once_by_rows_blocks_and_draws():
    t = torch.stack([levels(address(8, 7), Strata.permuted, 3, draw, 2) for draw in range(2)])
    assert (np.sort(np.ceil(t.numpy().ravel() * 48).astype(int)) == np.arange(1, 49)).all()


def test_one_level_a_sequence():
    hidden = drawn(BlockDiffusion(64, schedule=named("linear"), t_per="sequence"), 640, steps=1)[0][0]
    share = hidden.unflatten(1, (10, 64)).double().mean(2)[:, 1:]
    assert float((share - share.mean(1, keepdim=True)).abs().max()) < 6 * 0.5 / 8
    assert float(share.mean(1).std()) > 0.25


@pytest.mark.parametrize("denominator", list(Denominator))
@pytest.mark.parametrize("objective", [MaskedDiffusion, BlockDiffusion])
def test_masks_depend_on_neither_micro_batches_nor_processes(objective, denominator):
    built = objective(denominator=denominator)
    layout = Layout(4 if objective is BlockDiffusion else 12, 12)
    (whole,) = built.corruption().masks(layout, address(8, 5))
    parts = [built.corruption().masks(layout, address(8, 5, np.arange(a, a + 2)))[0] for a in (0, 2, 4, 6)]
    for name in ("hidden_BL", "weight_BL", "expected_BL"):
        assert torch.allclose(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]), rtol=1e-12)


def test_denominator_by_sequence_gives_each_sequence_its_mean():
    (masks,) = BlockDiffusion(4, weight="1", denominator="sequence").corruption().masks(Layout(4, 12), address(512))
    some = masks.hidden_BL.any(1)
    assert torch.allclose(masks.weight_BL.sum(1)[some], torch.tensor(11.0, dtype=torch.float64))


def test_nothing_masked_is_no_loss():
    for denominator in Denominator:
        objective = BlockDiffusion(4, schedule=named("cap", u_max=1e-12), denominator=denominator)
        (masks,) = objective.corruption().masks(Layout(4, 12), address(512))
        assert not masks.hidden_BL.any()
        assert (masks.weight_BL == 0).all()


def test_a_warmup_caps_rates_and_drops_weights():
    objective = BlockDiffusion(4, clip="atom", guard="force", strata="none")
    capped = drawn(objective, 8, phase=Phase(cap=0.2, weighted=False, clipped=False))
    close(capped[0][0, :, 4:].double().mean(1), 0.1)
    assert set(capped[1].unique().tolist()) == {0.0, 1.0}
    clipped = drawn(objective, 8, steps=4, phase=Phase(cap=0.2, weighted=False, clipped=True))
    assert clipped[0][0, :, 4:].any(1).all()
    kept = drawn(objective, 8, phase=Phase(cap=0.2, clipped=False))
    assert float(kept[1][kept[1] > 0].min()) >= 5.0, "1/t of t <= 0.2"
    assert objective.corruption(Phase(clipped=False)).guard is Guard.none
    assert BlockDiffusion(4, complementary=True).corruption(Phase(clipped=False)).guard is Guard.complementary
    problem = MaskedDiffusion(shift=False).pose(
        torch.zeros(256, 65).long(), address(256), VOCABULARY, Phase(0.2, False)
    )
    assert set(problem.weight_RL.unique().tolist()) == {0.0, 1.0}
    assert 0.05 < float(problem.weight_RL[:, 1:].mean()) < 0.15
    assert MaskedDiffusion(mask_sampling="count").corruption().mask_sampling is MaskSampling.count
    assert objective.t_per is Per.block


AHEAD = [
    BlockDiffusion(4),
    BlockDiffusion(4, clip="atom", guard="force", weight="1/q", draws=2, denominator="masked"),
    BlockDiffusion(4, guard="resample", denominator="sequence", t_per="sequence", strata="in_order"),
    BlockDiffusion(4, complementary=True, strata="none"),
    BlockDiffusion(4, mask_sampling="count"),
    BlockDiffusion(4, mask_sampling="suffix"),
    MaskedDiffusion(schedule=named("cos")),
]


@pytest.mark.parametrize("objective", AHEAD, ids=lambda one: f"{one.label}-{AHEAD.index(one)}")
@pytest.mark.parametrize("rows", [range(6), range(1, 5)], ids=["all rows", "some"])
def test_masks_made_ahead_are_those_made_step_by_step(objective, rows):
    """Whichever step is asked for first, and in a warmup; another seed, draw and batch get their own."""
    layout, warm = Layout(getattr(objective, "size", 10), 10), Phase(0.5, False, False)

    def asked(ahead, step, phase, seed=0, redraw=0, batch=6):
        one = dataclasses.replace(address(batch, step, np.array(rows), seed), redraw=redraw, ahead=ahead)
        return [getattr(m, f.name) for m in objective.corruption(phase).masks(layout, one, phase) for f in FIELDS]

    cases = [(step, phase) for step in (7, 2, 3, 8, 9) for phase in (Phase(), warm)]
    cases += [(2, Phase(), 1), (2, Phase(), 0, 0, 12)]
    if objective.mask_sampling is not MaskSampling.suffix:  # which levels alone decide
        cases += [(2, Phase(), 0, 1)]
    seen = set()
    for case in cases:
        found, wanted = asked(4, *case), asked(1, *case)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)), case
        seen.add(str(wanted))
    assert len(seen) == len(cases), "two cases are the same draw"

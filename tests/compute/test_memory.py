"""The memory that a step is planned to take, held against what torch's allocators hand out while one is made."""

import contextlib
import gc
from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from ablate.compute.device import Device, Precision, Recompute, attention_form
from ablate.compute.execution import prepare
from ablate.compute.memory import Part, Step, memory_of
from ablate.compute.optimizer import adamw
from ablate.core.corpus import Vocabulary
from ablate.core.rng import generator
from ablate.model.attention import CAUSAL, Attention, Form, Pattern
from ablate.model.config import ModelConfig
from ablate.model.transformer import Transformer, initialise
from ablate.noise.options import Clip, Guard
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.loss import loss_of
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.regime import Stage
from tests.builders import address

SHAPE, VOCABULARY, BATCH = ModelConfig(128, 4, 4, 2), 1000, 8
OBJECTIVES = {
    "AR": Autoregressive(),
    "masked": MaskedDiffusion(),
    "block": BlockDiffusion(4, clip=Clip.atom, guard=Guard.force),
}
TOLERANCE = 0.1


def posed(objective, length, seed=0):
    tokens = torch.from_numpy(generator(seed, "memory").integers(0, VOCABULARY - 1, (BATCH, length)))
    return objective.pose(tokens, address(BATCH, seed=seed), Vocabulary.unnamed(VOCABULARY))


def train(network, optimizer, problem, device, mixed, micro_steps=1):
    optimizer.zero_grad()
    for _ in range(micro_steps):
        with torch.autocast(device, torch.bfloat16) if mixed else contextlib.nullcontext():
            loss = loss_of(network, problem, BATCH)
        loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


def on_the_cpu(build, problem, mixed, micro_steps):
    """Bytes that the CPU's allocator had handed out at most since it had nothing of this network: its own account, read
    off the profiler."""
    gc.collect()  # what earlier tests left would be seen to leave
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        network, optimizer = build("cpu")
        train(network, optimizer, problem, "cpu", mixed, micro_steps)
        train(network, optimizer, problem, "cpu", mixed, micro_steps)
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    return int(np.cumsum([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]).max())


def on_a_gpu(build, problem, mixed, micro_steps):
    """The same of the caching allocator's own count, once compiling and the first step are over."""
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    network, optimizer = build("cuda")
    on_card = replace(
        problem,
        **{
            f.name: value.cuda() for f in fields(problem) if isinstance(value := getattr(problem, f.name), torch.Tensor)
        },
    )
    train(network, optimizer, on_card, "cuda", mixed, micro_steps)
    torch.cuda.reset_peak_memory_stats()
    train(network, optimizer, on_card, "cuda", mixed, micro_steps)
    return torch.cuda.max_memory_allocated() - before


def measured_and_planned(name, length, precision, recompute, micro_steps=1, device=Device.cpu):
    objective, mixed = OBJECTIVES[name], precision is Precision.bf16
    problem, form = posed(objective, length), attention_form(device, precision)

    def build(place):
        network = prepare(Transformer(SHAPE, VOCABULARY, VOCABULARY - 1, form), False, recompute)
        initialise(network, 0)
        network.to(place)
        return network, adamw(network, Stage(Autoregressive()))

    measured = {Device.cpu: on_the_cpu, Device.cuda: on_a_gpu}[device](build, problem, mixed, micro_steps)
    scored = int((problem.weight_RL > 0).sum())
    planned = memory_of(
        Step(
            SHAPE,
            VOCABULARY,
            problem.pattern,
            length,
            BATCH,
            scored,
            device,
            precision,
            form,
            recompute,
            carried=micro_steps > 1,
        )
    )
    return measured, planned.peak


GRID = list(product(OBJECTIVES, (64, 256), Precision, Recompute))
GRID = [case for case in GRID if case[2] is not Precision.auto]
QUICK = [
    (name, 64, precision, recompute)
    for name, precision, recompute in (
        ("AR", Precision.fp32, Recompute.none),
        ("AR", Precision.bf16, Recompute.selective),
        ("masked", Precision.bf16, Recompute.none),
        ("masked", Precision.fp32, Recompute.full),
        ("block", Precision.bf16, Recompute.none),
        ("block", Precision.fp32, Recompute.selective),
    )
]
TWICE = [  # long rows in bf16, which a CPU takes ten seconds for: what is made anew is seen in fp32, and in blocks
    (name, 256, Precision.bf16, recompute)
    for name, recompute in product(("AR", "masked"), Recompute)
    if recompute is not Recompute.none
]
CASES = [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in GRID if case not in TWICE]


def require_near(measured, planned):
    assert abs(planned / measured - 1) < TOLERANCE, f"planned {planned:,}, measured {measured:,} bytes"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "length", "precision", "recompute"), CASES, ids=str)
def test_planned_memory_is_what_the_cpu_hands_out(name, length, precision, recompute):
    require_near(*measured_and_planned(name, length, precision, recompute))


def test_gradients_of_earlier_micro_steps_are_there():
    require_near(*measured_and_planned("AR", 64, Precision.fp32, Recompute.none, micro_steps=3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    ("name", "length", "precision", "recompute"), [case for case in GRID if case[1] == 256], ids=str
)
def test_planned_memory_is_what_a_gpu_hands_out(name, length, precision, recompute):
    require_near(*measured_and_planned(name, length, precision, recompute, device=Device.cuda))


def step(**changes):
    usual = Step(SHAPE, VOCABULARY, CAUSAL, 64, BATCH, BATCH * 63, Device.cpu, Precision.fp32, Form.sdpa)
    return replace(usual, **changes)


def test_lasting_parts_are_counted_whole():
    found, parameters = memory_of(step()), SHAPE.parameters(VOCABULARY)
    assert found.most[Part.gradients] == 4 * parameters
    assert 4 * parameters <= found.most[Part.weights] < 4 * parameters + 10_000  # and the tables of the network
    assert 8 * parameters <= found.most[Part.optimizer] < 8 * parameters + 1000  # and a count a tensor
    assert sum(found.at_peak.values()) == found.peak
    assert found.most[Part.cast] == 0


def test_a_fused_norm_keeps_less_and_what_is_made_anew_is_not_kept():
    cpu, cuda, anew = (
        memory_of(step(**x)).most[Part.activations]
        for x in ({}, {"device": Device.cuda}, {"recompute": Recompute.full})
    )
    normed = 4 * BATCH * 64 * SHAPE.width * 2 * SHAPE.layers  # of each of two norms a layer
    assert cpu - cuda == pytest.approx(normed, rel=0.2)
    assert anew < cuda / 3


@pytest.mark.slow
def test_flex_keeps_no_mask_and_no_scores():
    """Twice the length, twice the activations; with a dense mask or written out it is more."""
    blocks = Pattern(Attention.block, 4, 1)
    found = {
        (form, length): memory_of(step(pattern=blocks, form=form, length=length, scored=8, device=Device.cuda))
        for form in (Form.flex, Form.dense, Form.matmul)
        for length in (128, 256)
    }
    kept = {key: memory.most[Part.activations] for key, memory in found.items()}
    assert kept[Form.flex, 256] == pytest.approx(2 * kept[Form.flex, 128], rel=0.01)
    assert kept[Form.dense, 256] > kept[Form.flex, 256]
    assert kept[Form.matmul, 256] > 2.1 * kept[Form.matmul, 128]


def test_planning_leaves_nothing_behind():
    """Masks made of fake tensors would break the next real pass, and so would a norm that computes nothing."""
    before = F.rms_norm, F.scaled_dot_product_attention
    network = Transformer(SHAPE, VOCABULARY, VOCABULARY - 1, Form.matmul)
    tokens = torch.zeros(2, 16, dtype=torch.long)
    expected = network(tokens, CAUSAL)
    memory_of(step(form=Form.matmul, length=16, device=Device.cuda))
    assert torch.equal(network(tokens, CAUSAL), expected)
    assert (F.rms_norm, F.scaled_dot_product_attention) == before


def main():
    """The table of docs/scale.md: `python -m tests.compute.test_memory`."""
    for case in GRID:
        measured, planned = measured_and_planned(*case)
        name, length, precision, recompute = case
        print(
            f"| {name} | {length} | {precision} | {recompute} | {planned / 1e6:.1f} | {measured / 1e6:.1f} | "
            f"{planned / measured - 1:+.1%} |"
        )


if __name__ == "__main__":
    main()

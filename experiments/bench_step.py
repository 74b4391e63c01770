"""Whole training steps beside transformers' Llama: the same network, the same problems, and a race in turns.

Shapes: B batch, L positions, V vocabulary.
"""

from __future__ import annotations

import os
import tempfile
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from rich import box
from rich.table import Column, Table
from torch import Tensor, nn

from ablate.attention import CAUSAL, FULL, Form, Pattern
from ablate.learner import adamw
from ablate.machine import Device, Precision, attention_form, resolve_precision
from ablate.model import Transformer, initialise
from ablate.objective import Autoregressive, MaskedDiffusion, Objective, Problem, Rows
from ablate.regime import Stage
from ablate.seeds import generator
from ablate.shape import Shape
from experiments.bench import middle, spread
from experiments.bench_run import parameters, train_step

SHAPE = Shape(128, 4, 4, 4, hidden=344, vocabulary=512)
BATCH, LENGTH = 32, 128
MASK = SHAPE.vocabulary - 1
STAGE = Stage(Autoregressive())  # read for AdamW's and clipping's settings
OBJECTIVES: dict[str, Objective] = {"AR": Autoregressive(), "masked": MaskedDiffusion()}
PEER = "Llama"
TOLERANCE = 1e-4  # of logits, fp32: the two sum in different orders
WARMUP = 3  # steps after the first, of every contestant, before any is timed
SIDE = 1024  # of the square matrices whose product is the peak
DTYPES = {Precision.fp32: torch.float32, Precision.bf16: torch.bfloat16}

Forward = Callable[..., Tensor]


@dataclass
class Contestant:
    """A network with its optimiser. attention: how its attention is computed."""

    name: str
    network: nn.Module
    forward: Forward
    precision: Precision
    attention: str
    optimiser: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.optimiser = adamw(self.network, STAGE)  # type: ignore[arg-type]  # reads parameters() alone

    def seconds(self, problems: list[Problem]) -> tuple[float, float]:
        """Wall time of one step on each problem, and the last loss (nats)."""
        loss = torch.zeros(())
        start = time.perf_counter()
        for problem in problems:
            loss = train_step(self.forward, self.optimiser, problem, BATCH, self.precision, STAGE.clip_norm)
        return time.perf_counter() - start, float(loss)


def race(name: str, threads: int, rounds: int, steps: int) -> dict[str, Any]:
    """Times every contestant on one objective, in turns of `steps` steps; call in a fresh process.

    Raises RuntimeError if the peer does not compute what our network computes.
    """
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # empty: the first compiled step pays for compiling
        difference = check_equal()
        racers, problems = contestants(), posed(OBJECTIVES[name], steps)
        first = [c.seconds(problems[:1]) for c in racers]
        for c in racers:
            c.seconds(problems[:1] * WARMUP)
        seconds: dict[str, list[float]] = {c.name: [] for c in racers}
        peaks = {c.precision: 0.0 for c in racers}
        for _ in range(rounds):
            for c in racers:
                c.seconds(problems[:1])  # not timed: the one before has the caches
                seconds[c.name].append(c.seconds(problems)[0])
            peaks = {p: max(best, _matmul_rate(DTYPES[p])) for p, best in peaks.items()}
    return {
        "objective": name,
        "threads": threads,
        "largest_logit_difference_fp32": difference,
        "matmul_peak_flops_per_second": {p.value: rate for p, rate in peaks.items()},
        "contestants": [
            _entry(c, seconds[c.name], seconds[PEER], peaks[c.precision], steps)
            | {"first_step_seconds": start, "first_loss_nats": loss}
            for c, (start, loss) in zip(racers, first, strict=True)
        ],
    }


def contestants() -> list[Contestant]:
    """The peer at its defaults, then ours: as the rules for this machine have it, the same compiled, and in fp32."""
    precision = resolve_precision(Precision.auto, Device.cpu)
    llama = llama_of(ours())
    racers = [Contestant(PEER, llama, llama_forward(llama), Precision.fp32, llama.config._attn_implementation)]
    choices = {"ours": (precision, False), "ours, compiled": (precision, True), "ours, fp32": (Precision.fp32, False)}
    if precision is Precision.fp32:
        del choices["ours, fp32"]  # it is the default here
    for name, (choice, compiled) in choices.items():
        form = attention_form(Device.cpu, choice)
        network = ours(form)
        racers.append(Contestant(name, network, torch.compile(network) if compiled else network, choice, form.value))
    return racers


def ours(form: Form = Form.sdpa) -> Transformer:
    """Our network at the benchmark's shape, its weights the same at every call."""
    network = Transformer(SHAPE, SHAPE.vocabulary, MASK, form)
    initialise(network, 0)
    return network


def llama_of(network: Transformer) -> Any:
    """transformers' LlamaForCausalLM of the same shape and weights, in every other respect at its defaults."""
    from transformers import LlamaConfig, LlamaForCausalLM

    s = network.shape
    config = LlamaConfig(
        vocab_size=network.head.out_features, hidden_size=s.width, intermediate_size=s.hidden,
        num_hidden_layers=s.layers, num_attention_heads=s.heads, num_key_value_heads=s.kv_heads,
        rms_norm_eps=s.norm_eps, rope_theta=s.rope_theta, tie_word_embeddings=s.tied,
    )  # fmt: skip
    llama = LlamaForCausalLM(config)
    llama.load_state_dict(_llama_weights(network))  # strict: no matrix is left over on either side
    return llama.train()


def _llama_weights(network: Transformer) -> dict[str, Tensor]:
    """Our weights under Llama's names; both turn rotary pairs (i, i + D/2), so that no row moves."""
    weights = {"model.embed_tokens.weight": network.embedding.weight, "model.norm.weight": network.norm,
               "lm_head.weight": network.head.weight}  # fmt: skip
    for i, layer in enumerate(network.layers):
        part = {
            "self_attn.q_proj": layer.q.weight, "self_attn.k_proj": layer.k.weight, "self_attn.v_proj": layer.v.weight,
            "self_attn.o_proj": layer.out.weight, "mlp.gate_proj": layer.gate.weight, "mlp.up_proj": layer.up.weight,
            "mlp.down_proj": layer.down.weight, "input_layernorm": layer.norm_attention,
            "post_attention_layernorm": layer.norm_mlp,
        }  # fmt: skip
        weights |= {f"model.layers.{i}.{name}.weight": tensor for name, tensor in part.items()}
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


def llama_forward(llama: Any) -> Forward:
    """Llama under our signature. `is_causal` is its own argument: its attention then gets no mask at all, which is the
    fastest way it has to see both sides (a 4D mask would be read by every layer)."""

    def forward(tokens_BL: Tensor, pattern: Pattern, scored_N: Tensor | None = None) -> Tensor:
        logits_BLV = llama(input_ids=tokens_BL, is_causal=pattern == CAUSAL, use_cache=False).logits
        return logits_BLV if scored_N is None else logits_BLV.flatten(0, 1)[scored_N]

    return forward


def logit_difference(network: Transformer, forward: Forward, pattern: Pattern, tokens_BL: Tensor) -> float:
    """Largest difference between the logits of two networks, MASK's left out: ours gives it -inf, Llama a number."""
    with torch.no_grad():
        difference_BLV = network(tokens_BL, pattern) - forward(tokens_BL, pattern)
    real_V = torch.isfinite(network.allowed_V)
    return float(difference_BLV[..., real_V].abs().max())


def check_equal() -> float:
    """Largest logit difference in fp32 over both patterns. Raises RuntimeError above TOLERANCE."""
    network = ours()
    forward = llama_forward(llama_of(network))
    worst = max(logit_difference(network, forward, pattern, tokens(2)) for pattern in (CAUSAL, FULL))
    if not worst <= TOLERANCE:
        raise RuntimeError(f"{PEER}: wanted our logits within {TOLERANCE}, got {worst:.2g} off: not the same network")
    return worst


def tokens(rows: int) -> Tensor:
    """(rows, L) random tokens other than MASK: a step's time does not depend on them."""
    return torch.from_numpy(generator(0, "bench").integers(0, MASK, (rows, LENGTH)))


def posed(objective: Objective, steps: int) -> list[Problem]:
    """Problems of the first steps, the same for every contestant. Posed in advance: data are not part of a step."""
    rows = [Rows(0, step, np.arange(BATCH), BATCH) for step in range(steps)]
    return [objective.pose(tokens(BATCH), r, MASK) for r in rows]


def _matmul_rate(dtype: torch.dtype) -> float:
    """Of the fastest of three matrix products, FLOP/s."""
    a, b = torch.randn(2, SIDE, SIDE).to(dtype)
    return 2 * SIDE**3 / min(timeit.repeat(lambda: torch.mm(a, b), number=1, repeat=3))


def _entry(c: Contestant, seconds: list[float], peer: list[float], peak: float, steps: int) -> dict[str, Any]:
    """One contestant's numbers; its ratio is taken within each round, where both met the same machine."""
    rate = spread(BATCH * LENGTH * steps / s for s in seconds)
    return {
        "network": c.name,
        "precision": c.precision.value,
        "attention": c.attention,
        "parameters": parameters(c.network),
        "seconds_per_step": [s / steps for s in seconds],
        "tokens_per_second": rate,
        "speed_over_peer": spread(p / s for p, s in zip(peer, seconds, strict=True)),
        "share_of_matmul_peak": rate["median"] * SHAPE.flops(LENGTH, SHAPE.vocabulary) / peak,
    }


def table(races: list[dict[str, Any]]) -> Table:
    """A line per contestant, a section per race."""
    numbers = [Column(name, justify="right", no_wrap=True) for name in ("1000 tok/s", f"x {PEER}", "peak", "first")]
    title = "Whole training steps: median (quartiles)"
    lines = Table(Column("network", no_wrap=True), *numbers, box=box.SIMPLE, pad_edge=False, title=title)
    for race in races:
        lines.add_row(f"[bold]{race['objective']}, {race['threads']} thread(s)")
        for c in race["contestants"]:
            lines.add_row(
                f"{c['network']} ({c['precision']})",
                middle(c["tokens_per_second"], ".1f", 1000),
                "1" if c["network"] == PEER else middle(c["speed_over_peer"], ".2f"),
                f"{c['share_of_matmul_peak']:.0%}",
                f"{c['first_step_seconds']:.1f}",
            )
        lines.add_section()
    return lines


def notes(races: list[dict[str, Any]]) -> str:
    """How to read the table."""
    field = races[0]["contestants"]
    peaks = [f"{r['objective']}, {r['threads']} thread(s), {p} {rate / 1e9:.0f}"
             for r in races for p, rate in r["matmul_peak_flops_per_second"].items()]  # fmt: skip
    return f"""networks: {field[0]["parameters"]:,} parameters, {SHAPE.layers} layers, width {SHAPE.width}
steps: {BATCH} x {LENGTH} tokens, {SHAPE.flops(LENGTH, SHAPE.vocabulary) / 1e6:.2f} MFLOP a token
largest difference of logits, fp32: {max(r["largest_logit_difference_fp32"] for r in races):.1g}
attention: {"; ".join(f"{c['network']}: {c['attention']}" for c in field)}
x {PEER}: speed over {PEER}'s in the same round
peak: share of the best {SIDE}^3 matrix product at the same precision, GFLOP/s: {"; ".join(peaks)}
first: seconds of the first step; for compiled networks, with compiling"""

"""Decoding with a cache beside full passes, the bare passes that it must make, and transformers' generate.

All contestants fill the same row after the same prompt, in turns, with one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from rich import box
from rich.table import Table
from torch import Tensor

from ablate.decoding.loop import decode
from ablate.decoding.predictor import Predictor
from ablate.decoding.protocol import Protocol
from ablate.model.kv_cache import KeyValueCache
from ablate.model.transformer import Transformer, initialise
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.problem import Objective
from experiments.benchmarks.llama_peer import llama_of
from experiments.benchmarks.timing import middle, spread
from experiments.presets.model_sizes import MODELS

MODEL, VOCABULARY, LENGTH, PROMPT, BLOCK = "small", 512, 512, 64, 4
BARE = "as many passes of a block, bare"
RATIOS = {  # contestants, the second's time over the first's
    "cached beside full passes": ("blocks of 4, cached", "blocks of 4, full passes"),
    "bare passes beside cached": (BARE, "blocks of 4, cached"),
    "AR cached beside generate": ("AR, cached", "AR, transformers' generate"),
}


def race(rounds: int) -> dict[str, Any]:
    """CPU seconds of every contestant, and the ratios. Call in a fresh process."""
    torch.set_num_threads(1)
    network = Transformer(MODELS[MODEL], VOCABULARY, VOCABULARY - 1)
    initialise(network, 0)
    tokens_BL = torch.randint(0, VOCABULARY - 1, (1, LENGTH), generator=torch.Generator().manual_seed(0))
    contestants = _contestants(network.eval(), tokens_BL)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, go in contestants.items():
            begun = time.process_time()
            go()
            if turn:  # the first one of each warms up
                seconds[name].append(time.process_time() - begun)
    ratios = {
        name: spread(b / a for a, b in zip(seconds[one], seconds[other], strict=True))
        for name, (one, other) in RATIOS.items()
    }
    return {"seconds": {name: spread(found) for name, found in seconds.items()}, "ratios": ratios}


def _contestants(network: Transformer, tokens_BL: Tensor) -> dict[str, Callable[[], object]]:
    answer_BL = torch.arange(LENGTH).expand_as(tokens_BL) >= PROMPT

    def ours(objective: Objective, size: int, cached: bool) -> Callable[[], object]:
        options = {"attention_size": objective.reading.size, "cached": cached}
        return lambda: decode(
            Predictor(network, objective), tokens_BL, answer_BL, Protocol(size), network.mask_id, **options
        )

    llama = llama_of(network).eval()
    llama.generation_config.pad_token_id, llama.generation_config.eos_token_id = 0, None
    new = LENGTH - PROMPT
    return {
        "blocks of 4, cached": ours(BlockDiffusion(BLOCK), BLOCK, True),
        "blocks of 4, full passes": ours(BlockDiffusion(BLOCK), BLOCK, False),
        BARE: lambda: _bare(network, tokens_BL),
        "AR, cached": ours(Autoregressive(), 1, True),
        "AR, transformers' generate": lambda: llama.generate(
            tokens_BL[:, :PROMPT], max_new_tokens=new, min_new_tokens=new, do_sample=False, use_cache=True
        ),
    }


@torch.no_grad()
def _bare(network: Transformer, tokens_BL: Tensor) -> None:
    """One pass a token over its block and all keys before it, and its logits: no choosing, no clean pass."""
    cache, row = KeyValueCache(network.config, 1, LENGTH, network.embedding.weight), torch.zeros(1, dtype=torch.int64)
    turns = network.turns(LENGTH)
    for place in range(PROMPT, LENGTH):
        first = place // BLOCK * BLOCK
        place_RT = torch.arange(first, first + BLOCK)[None]
        pasts = cache.pasts(row, place_RT, first + BLOCK)
        network.logits(network.extend(tokens_BL.gather(1, place_RT), place_RT, pasts, None, turns))


def table(result: dict[str, Any]) -> Table:
    """A line a contestant, and a ratio a line."""
    lines = Table(
        "", "CPU seconds", box=box.SIMPLE, title=f"{LENGTH - PROMPT} tokens after {PROMPT}, {MODEL}, one thread"
    )
    for name, found in result["seconds"].items():
        lines.add_row(name, middle(found, ".2f"))
    lines.add_section()
    for name, found in result["ratios"].items():
        lines.add_row(name, f"x {middle(found, '.2f')}")
    return lines

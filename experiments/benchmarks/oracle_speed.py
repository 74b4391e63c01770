"""The exact oracles: how many clique rows and tokens of posterior a second, world by world, and a million contexts.

Shapes: B sequences, L positions, V vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Column, Table
from torch import Tensor

import synthetic_data
from ablate.core.rng import uniform
from experiments.benchmarks.timing import middle, spread

BARE = "bare addition, 8 digits"
LEAST_TOKENS, LEAST_ROWS = 1e6, 60e6  # a second, of bare addition: what a change of code must not break
MOST_GROWTH = 1e9  # bytes of resident memory, over a million contexts
SECONDS = 0.35  # of one repetition
PROBED = 0.05  # seconds of a repetition that says how many sequences fill SECONDS
CHUNK = 16_384  # sequences of the million inferred at once: their posterior takes 92 MB


World = Any  # a Corpus whose oracle is there and counts the rows of its cliques


def _make(name: str, **parameters: Any) -> Callable[[], World]:
    return lambda: synthetic_data.make(name, **parameters)


CASES: dict[str, Callable[[], World]] = {
    BARE: _make("arithmetic", domain="general", split="whole", layout="bare", records=1, digits=8, wrap=False),
    "arithmetic": _make("arithmetic"),
    "arithmetic digits=2": _make("arithmetic", digits=2),
    "addition digits=8": _make("arithmetic", domain="general", records=1, digits=8),
    "trace": _make("trace"),
    "trace split=longer": _make("trace", split="longer"),
    "facts": _make("facts"),
    "facts people=20000": _make("facts", people=20_000),
    "programs": _make("programs"),
    "programs variables=4": _make("programs", variables=4),
    "noisy(trace, 0.05)": lambda: synthetic_data.noisy(synthetic_data.make("trace"), 0.05),
}


@dataclass(frozen=True)
class Subject:
    """A world and the contexts that it is timed on."""

    name: str
    corpus: World
    tokens_BL: Tensor

    def seconds(self, threads: int) -> tuple[float, float]:
        """Wall and CPU time of one posterior of all contexts; the engine takes as many threads as torch has."""
        torch.set_num_threads(threads)
        wall, cpu = time.perf_counter(), time.process_time()
        self.corpus.oracle.posterior(self.tokens_BL)
        return time.perf_counter() - wall, time.process_time() - cpu


def contexts(corpus: World, first: int, size: int) -> Tensor:
    """(B, L) fresh sequences first..first+size-1, each token hidden with probability t ~ U(0, 1), one t a sequence."""
    rows = range(first, first + size)
    hidden_BL = uniform(0, "bench/hidden", rows, (corpus.length,)) < uniform(0, "bench/rate", rows, (1,))
    return corpus.batch(rows, seed=0).masked_fill(hidden_BL, corpus.vocabulary.mask_id)


def subject(name: str, corpus: World, seconds: float) -> Subject:
    """As many contexts as take one thread about `seconds`. Its first call, which prepares the oracle, is past."""
    size, least = 8, min(PROBED, seconds)
    one = Subject(name, corpus, contexts(corpus, 0, size))
    one.seconds(1)
    while (taken := one.seconds(1)[0]) < least:
        size = math.ceil(size * min(8.0, 1.5 * least / taken))
        one = Subject(name, corpus, contexts(corpus, 0, size))
    return Subject(name, corpus, contexts(corpus, 0, max(1, round(size * seconds / taken))))


def race(names: Iterable[str], threads: list[int], rounds: int) -> list[dict[str, Any]]:
    """An entry for each number of threads and world. A round times every world once with every number of threads."""
    before = torch.get_num_threads()
    try:
        subjects = [subject(name, CASES[name](), SECONDS) for name in names]
        turns = [(n, s) for s in subjects for n in threads]
        times: list[list[tuple[float, float]]] = [[] for _ in turns]
        for n, s in turns:
            s.seconds(n)  # not timed: the first call of its size
        for _ in range(rounds):
            for taken, (n, s) in zip(times, turns, strict=True):
                taken.append(s.seconds(n))
    finally:
        torch.set_num_threads(before)
    return [_entry(s, n, taken) for taken, (n, s) in zip(times, turns, strict=True)]


def _entry(s: Subject, threads: int, times: list[tuple[float, float]]) -> dict[str, Any]:
    rows, (batch, length) = s.corpus.oracle.rows, s.tokens_BL.shape
    wall, cpu = zip(*times, strict=True)
    return {
        "world": s.name,
        "threads": threads,
        "length": length,
        "vocabulary": len(s.corpus.vocabulary),
        "rows_per_sequence": rows,
        "rows_per_token": rows / length,
        "sequences": batch,
        "wall_seconds": list(wall),
        "cpu_seconds": list(cpu),
        "rows_per_second": spread(rows * batch / t for t in wall),
        "rows_per_cpu_second": spread(rows * batch / t for t in cpu),
        "tokens_per_second": spread(length * batch / t for t in wall),
    }


def million(total: int, threads: int) -> dict[str, Any]:
    """Mean K_0 and entropy (bits) of a hidden token of bare addition over `total` sequences, a chunk at a time.

    peak_growth_bytes: the most resident memory of the process, over what it had after one small posterior; call in a
    fresh process. Reads /proc, so Linux only.
    """
    torch.set_num_threads(threads)
    corpus, sums = CASES[BARE](), torch.zeros(3, dtype=torch.float64)
    corpus.oracle.posterior(contexts(corpus, 0, 8))
    before, posterior, start = _resident_bytes("VmRSS"), 0.0, time.perf_counter()
    for first in range(0, total, CHUNK):
        tokens_BL = contexts(corpus, first, min(CHUNK, total - first))
        asked = time.perf_counter()
        found = corpus.oracle.posterior(tokens_BL)
        posterior += time.perf_counter() - asked
        hidden_BL = tokens_BL == corpus.vocabulary.mask_id
        count, nats = found.support_BLV[hidden_BL].sum(), torch.special.entr(found.p_BLV[hidden_BL]).sum()
        sums += torch.stack([hidden_BL.sum().double(), count.double(), nats])
    hidden, count, nats = sums.tolist()
    return {
        "sequences": total,
        "threads": threads,
        "sequences_at_once": CHUNK,
        "seconds": time.perf_counter() - start,
        "posterior_seconds": posterior,
        "hidden_tokens": int(hidden),
        "mean_support": count / hidden,
        "mean_entropy_bits": nats / hidden / math.log(2),
        "peak_growth_bytes": _resident_bytes("VmHWM") - before,
    }


def _resident_bytes(which: str) -> int:
    """VmRSS, now, or VmHWM, the peak. Not getrusage's peak: a new program inherits that of the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(which)).split()[1]) * 1024


def table(entries: list[dict[str, Any]]) -> Table:
    """A line per world, a section per number of threads."""
    heads = ("L", "V", "rows", "/token", "M rows/s", "/CPU s", "1000 tok/s")
    numbers = [Column(head, justify="right", no_wrap=True) for head in heads]
    title = "Exact posteriors: median (quartiles)"
    lines = Table(Column("world", no_wrap=True), *numbers, box=box.SIMPLE, pad_edge=False, padding=0, title=title)
    for threads in dict.fromkeys(e["threads"] for e in entries):
        lines.add_row(f"{threads} thread(s)", style="bold")
        for e in (e for e in entries if e["threads"] == threads):
            lines.add_row(
                e["world"],
                *(str(e[name]) for name in ("length", "vocabulary", "rows_per_sequence")),
                f"{e['rows_per_token']:.0f}",
                f"{e['rows_per_second']['median'] / 1e6:.1f}",
                f"{e['rows_per_cpu_second']['median'] / 1e6:.1f}",
                middle(e["tokens_per_second"], ".0f", 1000),
            )
        lines.add_section()
    return lines


def notes(entries: list[dict[str, Any]]) -> str:
    """How to read the table, and what is wanted of bare addition."""
    best = max((e for e in entries if e["world"] == BARE), key=lambda e: e["tokens_per_second"]["median"])
    rows, tokens = best["rows_per_second"]["median"], best["tokens_per_second"]["median"]
    met = "met" if rows >= LEAST_ROWS and tokens >= LEAST_TOKENS else "missed"
    return f"""rows: of all cliques of a sequence, each carried through one whole posterior
M rows/s: million rows a second of wall time; /CPU s: a second of CPU time
{BARE}: wanted {LEAST_ROWS / 1e6:.0f} M rows/s and {LEAST_TOKENS / 1e3:.0f} thousand tokens/s: {met}"""


def million_notes(result: dict[str, Any]) -> str:
    """What the million took."""
    growth = result["peak_growth_bytes"]
    met = "met" if growth < MOST_GROWTH else "missed"
    total, seconds, threads = result["sequences"] / 1e6, result["seconds"], result["threads"]
    return f"""{total:g} million sequences of bare addition: {seconds:.1f} s with {threads} thread(s),
{result["posterior_seconds"]:.1f} s of them posteriors
a hidden token has {result["mean_support"]:.3f} possible symbols and {result["mean_entropy_bits"]:.3f} bits
resident memory grew by {growth / 1e6:.0f} MB at its peak, wanted under {MOST_GROWTH / 1e6:.0f} MB: {met}"""

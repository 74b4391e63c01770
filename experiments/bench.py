"""Speed, measured here and now: `python experiments/bench.py train` (or `step`, `run`, `oracle`). See --help.

`train` runs where only torch, lightning, numpy, scipy and pandas are: what else is needed is imported where it is used.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

import argparse
import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.core.terminal import terminal
from experiments.benchmarks.bench_options import add_study, add_train, place, positive
from experiments.benchmarks.timing import in_fresh_process, surroundings
from experiments.cli.guard import guarded, refuse

if TYPE_CHECKING:
    from rich.console import Console


def main(arguments: list[str] | None = None) -> int:
    """Measures what was asked for. Returns the exit status: 2 where something is missing."""
    options = _parser().parse_args(arguments)
    return options.measure(options)


def train(options: argparse.Namespace) -> int:
    """Times whole training steps of a model on every objective; prints a table and writes all numbers."""
    from experiments.benchmarks import train_speed, train_table

    try:
        around = in_fresh_process(train_speed.surroundings_of, options.model)
        path = options.out or train_speed.place(around["machine"])
        train_speed.earlier(path)
    except ValueError as error:
        return refuse(f"bench.py train: {error}")
    result = train_speed.compete(train_speed.contest(options, around), around)
    print("\n" + train_table.report(result))
    if options.quick and options.out is None:
        print("--quick: too few steps to keep; nothing was written")
    else:
        train_speed.keep(path, result)
        print(f"written: {path}")
    return 0


def step(options: argparse.Namespace) -> int:
    """Races our training step against transformers' Llama; prints a table and writes all numbers."""
    if find_spec("transformers") is None or int(version("transformers").partition(".")[0]) < 5:
        return refuse("bench.py step: wanted transformers 5 to compare with; type pip install 'transformers>=5'")
    from ablate.core.storage import describe
    from experiments.benchmarks.step_speed import COURSES, PEER, SHAPE, notes, race, table

    console = terminal()
    rounds, steps = (2, 1) if options.quick else (options.rounds, 4)
    races = []
    for threads in options.threads:
        for name in options.only or COURSES:
            console.print(
                f"{name}, {threads} thread(s): compiling, then {rounds} rounds of {steps} step(s)", style="dim"
            )
            races.append(in_fresh_process(race, name, threads, rounds, steps))
    result = surroundings("transformers") | {
        "peer": f"transformers.LlamaForCausalLM at its defaults, named {PEER!r}; full attention by is_causal=False",
        "shape": describe(SHAPE),
        "flops_formula": "6 * matrix parameters + 12 * layers * width * length",
        "rounds": rounds,
        "steps_a_turn": steps,
        "races": races,
    }
    console.width = max(console.width, 96)  # a number cut short is lost
    console.print(table(races))
    console.print(notes(races), highlight=False)
    _write("step", result, options, console)
    return 0


def decode(options: argparse.Namespace) -> int:
    """Races decoding with a cache against full passes and transformers' generate; prints and writes likewise."""
    if find_spec("transformers") is None:
        return refuse('bench.py decode: wanted transformers to compare with, found none; type pip install -e ".[hf]"')
    from experiments.benchmarks import decode_speed

    console = terminal()
    result = surroundings("transformers") | in_fresh_process(decode_speed.race, 1 if options.quick else options.rounds)
    console.print(decode_speed.table(result))
    _write("decode", result, options, console)
    return 0


def run(options: argparse.Namespace) -> int:
    """Measures what the main job costs beside its bare loop, and how soon it answers; prints and writes likewise."""
    from experiments.benchmarks import run_speed

    console = terminal()
    rounds, steps = (2, 20) if options.quick else (9, 480)
    console.print(f"the main job's loop beside the bare one: {rounds} rounds of {steps} steps each", style="dim")
    loops = in_fresh_process(run_speed.overhead, rounds, steps, options.threads)
    console.print("from nothing to the first training step, and to --help", style="dim")
    result = surroundings() | loops | run_speed.answers(min(rounds, 5), options.threads)
    console.print(run_speed.table(result))
    console.print(run_speed.notes(result), highlight=False)
    _write("run", result, options, console)
    return 0


def oracle(options: argparse.Namespace) -> int:
    """Times exact posteriors of every world; prints and writes likewise."""
    from experiments.benchmarks import oracle_speed

    console = terminal()
    rounds, total = (2, 100_000) if options.quick else (options.rounds, 1_000_000)
    console.print(f"{len(oracle_speed.CASES)} worlds: choosing batches, then {rounds} rounds", style="dim")
    entries = oracle_speed.race(oracle_speed.CASES, options.threads, rounds)
    result = surroundings() | {"rounds": rounds, "worlds": entries}
    console.print(oracle_speed.table(entries))
    console.print(oracle_speed.notes(entries), highlight=False)
    if options.million:
        result["million"] = in_fresh_process(oracle_speed.million, total, max(options.threads))
        console.print(oracle_speed.million_notes(result["million"]), highlight=False)
    _write("oracle", result, options, console)
    return 0


def study(options: argparse.Namespace) -> int:
    """Times a study packed and warm beside its runs one by one; prints and writes likewise."""
    from experiments.benchmarks import study_speed

    console, contest = terminal(), study_speed.Contest()
    if options.quick:
        contest = study_speed.Contest(2, tuple(study_speed.SHORT))
    console.print(f"{contest.runs} runs one by one, then packed: {options.rounds} round(s)", style="dim")
    try:
        result = surroundings() | study_speed.throughput(contest, options.rounds, not options.quick)
    except RuntimeError as error:
        return refuse(f"bench.py study: {error}")
    if not options.quick:
        console.print("training steps by pack size", style="dim")
        result["steps"] = study_speed.steps(study_speed.PACKS, study_speed.OPERATIONS)
    console.width = max(console.width, 96)
    console.print(study_speed.table(result))
    console.print(study_speed.notes(result), highlight=False)
    console.print(f"throughput x {min(ratio['median'] for ratio in result['throughput'].values()):.1f}")
    _write("study", result, options, console)
    return 0


def profile(options: argparse.Namespace) -> int:
    """Tells what a training step spends its time on; prints and writes likewise."""
    from experiments.benchmarks import step_profile

    console, entries, steps = terminal(), [], 3 if options.quick else 20
    try:
        for regime in options.regimes:
            for seeds, compiled in ((1, False), (8, False), (8, True)):
                console.print(f"{regime}, {seeds} seed(s){', compiled' * compiled}", style="dim")
                asked = options.operations, seeds, compiled, regime, steps
                entries.append(in_fresh_process(step_profile.shares, *asked))
    except ValueError as error:  # a regime or a world that there is not
        return refuse(f"bench.py profile: {error}")
    console.width = max(console.width, 120)
    console.print(step_profile.table(entries))
    _write("profile", surroundings() | {"profiles": entries}, options, console)
    return 0


def guard(options: argparse.Namespace) -> int:
    """Compares the ratios of two files of `bench.py study`; 1 where one fell on the same processor."""
    from experiments.benchmarks.speed_guard import compare

    console = terminal()
    try:
        told, held = compare(options.now, options.before)
    except ValueError as error:
        return refuse(f"bench.py guard: {error}")
    console.print(told)
    return 0 if held else 1


def _write(benchmark: str, result: dict[str, Any], options: argparse.Namespace, console: Console) -> None:
    """Writes the numbers whole or not at all; those of --quick only where --out says so."""
    from ablate.core.storage import write_bytes

    if options.quick and options.out is None:
        console.print("--quick: too few rounds to keep; nothing was written")
        return
    machine = result["machine"]
    label = f"{machine['cores']}-cores-{machine['instructions']}".lower()
    path = options.out or Path("benchmarks") / f"{benchmark}-{label}.json"
    write_bytes(path, json.dumps({"benchmark": benchmark} | result, indent=1).encode())
    console.print(f"written: {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Speed on this machine, with its spread. Needs it to itself.")
    commands = parser.add_subparsers(required=True, metavar="{train,step,decode,run,oracle,study,profile,guard}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--quick", action="store_true", help="two short rounds, to try it; no file without --out")
    common.add_argument(
        "--out", type=place, metavar="FILE.json", help="default: a file in benchmarks/ named after the machine"
    )
    told = """AR, masked and block diffusion (B=4 and 32, and B=4 with a dense mask), each in a process of its own; one
        that fails is told as such. The file holds a machine's models: benchmarks/MACHINE.json."""
    short = "whole training steps by objective, on a GPU or here"
    zero = commands.add_parser("train", parents=[common], help=short, description=told)
    add_train(zero)
    zero.set_defaults(measure=train)
    one = commands.add_parser("step", parents=[common], help="whole training steps beside transformers' Llama")
    one.add_argument("--threads", type=positive, nargs="+", default=[1, 2], metavar="N", help="default: 1 2")
    races = ("AR", "masked", "block-128", "block-512")
    one.add_argument("--only", nargs="+", choices=races, metavar="RACE", help=f"some of {', '.join(races)}")
    one.add_argument("--rounds", type=positive, default=15, metavar="N", help="default: 15")
    one.set_defaults(measure=step)
    told = "a row filled with a cache, by full passes, and by transformers' generate, in turns"
    other = commands.add_parser("decode", parents=[common], help=told)
    other.add_argument("--rounds", type=positive, default=7, metavar="N", help="default: 7")
    other.set_defaults(measure=decode)
    two = commands.add_parser("run", parents=[common], help="the main job beside its bare loop; time to its first step")
    two.add_argument("--threads", type=positive, default=0, metavar="N", help="default: as many as the job takes")
    two.set_defaults(measure=run)
    told = """Exact posteriors of every world, of bare 8-digit addition first. A row is a row of a clique; its
        update carries it through one whole posterior, probabilities and support. Contexts are fresh sequences, each
        token hidden with probability t ~ U(0, 1); making them is not timed, nor is the first call. As many are
        inferred at once as take one thread about a third of a second: more share more work, so the number counts and
        is written. Every round times every world once with every number of threads. Medians over rounds."""
    three = commands.add_parser("oracle", parents=[common], help="exact posteriors of every world", description=told)
    three.add_argument("--threads", type=positive, nargs="+", default=[1, 2], metavar="N", help="default: 1 2")
    three.add_argument("--rounds", type=positive, default=5, metavar="N", help="default: 5")
    told = "also a million sequences of bare addition, a chunk at a time: seconds, memory, mean K_0 and entropy"
    three.add_argument("--million", action="store_true", help=told)
    three.set_defaults(measure=oracle)
    add_study(commands, common, study, profile, guard)
    return parser


if __name__ == "__main__":
    guarded(main)

"""What can be typed after `bench.py`: each word checked before anything is measured."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablate.compute.device import Recompute
from experiments.cli.places import require_place
from experiments.presets.model_sizes import MODELS

Measure = Callable[[argparse.Namespace], int]
MOST = 1_000_000  # rounds, threads, seconds: whatever is counted


def add_train(parser: argparse.ArgumentParser) -> None:
    """The words of `bench.py train`."""
    parser.add_argument(
        "model",
        nargs="?",
        type=model,
        default="2.5b",
        metavar="model=NAME",
        help=f"one of {', '.join(MODELS)}; default: model=2.5b",
    )
    parser.add_argument("--context", type=positive, default=0, metavar="N", help="tokens a sequence; default: 4096")
    parser.add_argument(
        "--batch",
        type=positive,
        default=0,
        metavar="N",
        help="sequences a micro-step; default: the largest that fits the GPU, on a CPU 1",
    )
    parser.add_argument(
        "--recompute",
        type=Recompute,
        choices=list(Recompute),
        default=None,
        help="default: as little as is planned to fit one sequence",
    )
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=None, help="default: on a GPU")
    parser.add_argument("--steps", type=positive, default=0, metavar="N", help="timed, after warmup; default: 20")
    parser.add_argument(
        "--memory", type=positive, default=0, metavar="GB", help="of 1e9 bytes; default: all of the GPU"
    )


def add_study(commands: Any, common: argparse.ArgumentParser, study: Measure, profile: Measure, guard: Measure) -> None:
    """The words of what is measured of whole studies."""
    told = """The paper's three arms on traces with 8 seeds each, probes and all: as a study packs and warms them, with
        an empty and with a warm compile cache, beside the same runs one by one in fresh processes. Then training steps
        of 1 to 16 seeds. --quick has 2 seeds, short runs, in which loading counts more, and no compiling."""
    four = commands.add_parser("study", parents=[common], help="a study beside its runs one by one", description=told)
    four.add_argument("--rounds", type=positive, default=1, metavar="N", help="of the whole study; default: 1")
    four.set_defaults(measure=study)
    five = commands.add_parser("profile", parents=[common], help="what a training step spends its time on")
    five.add_argument(
        "--operations", type=positive, default=5, metavar="N", help="of a trace; default: 5, of 13 tokens"
    )
    regimes = ("ar_to_bidllm", "bidllm", "ar_to_block")
    five.add_argument("--regimes", nargs="+", default=regimes[:2], metavar="NAME", help="default: first stages of two")
    five.set_defaults(measure=profile)
    told = """Compares the ratios of two files of `bench.py study --out FILE.json`. On the same processor a ratio below
        0.9 of what it was ends with exit code 1; elsewhere it is reported."""
    six = commands.add_parser("guard", help="ratios of `study` beside earlier ones", description=told)
    six.add_argument("now", type=Path, metavar="NOW.json")
    six.add_argument("before", type=Path, nargs="?", metavar="BEFORE.json", help="default: benchmarks/ of this machine")
    six.set_defaults(measure=guard)


def model(text: str) -> str:
    """The name in model=NAME."""
    name = text.removeprefix("model=")
    if name not in MODELS:
        raise argparse.ArgumentTypeError(
            f"wanted model=NAME, NAME one of {', '.join(MODELS)}; got {text!r}; type model=2.5b"
        )
    return name


def positive(text: str) -> int:
    """A number of whatever is counted."""
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 1 to {MOST}, got {text!r}")
    return int(text)


def place(text: str) -> Path:
    """A file that can be written: asked before anything is measured."""
    path = Path(text)
    try:
        require_place(path.parent, "--out")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"wanted a file, got the folder {text}")
    return path

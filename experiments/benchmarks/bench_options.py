"""What can be typed after `bench.py`: each word checked before anything is measured."""

from __future__ import annotations

import argparse
from pathlib import Path

from ablate.compute.device import Recompute
from experiments.cli.places import require_place
from experiments.presets.model_sizes import MODELS

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

"""Does everything that runs on a GPU do so on this one? `python experiments/benchmarks/gpu_check.py`

Cost: eight minutes at most, by the limits of its parts. Needs torch, lightning, numpy, scipy and pandas, nothing else.
Each part is a process of its own, the most important first; what is known so far is written after each. `--device cpu`
rehearses it.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../../.."))
    __import__("experiments")

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from ablate.compute.device import Device, resolve_device
from ablate.core.storage import write_bytes
from experiments.benchmarks.gpu_parts import PARTS
from experiments.cli.guard import guarded


def main(arguments: list[str] | None = None) -> int:
    """Carries out the parts; returns 1 where one did not hold."""
    parser = argparse.ArgumentParser(description="Does everything that runs on a GPU do so on this one?")
    parser.add_argument(
        "--device", type=Device, choices=list(Device), default=Device.auto, help="default: cuda if there"
    )
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"), help="default: gpu_check.json")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="some parts")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    device = resolve_device(options.device)
    if options.part:
        print(json.dumps(PARTS[options.part][0](device)))
        return 0
    known: dict[str, Any] = {"device": torch.cuda.get_device_name() if device is Device.cuda else "cpu", "parts": {}}
    for name in options.only:
        known["parts"][name] = found = _carried_out(name, device)
        write_bytes(options.out, json.dumps(known, indent=1).encode())
        print(f"{name}: {'ok' if found['ok'] else 'FAILED'}, {found['seconds']:.0f} s {found.get('problem', '')}")
    print(f"written: {options.out}")
    return 0 if all(found["ok"] for found in known["parts"].values()) else 1


def _carried_out(name: str, device: Device) -> dict[str, Any]:
    """A part in a process of its own."""
    command = [sys.executable, "-P", os.path.realpath(__file__), "--device", device.value, "--part", name]
    begun, limit = time.monotonic(), PARTS[name][1] * (1 if device is Device.cuda else 10)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        said = done.stdout.strip().splitlines() if done.returncode == 0 else []
        found = json.loads(said[-1]) if said else {"ok": False, "problem": (done.stderr.strip() or "no word")[-500:]}
    except subprocess.TimeoutExpired:
        found = {"ok": False, "problem": f"no end after {limit} s"}
    return found | {"seconds": time.monotonic() - begun}


if __name__ == "__main__":
    guarded(main)

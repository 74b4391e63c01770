"""How a command starts and ends: Hydra answers --cfg and tab completion; all else is checked and run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import yaml
from hydra.errors import HydraException

from ablate.core.storage import describe
from ablate.core.validation import UsageError
from experiments.cli.command import Command
from experiments.cli.compose import MULTIRUN, jobs
from experiments.cli.guard import guarded

HANDED_ON = ("--hydra-help", "--cfg", "-c", "--shell-completion", "-sc", "--info", "-i", "--version")


def main(command: Command, job: Callable[[Any], None]) -> NoReturn:
    """Runs `job` on everything that the command line asks for; exits as `guarded` does."""
    guarded(lambda: carry_out(command, job))


def carry_out(command: Command, job: Callable[[Any], None]) -> None:
    """The same without the guard. Raises UsageError for bad input, before the first job begins."""
    if {"--help", "-h"} & {*sys.argv[1:]}:  # Hydra would copy every config of the store for each of its groups
        print(command.help())
        return
    command.register()
    flags = [a for a in sys.argv[1:] if a.startswith("-")]
    if any(f.split("=")[0] in HANDED_ON for f in flags):
        _hand_to_hydra(command, flags)
        return
    for one in asked_for(command, sys.argv[1:]):
        job(one)


def asked_for(command: Command, words: list[str]) -> list[Any]:
    """The jobs that words ask for, all checked. Raises UsageError for the first that cannot be carried out."""
    try:
        return command.jobs(command.check(jobs(command, words)))
    except ValueError as error:
        raise UsageError(str(error)) from None


def _hand_to_hydra(command: Command, flags: list[str]) -> None:
    import hydra

    try:
        if any(f.split("=")[0] in ("--cfg", "-c") for f in flags):
            words = [a for a in sys.argv[1:] if not a.startswith("-") and a not in ("job", "hydra", "all")]
            asked = jobs(command, [*words, *(f for f in flags if f in MULTIRUN)])
            if "job" in sys.argv and len(asked) == 1:  # Hydra's own way knows no noise by name, and shows no kinds
                print(yaml.safe_dump(describe(asked[0]), sort_keys=False), end="")
                return
        os.environ["HYDRA_FULL_ERROR"] = "1"  # what it refuses is raised and not printed
        hydra.main(version_base="1.3", config_name=command.script)(lambda config: None)()
    except (HydraException, ValueError) as error:
        raise UsageError(f"{str(error).strip()}; type --help") from None

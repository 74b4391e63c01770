"""What a command is: the config that it is typed as, the groups that name parts of it, its help, its check."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from hydra import compose
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from experiments.presets.registry import DEFAULTS, GROUPS


@functools.cache
def composed(script: str, choices: tuple[str, ...]) -> DictConfig:
    """The config of these choices of groups, no key set: to be copied. Kept, as the arms of a study make few different
    choices, until a command registers anew."""
    return compose(script, overrides=list(choices))


@dataclass(frozen=True)
class Command:
    """A script: the config whose fields are its keys, and the groups that name parts of it."""

    script: str
    config: Callable[[], type]  # a function, so that --help and tab completion load no torch
    groups: tuple[str, ...]
    help: Callable[[], str]
    check: Callable[[list[Any]], list[Any]]  # makes every automatic choice; raises ValueError for what cannot be done
    jobs: Callable[[list[Any]], list[Any]] = list  # what is carried out one after the other: each config by itself

    def register(self) -> None:
        """Puts the configs into the store of Hydra: each is its own schema."""
        quiet = [{f"override hydra/{log}": "disabled"} for log in ("job_logging", "hydra_logging")]
        defaults = ["_self_", *({group: DEFAULTS[group]} for group in self.groups), *quiet]
        hydra = {"run": {"dir": "."}, "output_subdir": None, "help": {"app_name": self.script}}
        config, hints = self.config(), get_type_hints(self.config())
        extra: list[Any] = [
            ("defaults", list[Any], field(default_factory=lambda: defaults)),
            ("hydra", Any, field(default_factory=lambda: hydra)),
            # a group's thing takes the place of the config's own default, which may be of another kind
            *((group, hints[group], field(default=MISSING)) for group in self.groups),
        ]
        composed.cache_clear()
        store = ConfigStore.instance()
        store.store(name=self.script, node=dataclasses.make_dataclass("Schema", extra, bases=(config,)))
        for group in self.groups:
            for name, config in GROUPS[group].items():
                store.store(group=group, name=name, node=config)

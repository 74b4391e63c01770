"""Configs out of what was typed: Hydra composes the groups, keys are set one by one, and every refusal is one message.

Jobs are composed here and not by Hydra's entry point, so that every job of a sweep is checked before the first one
writes anything.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import itertools
import re
import shlex
from typing import Any

from hydra import initialize
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ablate.core.foreign_files import printable
from ablate.core.validation import UsageError
from ablate.noise.schedules import Noise, named
from experiments.cli.command import Command, composed
from experiments.cli.help_text import shown
from experiments.cli.words import quoted
from experiments.presets.model_sizes import PREFIX, is_place, model_at
from experiments.presets.registry import DEFAULTS, GROUPS

VALUED = re.compile(r"[\w.]+=")
BLANK = re.compile(r"=\s|\s$")
MULTIRUN = ("-m", "--multirun")


def jobs(command: Command, arguments: list[str]) -> list[Any]:
    """Every config asked for, composed. Raises UsageError or ValueError for the first that is illegal."""
    for flag in (a for a in arguments if a.startswith("-")):
        if flag not in MULTIRUN:
            raise UsageError(f"{flag}: no such option; wanted key=value, -m or --help; type --help")
    words = [a for a in arguments if not a.startswith("-")]
    overrides = [_parsed(word) for word in words]
    sweep = any(a in MULTIRUN for a in arguments)
    with initialize(version_base="1.3", config_path=None):
        choices = [_alternatives(override, sweep) for override in overrides]
        return [_compose(command, list(job)) for job in itertools.product(*choices)]


def _parsed(word: str) -> Override:
    try:
        if "/" in word and BLANK.search(word):
            raise HydraException("the grammar would drop blanks around a place")
        return OverridesParser.create().parse_override(word)
    except HydraException:
        told = printable(word)
        if not VALUED.match(word):
            raise UsageError(f"{told!r}: wanted key=value, such as seed=1 or regime=ar") from None
        raise UsageError(
            f"{told}: wanted a value as Hydra writes it, got another; where it is one text type {_as_typed(word)}"
        ) from None


def _as_typed(word: str) -> str:
    """The word as it is typed in a shell, its value as one text."""
    key, _, value = word.partition("=")
    typed = f"{key}={quoted(value)}"
    return printable(shlex.quote(typed) if set(typed) & set('"$`\\!') else f'"{typed}"')


def _alternatives(override: Override, sweep: bool) -> list[str]:
    if not override.is_sweep_override():
        return [override.input_line or ""]
    if not sweep:
        typed = override.input_line or ""
        one = "" if override.key_or_group in GROUPS else f", or {_as_typed(typed)} for one text with a comma"
        raise UsageError(f"{typed}: several values, but no sweep was asked for; type -m {typed}{one}")
    try:
        return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    except HydraException:
        raise UsageError(f"{override.input_line}: wanted a list of values or range(a,b); type -m seed=0,1") from None


def _compose(command: Command, words: list[str]) -> Any:
    overrides = [_parsed(word) for word in words]
    place, begins, overrides = _places(command, overrides)
    for override in overrides:
        if override.key_or_group in command.groups:
            _require_choice(override)
    choices = tuple(o.input_line or "" for o in overrides if o.key_or_group in command.groups)
    try:
        config = copy.deepcopy(composed(command.script, choices))
        if place:
            config.model = model_at(place)
        if begins and "tokenizer" in config.corpus:
            config.corpus.tokenizer = begins
        for override in overrides:
            if override.key_or_group not in command.groups:
                _set(config, override)
        OmegaConf.resolve(copy.deepcopy(config))  # checks what ${...} stands for against the type of its field
        made = OmegaConf.to_object(config)  # of the config as it was: what is escaped, \${, is read once
    except (HydraException, OmegaConfBaseException) as error:
        found = [o.input_line or "" for o in overrides if "${" in (o.input_line or "")]  # no error names the key
        raise UsageError(": ".join([*found, str(error).splitlines()[0]]) + "; type --help") from None
    config_type = command.config()
    return config_type(**{f.name: getattr(made, f.name) for f in dataclasses.fields(config_type)})


def _places(command: Command, overrides: list[Override]) -> tuple[str, str, list[Override]]:
    """Where the model's shape is read, if anywhere; the folder of the checkpoint that a run begins at, if any, which
    gives shape and tokenizer where none is typed; the overrides that are left."""
    if "model" not in command.groups:
        return "", "", overrides
    typed = {override.key_or_group: override for override in overrides}
    model, init = (typed[name].value() if name in typed else None for name in ("model", "init"))
    if is_place(model):
        overrides = [o for o in overrides if o.key_or_group != "model"]
    begins = init if isinstance(init, str) and init.startswith(PREFIX) else ""
    place = model if is_place(model) else begins if model is None else ""
    return str(place), begins.removeprefix(PREFIX), overrides


def _require_choice(override: Override) -> None:
    """A group takes one of its names."""
    group, name = override.key_or_group, override.value()
    if override.is_delete() or override.is_add() or override.package:
        raise UsageError(f"{override.input_line}: a group takes one of its names; type {group}={DEFAULTS[group]}")
    if not isinstance(name, str) or name not in GROUPS[group]:
        near = (difflib.get_close_matches(str(name), GROUPS[group], 1) or [DEFAULTS[group]])[0]
        raise UsageError(
            f"{group}={name}: wanted one of {', '.join(GROUPS[group])}; got {str(name)!r}; type {group}={near}"
        )


def _set(config: DictConfig, override: Override) -> None:
    """Sets a key, which must exist and take the value: its type is that of the config's field. Noise is set by name."""
    if override.is_delete() or override.is_add():
        raise UsageError(
            f"{override.input_line}: keys can be set, not added or removed; type {override.key_or_group}=VALUE"
        )
    path = override.key_or_group.split(".")
    node: Any = config
    last, old = node, node
    for depth, part in enumerate(path):
        known = _keys(node)
        if part not in known:
            where, wanted = ".".join(path[:depth]) or "the command", ", ".join(known) or "nothing"
            near = difflib.get_close_matches(part, known, 1)
            typed = f"{'.'.join([*path[:depth], near[0]])}=VALUE" if near else "--help"
            raise UsageError(
                f"{override.key_or_group}: {where} has no {part!r}; wanted one of {wanted}; "
                f"got {override.input_line!r}; type {typed}"
            )
        last, old = node, node[_index(node, part)]
        node = old
    value, noise = override.value(), isinstance(old, DictConfig) and issubclass(OmegaConf.get_type(old) or dict, Noise)
    if noise and isinstance(value, str):
        value = named(value)
    try:
        last[_index(last, path[-1])] = value
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        key = override.key_or_group
        example = "linear" if noise else shown(old)
        raise UsageError(f"{key}: {reason}; got {override.value()!r}; type {key}={example}") from None


def _index(node: Any, part: str) -> Any:
    return int(part) if isinstance(node, ListConfig) else part


def _keys(node: Any) -> list[str]:
    if isinstance(node, ListConfig):
        return [str(i) for i in range(len(node))]
    return [str(key) for key in node if key not in ("hydra", "defaults")] if isinstance(node, DictConfig) else []

"""Checks of values where a config is made. A message says where, what was wanted, what came and what to type."""

from __future__ import annotations

import numbers
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Rules = Iterable[tuple[bool, str]]


class UsageError(ValueError):
    """What was asked cannot be done; the message says where, what was wanted, what came and what to type."""


def refuse(rules: Rules) -> None:
    """Raises ValueError with the message of the first rule (holds, message) that does not hold.

    A generator's later messages are made only once the earlier rules hold.
    """
    for holds, message in rules:
        if not holds:
            raise ValueError(message)


def require(key: str, value: Any, holds: bool, wanted: str, example: Any, command: str = "") -> None:
    """Raises ValueError unless `holds`: "key: wanted ..., got value; try key=example".

    command: the key to type, where it is not `key`.
    """
    if not holds:
        raise ValueError(f"{key}: wanted {wanted}, got {value!r}; try {command or key}={example}")


def require_range(
    key: str, value: Any, least: float, most: float, *, of: str = "", example: Any = None, whole: bool = True
) -> None:
    """Raises ValueError unless `value` is a number (a whole one if `whole`, never a bool) in least..most.

    of: whose value it is, for the message. example: what to type; the nearest number in range where it is None.
    """
    kind = numbers.Integral if whole else numbers.Real
    number = isinstance(value, kind) and not isinstance(value, bool)
    near: Any = min(max(value, least), most) if number else least
    holds = number and near == value  # never so for nan
    require(key, value, holds, f"{least}..{most}{of}", near if example is None else example)


def require_ranges(fields: Any, ranges: Mapping[str, tuple[float, float]], prefix: str = "", **options: Any) -> None:
    """`require_range` of several fields of a config; `prefix` stands before their names in the message."""
    for name, (least, most) in ranges.items():
        require_range(prefix + name, getattr(fields, name), least, most, **options)


def require_name(key: str, name: str) -> None:
    """Raises ValueError for a name that cannot be a folder's."""
    holds = bool(re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", name) and name.strip("."))
    require(key, name, holds, "100 letters, digits and _.- at most (it names a folder)", "mine")


def path_of(key: str, typed: str) -> Path:
    """The path that was typed, ~ standing for a home folder. Raises UsageError where it cannot be one."""
    try:
        path = Path(typed).expanduser()
    except RuntimeError:
        raise UsageError(f"{key}={typed}: wanted a path, got the home folder of nobody; type {key}=PATH") from None
    if "\0" in typed:
        raise UsageError(f"{key}={typed!r}: wanted a path, got a character that none has; type {key}=PATH")
    return path

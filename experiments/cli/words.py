"""Words of commands: places and `name=VALUE` of those that know nothing of Hydra, and values as Hydra quotes them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ablate.core.validation import UsageError


def places_and_values(
    words: Sequence[str], places: str, names: Sequence[str], as_typed: Collection[str] = ()
) -> tuple[list[str], dict[str, Any]]:
    """The places, and the values by name: YAML, but for those that are taken as typed. `places` says what these are.
    Raises UsageError for a word that is neither."""
    import yaml

    found: list[str] = []
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name in names:
            try:
                values[name] = value if name in as_typed else yaml.safe_load(value)
            except yaml.YAMLError:
                raise UsageError(f"{word}: wanted {name}=VALUE or {name}=[VALUE,VALUE]; type --help") from None
        elif word.startswith("-") or (equals and not Path(word).exists()):
            raise UsageError(f"{word}: wanted {places} and {', '.join(names)}; type --help")
        else:
            found.append(word)
    return found, values


def quoted(word: str) -> str:
    """A word as Hydra's grammar quotes it: backslashes count only before a quote."""
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), word) + "'"

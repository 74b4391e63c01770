"""What every --help shares: the groups and what they hold, the plain keys, values as they are typed."""

from __future__ import annotations

import dataclasses
from typing import Any

from experiments.presets.registry import DEFAULTS, GROUPS


def groups(*names: str) -> list[str]:
    lines = []
    for group in names:
        lines.append(f"{group} (default {DEFAULTS[group]})")
        lines += [f"  {name:<18} {SUMMARIES[group](config)}" for name, config in GROUPS[group].items()]
        lines.append("")
    return lines


def keys(config: type) -> str:
    defaults = {f.name: f.default for f in dataclasses.fields(config) if f.default is not dataclasses.MISSING}
    return "keys: " + "  ".join(f"{name}={shown(value)}" for name, value in defaults.items())


def _stages(regime: Any) -> str:
    stages = (f"{s.objective.label} {s.share:.0%}" for s in regime.stages)
    return " -> ".join(stages)


def _first_line(config: Any) -> str:
    return (type(config).__doc__ or "").splitlines()[0]


def _fields(config: Any) -> str:
    return ", ".join(f"{f.name} {shown(getattr(config, f.name))}" for f in dataclasses.fields(config))


def _shape(shape: Any) -> str:
    """What differs from the defaults, and how many parameters that makes."""
    said = {f.name: getattr(shape, f.name) for f in dataclasses.fields(shape) if getattr(shape, f.name) != f.default}
    fields = ", ".join(f"{name} {shown(value)}" for name, value in said.items() if name != "rope_scaling")
    count = shape.parameters(shape.vocabulary)
    more = "" if shape.vocabulary else f" and {shape.parameters(1) - count} a token of the corpus"
    return f"{fields}: {count / 1e6:,.1f}M parameters{more}"


SUMMARIES = {"regime": _stages, "corpus": _first_line, "model": _shape, "budget": _fields}


def shown(value: Any) -> str:
    """A value as the command line would take it."""
    return str(getattr(value, "value", value)).replace(" ", "")

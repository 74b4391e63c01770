"""What every --help shares: the groups and what they hold, the plain keys, values as they are typed."""

from __future__ import annotations

import dataclasses
from typing import Any

from experiments.presets.registry import DEFAULTS, GROUPS


def groups(*names: str) -> list[str]:
    """A line for each thing that a group holds."""
    lines = []
    for group in names:
        width = max(18, *map(len, GROUPS[group]))
        lines.append(f"{group} (default {DEFAULTS[group]})")
        lines += [f"  {name:<{width}} {SUMMARIES[group](config)}" for name, config in GROUPS[group].items()]
        lines.append("")
    return lines


def keys(config: type) -> str:
    """The plain keys of a config, with their defaults."""
    defaults = {f.name: f.default for f in dataclasses.fields(config) if f.default is not dataclasses.MISSING}
    return "keys: " + "  ".join(f"{name}={shown(value)}" for name, value in defaults.items())


def _stages(regime: Any) -> str:
    return " -> ".join(f"{_objective(s.objective)} {s.share:.0%}" for s in regime.stages)


def _base(stage: Any) -> str:
    """What it is trained by, and until when."""
    parts = ", ".join(_objective(objective) for objective in stage.objective.parts)
    in_turn = "in turn " if len(stage.objective.parts) > 1 else ""
    until = f", until each reading has {stage.until:g} excess bits or fewer" if stage.until else ""
    return f"{in_turn}{parts}{until}"


def _objective(objective: Any) -> str:
    """Its label, and as keys what else of it differs from its kind's defaults: two arms never show the same line."""
    plain, label = type(objective)(), objective.label
    told = label[label.find("(") :].strip("()").split(", ")
    fields = {f.name: getattr(objective, f.name) for f in dataclasses.fields(objective)}
    special = [
        f"{name}={str(value).lower() if isinstance(value, bool) else shown(value)}"
        for name, value in fields.items()
        if value != getattr(plain, name) and shown(value) not in told
    ]
    return f"{label.removesuffix(')')}, {', '.join(special)})" if special else label


def _first_line(config: Any) -> str:
    return (type(config).__doc__ or "").splitlines()[0]


def _budget(budget: Any) -> str:
    """That in which budgets differ."""
    names = [f.name for f in dataclasses.fields(budget)]
    differing = [n for n in names if len({shown(getattr(other, n)) for other in GROUPS["budget"].values()}) > 1]
    return ", ".join(f"{name} {shown(getattr(budget, name))}" for name in differing)


def _shape(shape: Any) -> str:
    """What differs from the defaults, and how many parameters that makes."""
    said = {f.name: getattr(shape, f.name) for f in dataclasses.fields(shape) if getattr(shape, f.name) != f.default}
    fields = ", ".join(f"{name} {shown(value)}" for name, value in said.items() if name != "rope_scaling")
    count = shape.parameters(shape.vocabulary)
    more = "" if shape.vocabulary else f" and {shape.parameters(1) - count} a token of the corpus"
    return f"{fields}: {count / 1e6:,.1f}M parameters{more}"


SUMMARIES = {"regime": _stages, "corpus": _first_line, "model": _shape, "budget": _budget, "base": _base}


def shown(value: Any) -> str:
    """A value as the command line would take it."""
    return str(getattr(value, "value", value)).replace(" ", "")

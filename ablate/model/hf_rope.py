"""Rotary settings of a config.json of transformers, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ablate.model.hf_settings import LARGEST, TYPE, number, require_fixed, shown, whole
from ablate.model.rope import RopeScaling, Stretch

Config = Mapping[str, Any]
FIXED_ROPE = {"partial_rotary_factor": 1.0, "mscale": None, "mscale_all_dim": None, "truncate": True}
BESIDE = ("rope_theta", "original_max_position_embeddings")  # settings that may stand at the top of config.json
STRETCHES = {"default": Stretch.none, "linear": Stretch.linear, "llama3": Stretch.llama3, "yarn": Stretch.yarn}


def rope_of(config: Config) -> tuple[float, RopeScaling]:
    """Base and stretch of the rotary frequencies. Raises ValueError, naming the setting, for what is not computed."""
    given = _settings(config)
    theta = number(given, "rope_theta", 10_000.0)
    if theta <= 1:
        raise ValueError(f"rope_theta: wanted more than 1, got {theta:g}; {TYPE}")
    kind = str(given.get("rope_type") or "default")
    if kind not in STRETCHES:
        raise ValueError(f"rope_type: wanted one of {', '.join(STRETCHES)}, got {shown(kind)}; {TYPE}")
    require_fixed(given, FIXED_ROPE, "rope_parameters.")
    stretch = STRETCHES[kind]
    if stretch is Stretch.none:
        return theta, RopeScaling()
    factor = number(given, "factor")
    if stretch is Stretch.linear:
        return theta, RopeScaling(stretch, factor)
    context = whole({BESIDE[1]: config.get("max_position_embeddings"), **given}, BESIDE[1])
    if stretch is Stretch.llama3:
        low, high = number(given, "low_freq_factor"), number(given, "high_freq_factor")
        return theta, RopeScaling(stretch, factor, context, low, high)
    low, high = number(given, "beta_slow", 1.0), number(given, "beta_fast", 32.0)
    if low < 1 / LARGEST:
        raise ValueError(f"beta_slow: wanted a number above 0, got {low:g}; {TYPE}")
    return theta, RopeScaling(stretch, factor, context, low, high, number(given, "attention_factor", 0.0))


def _settings(config: Config) -> dict[str, Any]:
    """Rotary settings, which may stand in `rope_scaling` or, where that is silent, in `rope_parameters`, some of them
    also beside these. Raises ValueError where two places differ: transformers reads one of them and says nothing."""
    sets: dict[str, dict[str, Any]] = {}
    for name in ("rope_scaling", "rope_parameters"):
        given = config.get(name) or {}
        if not isinstance(given, dict) or any(isinstance(value, dict) for value in given.values()):
            raise ValueError(f"{name}: wanted one set for all layers, got {shown(given)}; {TYPE}")
        sets[name] = {key: value for key, value in given.items() if value is not None}
        kind = sets[name].pop("type", None)
        if kind is not None:
            _require_same(f"{name}.type", name, "rope_type", kind, sets[name].setdefault("rope_type", kind))
    used = "rope_scaling" if sets["rope_scaling"] else "rope_parameters"
    beside = {key: config[key] for key in BESIDE if config.get(key) is not None}
    read = beside | sets[used]
    for place, given in (("config.json", beside), ("rope_parameters", sets["rope_parameters"])):
        for key, value in given.items():
            _require_same(place, used, key, value, read.get(key))
    return read


def _require_same(place: str, used: str, key: str, value: Any, read: Any) -> None:
    if value != read:
        came = f"{shown(value)} in {place} and {'nothing' if read is None else shown(read)} in {used}"
        raise ValueError(
            f"{key}: wanted the same in both places, got {came}; change config.json to what was trained with"
        )


def rope_scaling_of(scaling: RopeScaling) -> dict[str, Any] | None:
    """`rope_scaling` of a config.json."""
    if scaling.kind is Stretch.none:
        return None
    said = {"rope_type": str(scaling.kind), "factor": scaling.factor}
    if scaling.kind is Stretch.linear:
        return said
    said["original_max_position_embeddings"] = scaling.context
    if scaling.kind is Stretch.llama3:
        return said | {"low_freq_factor": scaling.low, "high_freq_factor": scaling.high}
    said |= {"beta_slow": scaling.low, "beta_fast": scaling.high}
    return said | ({"attention_factor": scaling.temperature} if scaling.temperature else {})

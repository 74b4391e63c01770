"""Predictions as they are written down: a YAML file, {id: fields}."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ablate.studies.outcomes import Outcome
from ablate.studies.predictions import Prediction


def read_predictions(path: Path) -> list[Prediction]:
    """Predictions of a YAML file, {id: fields}. Raises ValueError saying where, what was wanted and what came."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: wanted a YAML file of predictions, got {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: wanted predictions by name, H1: {{...}}, got {type(content).__name__}")
    return [_prediction(path, str(name), said) for name, said in content.items()]


def _prediction(path: Path, name: str, said: object) -> Prediction:
    wanted = {f.name for f in dataclasses.fields(Prediction)} - {"id"}
    fields = dict(said) if isinstance(said, dict) else {}
    free = {"outcome", "primary", "trend", *(["other"] if "trend" in fields else [])}
    unknown = sorted(map(str, fields.keys() - wanted)) or sorted(wanted - fields.keys() - free)
    if not isinstance(said, dict) or unknown:
        raise ValueError(
            f"{path}, {name}: wanted the fields {', '.join(sorted(wanted))}, got wrong or missing "
            f"{', '.join(unknown) or said!r}; see the other predictions"
        )
    try:
        return Prediction(**{"other": "", **fields, "id": name, "outcome": Outcome(**fields.get("outcome", {}))})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}, {name}: {error}") from None

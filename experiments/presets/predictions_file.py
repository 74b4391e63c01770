"""Where the predictions lie that were written before any data."""

from pathlib import Path

PREDICTIONS = Path(__file__).parent / "predictions.yaml"

"""Models by name. Light: a benchmark reads it where little else is installed."""

from __future__ import annotations

from ablate.shape import Shape

MODELS = {
    "tiny": Shape(64, 2, 4, 4),
    "small": Shape(128, 4, 4, 4),
    "base": Shape(512, 8, 8, 8),
    "2.5b": Shape(2560, 24, 20, 4, hidden=7168, vocabulary=155_136),
}

"""Budgets by name: how much is trained, and how often and on how much the model is evaluated."""

from __future__ import annotations

from ablate.training.budget import Budget

BUDGETS = {
    "default": Budget(),
    "long": Budget(base_tokens=12_000_000, tokens=16_000_000, evaluations=32),
    "study": Budget(base_tokens=250_000, tokens=500_000, evaluations=12, questions=32, contexts=64),
    "smoke": Budget(base_tokens=60_000, tokens=120_000, evaluations=2, questions=8, contexts=16, every=5),
}

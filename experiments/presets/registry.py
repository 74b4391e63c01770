"""The only place where a name of the command line meets a thing: the groups, what each holds, and its default."""

from __future__ import annotations

from typing import Any

from experiments.presets.base_stages import BASES
from experiments.presets.budgets import BUDGETS
from experiments.presets.corpus_presets import CORPORA
from experiments.presets.followup_studies import STUDIES
from experiments.presets.model_sizes import MODELS
from experiments.presets.regimes import REGIMES
from experiments.presets.search_spaces import SWEEPS

GROUPS: dict[str, dict[str, Any]] = {
    "regime": REGIMES,
    "corpus": CORPORA,
    "model": MODELS,
    "budget": BUDGETS,
    "base": BASES,
    "study": STUDIES,
    "sweep": SWEEPS,
}
DEFAULTS = {
    "regime": "ar_to_bidllm",
    "corpus": "trace",
    "model": "tiny",
    "budget": "default",
    "base": "ar",
    "study": "regimes",
    "sweep": "block_and_warmup",
}

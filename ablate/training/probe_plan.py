"""What a run asks of a model: its probes."""

from __future__ import annotations

from ablate.core.corpus import Domain, Split
from ablate.evaluation.probe import Probe
from ablate.training.run_config import Run


def probes(run: Run) -> list[Probe]:
    """What a run asks: the new domain's test and training splits, and the general domain (forgetting)."""
    budget = run.budget
    sizes = tuple(budget.block_sizes)
    asked = (
        (Domain.new, Split.test, sizes),
        (Domain.new, Split.train, sizes[:1]),
        (Domain.general, Split.test, sizes[:1]),
    )
    return [
        Probe(
            domain,
            split,
            blocks,
            budget.questions,
            budget.contexts,
            budget.decoded,
            decoding=tuple(budget.decoding) if (domain, split) == (Domain.new, Split.test) else (),
            grids=tuple(run.grids),
            by_question=(domain, split) == (Domain.new, Split.test),
        )
        for domain, split, blocks in asked
    ]

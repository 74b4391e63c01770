"""A study: a question about several arms that differ in one declared factor, paired by seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from ablate.core.validation import require_name


class Quantity(StrEnum):
    """What arms spend on the new domain: training steps; tokens read, each once; tokens scored; operations."""

    steps = "steps"
    tokens = "tokens"
    supervised = "supervised"
    flops = "flops"


@dataclass
class Setting:
    """A name, and the words of the run's command line that it stands for: an arm or a condition."""

    name: str
    words: list[str] = field(default_factory=list)


@dataclass
class Study:
    """A question, the arms that are to answer it and what must not differ between them.

    seeds: the unit of all statistics; arms are paired by it. predictions: names of those that the study decides.
    matched: what every arm spends alike. factor: keys of a run in which arms may differ; all others must be equal.
    conditions: settings within which arms are compared, never between. cells: what one arm has in one condition alone,
    named condition/arm, such as a learning rate. words: what all runs have in common, and `last` what overrides all
    else in all of them. fork: do arms of a condition whose first stages agree train it once, each going on from there?
    cost: in words, as measured.
    Raises ValueError for arms, conditions or seeds that are missing or come twice.
    """

    name: str
    question: str
    arms: list[Setting]
    seeds: list[int]
    predictions: list[str] = field(default_factory=list)
    matched: Quantity = Quantity.steps
    factor: list[str] = field(default_factory=lambda: ["regime"])
    conditions: list[Setting] = field(default_factory=lambda: [Setting("all")])
    cells: list[Setting] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)
    fork: bool = False
    cost: str = ""

    def __post_init__(self) -> None:
        self.matched = Quantity(self.matched)
        require_name("study.name", self.name)
        for what, settings in (("arms", self.arms), ("conditions", self.conditions)):
            for i, setting in enumerate(settings):
                require_name(f"study.{what}.{i}.name", setting.name)
        for what, names, least in (
            ("arms", [arm.name for arm in self.arms], 2),
            ("conditions", [condition.name for condition in self.conditions], 1),
            ("seeds", self.seeds, 1),
        ):
            if len(names) < least or len(set(names)) < len(names):
                raise ValueError(
                    f"study {self.name}: wanted {least} {what} or more, each once, got {names}; "
                    f"name others in study.{what}"
                )

    def words_of(self, condition: Setting, arm: Setting, seed: int) -> list[str]:
        """The command line of one run."""
        own = [word for cell in self.cells if cell.name == f"{condition.name}/{arm.name}" for word in cell.words]
        return [*self.words, *condition.words, *arm.words, *own, *self.last, f"seed={seed}"]

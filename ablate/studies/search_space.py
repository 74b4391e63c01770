"""What a sweep varies: parameters, the values each may take, and the words of a run's command line that set them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ablate.core.validation import require_name
from ablate.studies.design import Setting

if TYPE_CHECKING:
    from optuna import Trial

Point = dict[str, Any]  # a value for each parameter, by name
TYPES = {bool: "bool", int: "int64", float: "float64", str: "str"}


@dataclass
class Parameter(ABC):
    """One thing that differs between trials."""

    name: str

    @property
    @abstractmethod
    def grid(self) -> list[Any]:
        """Every value it may take; empty for a range."""

    @property
    @abstractmethod
    def limits(self) -> list[Any]:
        """Values which, if a run can have them, it can have all."""

    @property
    @abstractmethod
    def dtype(self) -> str:
        """Of its column in a table."""

    @abstractmethod
    def suggest(self, trial: Trial) -> Any:
        """The value that the sampler picks for a trial."""

    @abstractmethod
    def words_of(self, value: Any) -> list[str]:
        """Words of the run's command line."""

    @abstractmethod
    def only(self, values: list[Any]) -> Parameter:
        """The same with these of its `limits` alone. Raises ValueError where it cannot do without the others."""


@dataclass
class Choices(Parameter):
    """Values of one kind, each of which fills the braces of `words`. Raises ValueError for none, or several kinds."""

    values: list[Any]
    words: list[str]

    def __post_init__(self) -> None:
        if {type(value) for value in self.values} == {int, float}:
            self.values = [float(value) for value in self.values]
        kinds = {type(value) for value in self.values}
        if len(kinds) != 1 or not kinds <= set(TYPES) or len(set(self.values)) < len(self.values):
            raise ValueError(
                f"values of the parameter {self.name}: wanted numbers, words or true,false, all of one "
                f"kind and each once, got {self.values}; try sweep.parameters.0.values=[1,2]"
            )

    @property
    def grid(self) -> list[Any]:
        return self.values

    @property
    def limits(self) -> list[Any]:
        return self.values

    @property
    def dtype(self) -> str:
        return TYPES[type(self.values[0])]

    def suggest(self, trial: Trial) -> Any:
        return trial.suggest_categorical(self.name, self.values)

    def words_of(self, value: Any) -> list[str]:
        return [word.format(spelt(value)) for word in self.words]

    def only(self, values: list[Any]) -> Choices:
        return replace(self, values=values)


@dataclass
class Settings(Parameter):
    """Values known by name, for what takes several words."""

    settings: list[Setting]

    @property
    def grid(self) -> list[Any]:
        return [setting.name for setting in self.settings]

    @property
    def limits(self) -> list[Any]:
        return self.grid

    @property
    def dtype(self) -> str:
        return "str"

    def suggest(self, trial: Trial) -> str:
        return str(trial.suggest_categorical(self.name, self.grid))

    def words_of(self, value: str) -> list[str]:
        return next(setting.words for setting in self.settings if setting.name == value)

    def only(self, values: list[str]) -> Settings:
        return replace(self, settings=[setting for setting in self.settings if setting.name in values])


@dataclass
class Range(Parameter):
    """Numbers from `low` to `high`, evenly or by their logarithm. Raises ValueError for an empty range."""

    low: float
    high: float
    words: list[str]
    log: bool = False

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf or (self.log and self.low <= 0):
            raise ValueError(
                f"range of the parameter {self.name}: wanted low < high, and 0 < low if log, got "
                f"low={self.low}, high={self.high}; try sweep.parameters.0.low=0.001"
            )

    @property
    def grid(self) -> list[Any]:
        return []

    @property
    def limits(self) -> list[Any]:
        return [self.low, self.high]

    @property
    def dtype(self) -> str:
        return "float64"

    def suggest(self, trial: Trial) -> float:
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def words_of(self, value: float) -> list[str]:
        return [word.format(spelt(value)) for word in self.words]

    def only(self, values: list[float]) -> Range:
        if values != self.limits:
            raise ValueError(f"{self.name}: wanted a range of which both ends are possible")
        return self


@dataclass
class Space:
    """A question and the parameters whose values answer it. command: words that run it. cost: in words, as
    measured.

    Raises ValueError for parameters that are missing or come twice.
    """

    name: str
    question: str
    parameters: list[Parameter] = field(default_factory=list)
    command: str = ""
    cost: str = ""

    def __post_init__(self) -> None:
        require_name("sweep.name", self.name)
        names = [parameter.name for parameter in self.parameters]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"sweep.parameters: wanted one or more, each once, got {names}; name others")

    def suggest(self, trial: Trial) -> Point:
        return {parameter.name: parameter.suggest(trial) for parameter in self.parameters}

    def words_of(self, point: Point) -> list[str]:
        """The words that make a run one of this point."""
        return [word for p in self.parameters for word in p.words_of(point[p.name])]


def spelt(value: Any) -> str:
    """A value as the command line takes it, with all its digits."""
    return str(value).lower() if isinstance(value, bool) else str(value)

"""What is asked of evaluate.py where its task is a code benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ablate.code_tasks.sandbox import Limits
from ablate.code_tasks.suites import SUITES, Suite
from ablate.core.validation import UsageError, path_of, require_ranges
from ablate.decoding.protocol import Order
from experiments.cli.places import require_place
from experiments.cli.words import places_and_values
from experiments.finished_runs.generation import Generation

CANONICAL, EMPTY = "canonical", "empty"
NUMBERS = {"problems": (0, 10**5), "samples_per_problem": (1, 10**4), "seconds": (1, 3600), "workers": (1, 1024)}
OF_DECODING = [f.name for f in fields(Generation) if f.name not in ("run", "prompt", "questions", "live", "trace")]
NEW_TOKENS = 512
WALL = 6  # seconds of wall time for one of CPU time: machines are busy, and programs sleep


@dataclass
class CodeEvaluation:
    """Whose programs are judged on which benchmark. Raises ValueError for values out of range.

    decoding: of the run or the folder; it has none where the samples are those of a file. problems: the first so many,
    0 for all. ks: of pass@k, as far as there are so many samples. seconds: CPU time of a program.
    """

    task: str
    decoding: Generation
    samples: str = ""
    file: str = ""
    problems: int = 0
    samples_per_problem: int = 1
    ks: list[int] = field(default_factory=lambda: [1, 10, 100])
    seconds: int = 5
    workers: int = 1
    unsafe: bool = False
    out: str = ""

    def __post_init__(self) -> None:
        require_ranges(self, NUMBERS)
        if not isinstance(self.unsafe, bool):
            raise UsageError(f"unsafe: wanted true or false, got {self.unsafe!r}; type unsafe=true")
        whole = isinstance(self.ks, list) and all(type(k) is int and k >= 1 for k in self.ks)
        if not whole or 1 not in self.ks:
            raise UsageError(f"ks: wanted whole numbers, 1 among them, got {self.ks!r}; type ks=[1,10]")
        hot = self.decoding.temperature > 0 or self.decoding.order == Order.random
        if self.samples_per_problem > 1 and not hot and not self.samples:
            raise UsageError(
                f"samples_per_problem={self.samples_per_problem}: wanted samples that differ, got temperature=0; type "
                "temperature=0.8"
            )

    @property
    def suite(self) -> Suite:
        return SUITES[self.task]

    @property
    def limits(self) -> Limits:
        return Limits(seconds=self.seconds, wall_seconds=WALL * self.seconds)

    @property
    def source(self) -> Path | None:
        """The file that the problems are read from; None for what comes with a package."""
        return path_of("file", self.file) if self.file else None

    @property
    def folder(self) -> Path | None:
        """Where samples, verdicts and rows are kept; None where they are not."""
        if self.out:
            return path_of("out", self.out)
        return path_of("RUN", self.decoding.run) if self.decoding.run else None


def read(words: list[str]) -> CodeEvaluation:
    """What was typed. Raises UsageError for what cannot be evaluated."""
    task = [word for word in words if word.startswith("task=")][-1].removeprefix("task=")
    if task not in SUITES:
        raise UsageError(f"task={task}: wanted bits_per_byte of hf:FOLDER, or {', '.join(SUITES)}")
    own = [f.name for f in fields(CodeEvaluation) if f.name != "decoding"]
    typed = ("task", "samples", "file", "out", "pace")
    places, values = places_and_values(words, "RUN or hf:FOLDER", [*own, *OF_DECODING], as_typed=typed)
    samples = values.get("samples", "")
    if len(places) + bool(samples) != 1:
        raise UsageError(
            f"evaluate: wanted one RUN, one hf:FOLDER or samples=FILE, got {', '.join(places) or 'none'}"
            f"{f' and samples={samples}' if samples else ''}; type one of them"
        )
    idle = [name for name in (*OF_DECODING, "samples_per_problem") if name in values and name != "seed"]
    if samples and idle:
        raise UsageError(f"{idle[0]}: wanted a model that decodes, got samples={samples}; leave one of them out")
    if places and places[0].startswith("hf:") and not values.get("out"):
        raise UsageError(f"{places[0]}: wanted a place for samples and verdicts, got none; type out=FOLDER")
    if values.get("out"):
        require_place(path_of("out", values["out"]), "out")
    of_decoding: dict[str, Any] = {"new_tokens": NEW_TOKENS} | {
        name: values.pop(name) for name in OF_DECODING if name in values
    }
    return CodeEvaluation(decoding=Generation(places[0] if places else "", **of_decoding), **values)

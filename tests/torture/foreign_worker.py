"""A process that opens foreign folders, one after the other, as a run would: it says what came of each, and its memory.

A folder's path comes in on a line, an answer goes out on a line: the faults, each in a line, and the peak of memory of
this folder, bytes. A fault is what no stranger's file may do: an exception that is not ours, or of several lines, a
word on stderr that is not ours.
"""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch

from ablate.core.foreign_files import IDS
from ablate.model.hf_config import shape_of
from ablate.model.hf_weights import content_hash, read_weights, require_fit
from ablate.text.corpora import Text
from ablate.text.tokenizer import checkpoint_tokenizer
from experiments.hf_export.tokenizer_files import tokenizer_files
from tests.text.prose import prose

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Outcome:
    """What came of one folder."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.successes: list[str] = []
        self.refusals: list[str] = []

    def of(self, name: str, work: Callable[[], Any]) -> Any:
        """What the work returns, or None where it was refused as it should, or failed."""
        try:
            result = work()
        except BaseException as error:
            plain = type(error) is ValueError or (isinstance(error, OSError) and error.errno is not None)
            if plain and "\n" not in str(error) and len(str(error)) < 2000:
                self.refusals.append(f"{name}: {error}")
            else:
                where = traceback.extract_tb(error.__traceback__)[-1]
                said = f"{type(error).__name__}: {str(error)[:300]!r}"
                self.faults.append(f"{name}: {said} at {where.filename}:{where.lineno}")
            return None
        self.successes.append(name)
        return result


def checkpoint(folder: Path, outcome: Outcome) -> None:
    """Everything that a run, its corpus and its export open of a checkpoint."""
    init = f"hf:{folder}"
    shape = outcome.of("shape", lambda: shape_of(folder))
    outcome.of("hash", lambda: content_hash(init, pickle=True))
    made = outcome.of("tokenizer", lambda: checkpoint_tokenizer(str(folder)))
    if made is not None:
        vocabulary = outcome.of("vocabulary", lambda: made.vocabulary)
        outcome.of("encode", lambda: made.encode([prose(1), "", "</s> <mask>\r\n\t ü 数", "a" * 300]))
        outcome.of("tokenizer files", lambda: tokenizer_files(made, 64))
        assert vocabulary is None or len(vocabulary) <= IDS + 2
        if vocabulary is not None and shape is not None:
            outcome.of("fit", lambda: require_fit(init, shape, vocabulary))
    if shape is not None and shape.parameters(shape.vocabulary) < 10**7:  # else there is no such network to fill
        weights = outcome.of("weights", lambda: read_weights(folder, shape, shape.vocabulary + 1, pickle=True))
        if weights is not None:
            outcome.of("tensors", lambda: [weights[name] for name in weights])
    elif shape is not None:
        outcome.of("weights", lambda: read_weights(folder, shape, shape.vocabulary + 1, pickle=True))


def corpus(folder: Path, outcome: Outcome) -> None:
    """Text(folder=...) built, and read."""
    place = folder.parent
    said = io.StringIO()
    with redirect_stderr(said):
        text = Text(
            folder=str(folder),
            general=str(place / "general"),
            cache=str(place / "cache"),
            tokens=300,
            length=8,
            answer=2,
            follow=(place / "follow").exists(),
        )
        if outcome.of("build", lambda: text.check() or True):
            outcome.of("batch", lambda: text.batch(range(4), 0))
            outcome.of("print", text.fingerprint)
            outcome.of("queries", lambda: text.queries(2, 0))
    outcome.faults += [
        f"stderr: {line[:200]!r}" for line in said.getvalue().split("\n") if line[:8] not in ("", "corpus: ")
    ]


def main() -> None:
    kind = {"checkpoint": checkpoint, "corpus": corpus}[sys.argv[1]]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    for line in sys.stdin:
        CLEAR.write_text("5")  # the peak counts from here
        outcome = Outcome()
        kind(Path(json.loads(line)), outcome)
        peak = next(int(row.split()[1]) for row in STATUS.read_text().splitlines() if row.startswith("VmHWM")) * 1024
        said = {"faults": outcome.faults, "successes": outcome.successes, "refusals": outcome.refusals, "peak": peak}
        print(json.dumps(said), file=answers, flush=True)


if __name__ == "__main__":
    main()

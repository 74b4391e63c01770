"""The worlds of the atlas: Sobol points in the sizes of five families, so that these are spread evenly."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from ablate.studies.design import Setting

EACH, TRIED = 10, 2  # of a family: in the atlas, and for development alone
FIRST_WORLD = 10  # number of the first one; lower ones belong to other studies


@dataclass(frozen=True)
class Size:
    """A whole number, or a share, from `low` to `high`, spread evenly or by its logarithm."""

    low: float
    high: float
    log: bool = False

    def at(self, place: float) -> str:
        """The value at a place in [0, 1)."""
        if isinstance(self.low, float):
            return f"{self.low * (self.high / self.low) ** place:.3g}"
        if self.log:
            return str(round(self.low * (self.high / self.low) ** place))
        return str(int(self.low + (self.high - self.low + 1) * place))


@dataclass(frozen=True)
class Family:
    """Worlds of one kind: their corpus, what varies, and the key of the steps that an answer takes to compute."""

    corpus: str
    sizes: dict[str, Size]
    hops: str = ""


FAMILIES = {
    "trace": Family(
        "trace",
        {"values": Size(4, 16), "new_operators": Size(4, 64, log=True), "operations": Size(2, 8)},
        "operations",
    ),
    "facts": Family(
        "facts",
        {"people": Size(20, 400, log=True), "attributes": Size(1, 4), "values": Size(4, 40, log=True)},
    ),
    "programs": Family(
        "programs", {"variables": Size(2, 3), "modulus": Size(2, 6), "new_operators": Size(1, 3)}, "variables"
    ),
    "arithmetic": Family(
        "arithmetic",
        {"records": Size(1, 3), "names": Size(2, 10), "affine": Size(1, 4), "tables": Size(0, 4)},
    ),
    "noisy": Family(
        "noisy",
        {
            "q": Size(0.01, 0.2),
            "corpus.values": Size(4, 12),
            "corpus.new_operators": Size(4, 32, log=True),
            "corpus.operations": Size(2, 5),
        },
        "corpus.operations",
    ),
}


LIST = Path(__file__).parent / "atlas_worlds.csv"  # what `sobol_worlds` gives: to ask it would load SciPy for a --help


def sobol_worlds() -> list[dict[str, str]]:
    """Rows of `LIST`: family, name and words of every world, of each family those for development last; none twice."""
    from scipy.stats import qmc

    rows = []
    for number, (family, asked) in enumerate(FAMILIES.items()):
        points = qmc.Sobol(len(asked.sizes), rng=0).random(128)
        sizes = dict.fromkeys(
            " ".join(f"corpus.{key}={size.at(x)}" for (key, size), x in zip(asked.sizes.items(), point, strict=True))
            for point in points
        )
        world = "corpus.corpus.world" if family == "noisy" else "corpus.world"
        rows += [
            {
                "family": family,
                "world": f"{family}_{i}",
                "words": f"corpus={asked.corpus} {words} {world}={FIRST_WORLD + 100 * number + i}",
            }
            for i, words in enumerate(list(sizes)[: EACH + TRIED])
        ]
    return rows


with LIST.open(newline="") as _file:
    LISTED = list(csv.DictReader(_file))
FAMILY_OF = {row["world"]: row["family"] for row in LISTED}


def worlds(family: str) -> list[Setting]:
    """The worlds of a family, those for development last."""
    return [Setting(row["world"], row["words"].split()) for row in LISTED if row["family"] == family]


ATLAS = [world for family in FAMILIES for world in worlds(family)[:EACH]]
TO_DEVELOP = [world for family in FAMILIES for world in worlds(family)[EACH:]]

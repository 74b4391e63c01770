"""Question: how noisy is a gradient under each schedule, and is it the data, the mask rate or the mask?

Command: `python experiments/variance.py` (see --help). Cost: two minutes on one core, and a base model once.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # started by its path: what is imported is this package's or installed, nothing else
    sys.path.insert(0, os.path.realpath(f"{__file__}/../.."))
    __import__("experiments")

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.core.storage import describe, digest
from ablate.core.validation import UsageError, path_of
from ablate.model.config import ModelConfig
from ablate.noise.options import Clip, Guard, MaskSampling, Strata
from ablate.noise.schedules import named
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.block_diffusion import BlockDiffusion
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.problem import Objective
from ablate.training.budget import Budget
from ablate.training.resolution import resolve
from ablate.training.run_config import Run
from experiments.cli.command import Command
from experiments.cli.entry import main
from experiments.cli.help_text import groups, keys
from experiments.cli.places import require_place
from experiments.presets.regimes import REGIMES

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

RECIPE = {"clip": Clip.atom, "guard": Guard.force}


def _masked(name: str, **parameters: float) -> MaskedDiffusion:
    return MaskedDiffusion(schedule=named(name, **parameters), strata=Strata.none)


def _block(size: int, **options: Any) -> BlockDiffusion:
    return BlockDiffusion(size, strata=Strata.none, **options)


# By name; * marks a weight without variance, whose estimate depends on the largest 1/t that was drawn.
ARMS: dict[str, Objective] = {
    "AR": Autoregressive(),
    "masked, linear*": _masked("linear"),
    "masked, loglinear*": _masked("loglinear"),
    "masked, sin*": _masked("sin"),
    "masked, cos": _masked("cos"),
    "masked, cos2": _masked("cos2"),
    "masked, power(p=2)": _masked("power", p=2),
    "masked, geometric": _masked("geometric"),
    "masked, U(.3,.8)": _masked("interval", a=0.3, b=0.8),
    "masked, U(.45,.95)": _masked("interval", a=0.45, b=0.95),
    "masked, U(0,.1)*": _masked("cap", u_max=0.1),
    "masked, count": MaskedDiffusion(mask_sampling=MaskSampling.count, strata=Strata.none),
    "block 4, linear*": _block(4),
    "block 4, atom, force, 1/t": _block(4, **RECIPE),
    "block 4, atom, force, 1/q": _block(4, **RECIPE, weight="1/q"),
    "block 4, U(1/4,1)": _block(4, clip=Clip.interval),
    "block 4, U(.45,.95)": _block(4, schedule=named("interval", a=0.45, b=0.95)),
    "block 4, count": _block(4, mask_sampling=MaskSampling.count),
    "block 4, complementary*": _block(4, complementary=True),
    "block 4, atom, force, 2 draws": _block(4, **RECIPE, draws=2),
    "block 1, linear*": _block(1),
    "block 1, all masked": _block(1, clip=Clip.atom),
}


@dataclass
class VarianceStudy:
    """Variance of single sequences' gradients at the base model of a seed, on the new domain.

    sequences, rates, masks: of the nested design, `rates` levels a sequence, `masks` masks a level.
    out: folder, derived where empty. cache: folder of base models. Raises ValueError for values out of range.
    """

    corpus: Any  # a Corpus: a protocol cannot be a configuration's type
    model: ModelConfig
    budget: Budget
    seed: int = 0
    sequences: int = 32
    rates: int = 4
    masks: int = 4
    threads: int = 0
    out: str = ""
    cache: str = "runs/.base"

    def __post_init__(self) -> None:
        for name, least in (("sequences", 3), ("rates", 2), ("masks", 2)):
            if not least <= getattr(self, name) <= 10_000:
                raise ValueError(f"{name}: wanted {least}..10000, got {getattr(self, name)}; type {name}={least}")

    @property
    def folder(self) -> Path:
        content = {key: value for key, value in describe(self).items() if key not in ("out", "cache")}
        return path_of("out", self.out or f"runs/variance-{self.corpus.name}-{digest(content)[:8]}")

    def run(self) -> Run:
        """The run whose base model and new domain are measured."""
        return Run(
            self.corpus, self.model, REGIMES["ar"], self.budget, seed=self.seed, threads=self.threads, cache=self.cache
        )


def variance_help() -> str:
    """The same of the gradient's variance."""
    lines = ["Variance of the gradient at the base model, per schedule: which data, which mask rate, which mask.", ""]
    lines += ["  python experiments/variance.py [corpus=NAME] [model=NAME] [budget=NAME] [key=value ...]", ""]
    lines += [*groups("corpus", "model", "budget"), keys(VarianceStudy)]
    lines += [
        "Every field of a config is a key too: corpus.operations=12  budget.base_tokens=3000000",
        "-m seed=0,1     every combination, one after the other",
        "--cfg job       print the configuration and stop",
    ]
    return "\n".join(lines)


def job(study: VarianceStudy) -> None:
    """Measures every arm, writes rows and figure, prints the table."""
    from ablate.core.storage import write_bytes
    from ablate.core.terminal import terminal
    from ablate.training.run_files import write_config
    from figures.drawing import style
    from figures.noise import gradient_noise

    console = terminal()
    rows = measure(study, console)
    write_config(study)
    write_bytes(study.folder / "variance.csv", rows.to_csv(index=False).encode())
    paths = style.save(gradient_noise.draw(rows), study.folder / "gradient_variance")
    console.width = max(console.width, 140)  # a number cut short is lost
    console.print(
        table(
            rows,
            f"{study.corpus.name}, seed {study.seed}: {study.sequences} sequences x {study.rates} "
            f"levels x {study.masks} masks",
        )
    )
    for path in (*paths, study.folder / "variance.csv"):
        console.print(f"  {path}", soft_wrap=True, highlight=False)


def measure(study: VarianceStudy, console: Any) -> pd.DataFrame:
    """A row per arm, quantity (gradient, loss) and part (data, rate, mask, mean_square): value and standard error."""
    import dataclasses

    import pandas as pd
    import torch

    from ablate.analysis.gradient_variance import gradient_sums, scored_share
    from ablate.core.corpus import Domain, Split
    from ablate.training.base_model import base_weights
    from ablate.training.networks import build_network

    run = resolve(study.run())
    torch.set_num_threads(run.threads)
    network, corpus = build_network(run), run.corpus_for(Domain.new, Split.train)
    network.load_state_dict(base_weights(run, console))
    found = []
    for arm, objective in ARMS.items():
        console.print(arm, style="dim", highlight=False)
        both = gradient_sums(network, objective, corpus, study.seed, study.sequences, study.rates, study.masks)
        share = scored_share(objective, corpus, study.seed, 4096)
        for quantity, sums in zip(("gradient", "loss"), both, strict=True):
            errors = dataclasses.asdict(sums.errors())
            found += [
                {
                    "arm": arm,
                    "quantity": quantity,
                    "part": part,
                    "value": value,
                    "error": errors[part],
                    "scored_share": share,
                }
                for part, value in dataclasses.asdict(sums.parts()).items()
            ]
    return pd.DataFrame(found)


def check(asked: list[VarianceStudy]) -> list[VarianceStudy]:
    """The studies, where each has a folder to write to and blocks that fit. Raises ValueError else."""
    for study in asked:
        resolve(study.run())
        require_place(study.folder, "out")
        require_place(path_of("cache", study.cache), "cache")
        if [other.folder for other in asked].count(study.folder) > 1:
            raise UsageError(f"{study.folder}: wanted a folder for each study, got two for it; leave out= out")
    return asked


def table(rows: pd.DataFrame, title: str) -> Table:
    """A line per arm: variance of the gradient by part, beside the squared norm of its mean, and of the loss."""
    from rich.table import Table

    out = Table(
        title=title,
        title_justify="left",
        show_edge=False,
        pad_edge=False,
        caption="Trace of the covariance of one sequence's gradient ± standard error (jackknife over sequences), its "
        "parts, and its ratio to the squared norm of the mean gradient. loss: variance of one sequence's loss (nats a "
        "token, squared). scored: tokens scored a scorable token, over all copies. * has no variance: what is "
        "estimated grows with the number of draws.",
        caption_justify="left",
    )
    for i, name in enumerate(["", "total", "data", "rate", "mask", "noise/signal", "loss", "scored"]):
        out.add_column(name, justify="right" if i else "left", no_wrap=True)
    for arm, part in rows.groupby("arm", sort=False):
        gradient, loss = (part[part["quantity"] == q].set_index("part") for q in ("gradient", "loss"))
        sources = ["data", "rate", "mask"]
        total = gradient.loc[sources, "value"].sum()
        out.add_row(
            str(arm),
            f"{total:.2e}",
            *(f"{gradient.loc[s, 'value']:.1e} ± {gradient.loc[s, 'error']:.0e}" for s in sources),
            f"{total / max(gradient.loc['mean_square', 'value'], 1e-300):.3g}",
            f"{loss.loc[sources, 'value'].sum():.3g}",
            f"{part['scored_share'].iloc[0]:.2f}",
        )
    return out


VARIANCE = Command("variance.py", lambda: VarianceStudy, ("corpus", "model", "budget"), variance_help, check)

if __name__ == "__main__":
    main(VARIANCE, job)

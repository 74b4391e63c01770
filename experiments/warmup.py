"""Question: which ingredient of the mask-rate warmup tames the first gradients, the cap or the dropped weight?

Command: `python experiments/warmup.py` (see --help). Cost: 25 runs of about half a minute on one core; a finished
run is not repeated, an interrupted one goes on.

Predictions, written before any data:
P1. The cap alone shrinks the first norms only where the weight is kept at bay too: with a low cap and weight 1/t every
    batch has few, heavy tokens, so cap with kept weight has *larger* first norms and spikes than no warmup.
P2. The dropped weight shrinks the norms as trained, mostly by scale: per scored token the factor is much nearer to 1.
P3. With both, spikes all but vanish during the warmup and come back with the weight, abruptly, after it.
P4. The final excess bits of the four arms do not differ beyond the spread over seeds: gradients are clipped anyway.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__" and not sys.path[0].endswith("site-packages"):
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # `experiments` is a package of this folder

from ablate.core.storage import describe, digest
from ablate.model.config import ModelConfig
from ablate.objectives.autoregressive import Autoregressive
from ablate.objectives.masked_diffusion import MaskedDiffusion
from ablate.objectives.problem import Objective
from ablate.objectives.regime import MaskWarmup, Regime, Stage
from ablate.training.budget import Budget
from ablate.training.run_config import Run
from experiments.cli.compose import Command, UsageError, check_runs, main
from experiments.cli.help_text import warmup_help
from experiments.presets.registry import block

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

ARMS = {"none": (False, False), "cap": (True, False), "drop": (False, True), "cap_drop": (True, True)}
REFERENCE = "ar"  # the base model's objective carried on


@dataclass
class WarmupStudy:
    """The 2x2 of cap and dropped weight, and AR beside it, each from the base model of its seed.

    share: of the steps that are warmup (S). u_init: the cap's first value. clip: are clip and guard on meanwhile?
    Every step is logged, whatever budget.every says.
    block: 0 for masked diffusion with full attention, else the paper's block diffusion of this size.
    out: folder, derived where empty. cache: folder of base models. Raises ValueError for values out of range.
    """

    corpus: Any  # a Corpus: a protocol cannot be a configuration's type
    model: ModelConfig
    budget: Budget
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    share: float = 0.1
    u_init: float = 1e-3
    clip: bool = False
    block: int = 0
    threads: int = 0
    out: str = ""
    cache: str = "runs/.base"

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: wanted at least one, each once, got {self.seeds}; type seeds=[0,1,2]")
        if not 0 < self.share < 1:
            raise ValueError(f"share: wanted a share of the steps, in (0, 1), got {self.share}; type share=0.1")
        if not 0 <= self.block <= self.corpus.length:
            most = self.corpus.length
            raise ValueError(f"block: wanted 0 (masked diffusion) or 1..{most} tokens, got {self.block}; type block=4")
        if not 0 < self.u_init <= 1:
            raise ValueError(f"u_init: wanted a mask rate in (0, 1], got {self.u_init}; type u_init=0.001")
        if self.corpus.oracle is None:
            raise ValueError(f"corpus={self.corpus.name}: wanted a world with an oracle; type corpus=trace")

    @property
    def folder(self) -> Path:
        content = {key: value for key, value in describe(self).items() if key not in ("out", "cache", "seeds")}
        return Path(self.out or f"runs/warmup-{self.corpus.name}-{digest(content)[:8]}").expanduser()

    @property
    def objective(self) -> Objective:
        return block(self.block) if self.block else MaskedDiffusion()

    def runs(self) -> list[Run]:
        """Every arm of every seed; only the objective's noise differs, and AR."""
        stages = {REFERENCE: Stage(Autoregressive())}
        for arm, (cap, drop) in ARMS.items():
            share = self.share if cap or drop else 0.0
            warmup = MaskWarmup(share, u_init=self.u_init, cap=cap, drop_weight=drop, clip=self.clip)
            stages[arm] = Stage(self.objective, mask_warmup=warmup)
        budget = dataclasses.replace(self.budget, every=1)
        return [
            Run(
                self.corpus,
                self.model,
                Regime(arm, [stage]),
                budget,
                seed=seed,
                threads=self.threads,
                out=str(self.folder / f"{arm}-seed{seed}"),
                cache=self.cache,
            )
            for seed in self.seeds
            for arm, stage in stages.items()
        ]


def job(study: WarmupStudy) -> None:
    """Trains what is missing, then measures, draws and prints."""
    from rich.console import Console

    from ablate.core import records
    from ablate.core.storage import write_bytes
    from ablate.training.train import train
    from experiments.reports.warmup_effects import effects, outcomes
    from figures.drawing import style
    from figures.learning import warmup_dynamics

    console, runs = Console(), study.runs()
    folders = [train(run, console) for run in runs]
    rows = records.gather(folders)
    steps = sum(runs[0].stage_steps)
    end = round(study.share * steps)
    found = effects(outcomes(rows, end))
    write_bytes(study.folder / "effects.csv", found.to_csv(index=False).encode())
    paths = style.save(warmup_dynamics.draw(rows, end), study.folder / "warmup")
    shown = table(
        found,
        f"{study.corpus.name}, {study.objective.label}: warmup of {end} of {steps} steps, {len(study.seeds)} seed(s)",
    )
    console.width = max(console.width, 175)  # a number cut short is lost
    console.print(shown)
    for path in (*paths, study.folder / "effects.csv"):
        console.print(f"  {path}", soft_wrap=True, highlight=False)


def check(asked: list[WarmupStudy]) -> list[WarmupStudy]:
    """One study, all of whose runs can be made. Raises ValueError else."""
    if len(asked) != 1:
        raise UsageError("warmup.py: wanted one study, got a sweep; name the seeds in one list, seeds=[0,1,2]")
    check_runs(asked[0].runs())
    return asked


def table(found: pd.DataFrame, title: str) -> Table:
    """A line per quantity: the four arms and AR, then what each ingredient does."""
    from rich.table import Table

    from experiments.reports.warmup_effects import EFFECTS

    out = Table(
        title=title,
        title_justify="left",
        show_edge=False,
        pad_edge=False,
        caption="Arms: mean over seeds (of logarithms where effects are ratios). Effects of cap and drop: mean over "
        "the other's two levels; interaction: what both do beyond that. x: a factor, +: a difference; 95% t-intervals "
        "over seeds. Norms before clipping: as trained (divided by all tokens), and per scored token.",
        caption_justify="left",
    )
    arms = [*ARMS, REFERENCE]
    for i, name in enumerate(["", *arms, *EFFECTS]):
        out.add_column(name, justify="right" if i else "left", no_wrap=True)
    for quantity, part in found.groupby("quantity", sort=False):
        line = part.set_index("name")
        out.add_row(str(quantity), *(_level(line, arm) for arm in arms), *(_effect(line, name) for name in EFFECTS))
    return out


def _level(line: pd.DataFrame, arm: str) -> str:
    return f"{line.loc[arm, 'value']:.3g}" if arm in line.index else "–"


def _effect(line: pd.DataFrame, name: str) -> str:
    """A factor or a difference with its interval, where there are seeds enough for one."""
    if name not in line.index:
        return "–"
    at, sign = line.loc[name], "x" if line.loc[name, "ratio"] else "+"
    span = f" ({at['low']:.2g}..{at['high']:.2g})" if at["low"] == at["low"] else ""
    return f"{sign} {at['value']:.2g}{span}"


WARMUP = Command("warmup.py", lambda: WarmupStudy, ("corpus", "model", "budget"), warmup_help, check)

if __name__ == "__main__":
    main(WARMUP, job)

"""The Lightning side: the data feed, a thin module, and one callback.

Shapes: B rows of this process and micro-batch, R rows that the network reads, L positions, V vocabulary, N scored
tokens.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, Dataset

from ablate.corpus import Corpus, Vocabulary, given
from ablate.engine import parallel
from ablate.loss import score
from ablate.machine import Precision, Strategy
from ablate.model import Transformer
from ablate.noise import Rows
from ablate.optimiser import adamw
from ablate.problem import within_documents
from ablate.regime import Stage
from ablate.run import Run
from ablate.seeds import generator


class Batch(NamedTuple):
    """A micro-batch of one process. scorable: tokens of the whole global batch that can be scored."""

    tokens_BL: Tensor
    rows: Rows
    scorable: int


@dataclass(frozen=True)
class Feed(Dataset):
    """Micro-batches of the training steps first..first+steps: item i is the same whichever process or worker asks.

    unique: sequences that there are, 0 if every one is fresh; they come in a new order every epoch, their noise anew.
    """

    corpus: Corpus
    seed: int
    batch: int
    accumulate: int
    first: int
    steps: int
    rank: int = 0
    world: int = 1
    unique: int = 0
    counted: dict[int, int] = field(default_factory=dict, compare=False, repr=False)  # of the last step, see `scorable`

    def __len__(self) -> int:
        return self.steps * self.accumulate

    def __getitem__(self, i: int) -> Batch:
        step, part = divmod(i, self.accumulate)
        size = self.batch // (self.accumulate * self.world)
        start = (part * self.world + self.rank) * size
        rows = Rows(self.seed, self.first + step, np.arange(start, start + size), self.batch)
        return Batch(self.corpus.batch(self.sequences(rows.addresses), self.seed), rows, self.scorable(rows))

    def scorable(self, rows: Rows) -> int:
        """Tokens of the global batch that can be scored. Where windows hold several documents all of them are read for
        it: that costs less than an exchange between processes, and is the same for any number of these."""
        boundary = self.corpus.vocabulary.boundary
        if boundary is None:
            return self.batch * (self.corpus.length - 1)
        if rows.step not in self.counted:  # else every micro-batch would read the whole step's sequences
            everything_BL = self.corpus.batch(self.sequences(rows.everyone.addresses), self.seed)
            self.counted.clear()
            self.counted[rows.step] = int((~given(everything_BL, boundary)).sum())
        return self.counted[rows.step]

    def sequences(self, addresses: np.ndarray) -> np.ndarray:
        """Number of the sequence that is read at each address."""
        if not self.unique:
            return addresses
        epochs, places = np.divmod(addresses, self.unique)
        orders = {e: generator(self.seed, "epoch", e).permutation(self.unique) for e in np.unique(epochs).tolist()}
        return np.array([orders[e][place] for e, place in zip(epochs.tolist(), places.tolist(), strict=True)])


@dataclass
class Progressed:
    """What training has counted so far; part of the checkpoint. loss_tokens: tokens that were scored."""

    step: int = 0
    tokens: int = 0
    loss_tokens: int = 0


class Learner(lightning.LightningModule):
    """Trains one stage: poses the objective's problem, returns the loss, remembers the norm of the gradient."""

    def __init__(self, network: Transformer, stage: Stage, steps: int, done: int, vocabulary: Vocabulary):
        super().__init__()
        self.network, self.stage, self.steps, self.done, self.vocabulary = network, stage, steps, done, vocabulary
        self.optimiser_state: dict[str, Any] | None = None
        self.loss_value, self.nats, self.step_scored = torch.zeros(()), torch.zeros(()), torch.zeros(())
        self.scored = torch.zeros((), dtype=torch.long)
        self.gradient_norm = torch.zeros(())
        self.scorable = 0

    def training_step(self, batch: Batch, _: int) -> Tensor:
        tokens_BL, rows, self.scorable = batch
        phase = self.stage.phase(self.done + self.trainer.global_step, self.steps)
        problem = self.stage.objective.pose(tokens_BL, rows, self.vocabulary.mask_id, phase)
        problem = within_documents(problem, tokens_BL, self.vocabulary.boundary, self.stage.objective.offset)
        scored = score(self.network, problem, self.scorable)
        self.loss_value = self.loss_value + scored.loss.detach()
        self.nats = self.nats + scored.nats_N.sum()
        self.step_scored = self.step_scored + len(scored.nats_N)
        self.scored = self.scored + len(scored.nats_N)
        # Lightning averages over devices and micro-batches; the parts are already divided by the global batch
        return scored.loss * self.trainer.world_size * self.trainer.accumulate_grad_batches

    def transfer_batch_to_device(self, batch: Batch, device: Any, dataloader_idx: int) -> Batch:
        return batch._replace(tokens_BL=batch.tokens_BL.to(device, non_blocking=True))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimiser = adamw(self.network, self.stage)
        if self.optimiser_state is not None:
            groups = optimiser.state_dict()["param_groups"]  # moments carry over, the stage's own settings do not
            optimiser.load_state_dict({**self.optimiser_state, "param_groups": groups})
        return optimiser

    def configure_model(self) -> None:
        """Nothing: a sharded network comes sharded; Lightning's strategy for it wants to be told."""

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.stage.clip_norm)
        self.gradient_norm = norm.full_tensor() if isinstance(norm, DTensor) else norm

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.loss_value, self.nats, self.step_scored = (torch.zeros(()) for _ in range(3))
            rate = self.stage.rate(self.done + self.trainer.global_step, self.steps)
            for group in self.trainer.optimizers[0].param_groups:
                group["lr"] = rate


@dataclass(repr=False)
class Watch(lightning.Callback):
    """Counts steps, shows progress, calls `on_step` after every step in `pauses` and every multiple of `every`."""

    title: str
    progressed: Progressed
    every: int
    pauses: frozenset[int]
    step_tokens: int
    on_step: Callable[[Learner, torch.optim.Optimizer], None]
    console: Console
    bar: Progress = field(default_factory=lambda: Progress(disable=True))

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        fields = TextColumn("loss {task.fields[loss]:.3f}  {task.fields[rate]}  left")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), fields, TimeRemainingColumn())
        hidden = not trainer.is_global_zero or not self.console.is_terminal
        self.bar = Progress(*columns, console=self.console, disable=hidden, auto_refresh=False, transient=True)
        self.bar.start()
        left = trainer.max_steps
        self.task = self.bar.add_task(self.title, total=left, loss=float("nan"), rate="")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        progressed, learner = self.progressed, pl_module
        progressed.step += 1
        progressed.tokens += self.step_tokens
        if progressed.step % self.every == 0:
            speed = self.bar.tasks[self.task].speed or 0.0
            rate = f"{speed * self.step_tokens / 1000:.1f}k tok/s"
            self.bar.update(self.task, completed=trainer.global_step, loss=float(learner.loss_value), rate=rate)
            self.bar.refresh()
        if progressed.step % self.every == 0 or progressed.step in self.pauses:
            progressed.loss_tokens += int(trainer.strategy.reduce(learner.scored, reduce_op="sum"))
            learner.scored = torch.zeros_like(learner.scored)
            self.on_step(learner, trainer.optimizers[0])

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.bar.stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.bar.stop()


def loader(feed: Feed, workers: int) -> DataLoader:
    """The feed as Lightning wants it: items are whole micro-batches already, the same whichever worker makes them."""
    context = "spawn" if workers else None  # a fork would copy locks that other threads hold
    return DataLoader(feed, batch_size=None, shuffle=False, num_workers=workers, multiprocessing_context=context)


def fit(learner: Learner, feed: Feed, watch: Watch, run: Run) -> dict[str, Any]:
    """Trains over the feed; returns the optimiser's state. Raises KeyboardInterrupt where the user stops it."""
    silence()
    together = run.strategy is not Strategy.auto
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if together else 1
    mixed = run.precision is Precision.bf16 and run.strategy is not Strategy.fsdp  # which casts weights, not products
    trainer = lightning.Trainer(
        accelerator=run.device.value,
        devices=here,
        num_nodes=feed.world // here,
        strategy=parallel(run),
        plugins=None if together else [LightningEnvironment()],
        precision="bf16-mixed" if mixed else "32-true",
        max_steps=feed.steps,
        accumulate_grad_batches=feed.accumulate,
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    try:
        trainer.fit(learner, train_dataloaders=loader(feed, run.loaders))
    except SystemExit as stop:  # Lightning turns Ctrl-C into this
        raise KeyboardInterrupt from stop
    return trainer.optimizers[0].state_dict()


def silence() -> None:
    """Keeps Lightning's notices on devices, workers and tips off the terminal, where a run shows its own."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")

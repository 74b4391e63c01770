"""The Lightning module: a wire between the data feed, the training step and the optimizer.

Shapes: B rows of this process and micro-batch, L positions.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor

from ablate.compute.device import Precision, Strategy
from ablate.compute.optimizer import State, adamw
from ablate.compute.train_step import StepResult, clip_gradients
from ablate.core.corpus import Vocabulary
from ablate.core.interruption import deferred
from ablate.model.transformer import Transformer
from ablate.objectives.loss import score_all
from ablate.objectives.regime import Stage
from ablate.training.data_feed import Batch, DataFeed, loader
from ablate.training.progress import ProgressCallback
from ablate.training.run_config import Run


class TrainingModule(lightning.LightningModule):
    """Trains one stage of a run, or the stages of runs that train together, which pose one objective and may differ in
    rates and decay. `result` is what the step in progress has measured so far, or the last one."""

    def __init__(self, network: Transformer, stages: Sequence[Stage], steps: int, done: int, vocabulary: Vocabulary):
        super().__init__()
        self.network, self.stages, self.steps, self.done, self.vocabulary = network, stages, steps, done, vocabulary
        self.optimizer_states: list[State] = []
        self.result = StepResult.nothing([])

    def training_step(self, batches: list[Batch], _: int) -> Tensor:
        phase = self.stages[0].phase(self.done + self.trainer.global_step, self.steps)
        pose = self.stages[0].objective.pose
        problems = [pose(batch.tokens_BL, batch.address, self.vocabulary, phase) for batch in batches]
        counts = [batch.scorable for batch in batches]
        part = score_all(self.network, problems, counts)
        self.result = dataclasses.replace(self.result, scorable=torch.tensor(counts)).plus(part)
        # Lightning averages over devices and micro-batches; the parts are already divided by the global batch
        return part.loss.sum() * self.trainer.world_size * self.trainer.accumulate_grad_batches

    def transfer_batch_to_device(self, batch: list[Batch], device: Any, dataloader_idx: int) -> list[Batch]:
        return [part._replace(tokens_BL=part.tokens_BL.to(device, non_blocking=True)) for part in batch]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        self.optimizer = adamw(self.network, *self.stages)
        if self.optimizer_states:
            self.optimizer.load_states(self.optimizer_states)
        return self.optimizer

    def configure_model(self) -> None:
        """Does nothing: a sharded network arrives sharded, but Lightning's strategy requires this method."""

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        norm = clip_gradients(self.network.parameters(), *(stage.clip_norm for stage in self.stages))
        self.result = dataclasses.replace(self.result, gradient_norm=norm)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.result = StepResult.nothing([0] * len(self.stages))
            self.optimizer.set_rates(self.done + self.trainer.global_step, self.steps)


def fit(module: TrainingModule, feeds: Sequence[DataFeed], watch: ProgressCallback, run: Run) -> list[State]:
    """Trains over the feeds; returns the optimizer's state of every network. run: where and by what means.

    Raises KeyboardInterrupt where the user stops it, Terminated where a signal did, after the step in progress.
    """
    silence()
    feed = feeds[0]
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
        with deferred():
            trainer.fit(module, train_dataloaders=loader(feeds, run.loaders))
    except SystemExit as stop:  # Lightning turns Ctrl-C into this
        raise KeyboardInterrupt from stop
    return states_of(trainer)


def states_of(trainer: Any) -> list[State]:
    """The optimizer's state of every network that a trainer trains."""
    return trainer.optimizers[0].states()


def silence() -> None:
    """Keeps Lightning's notices on devices, workers and tips off the terminal, where a run shows its own."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")


def parallel(run: Run) -> Any:
    """Lightning's strategy for a resolved run."""
    from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

    if run.strategy is Strategy.fsdp:
        return ModelParallelStrategy(data_parallel_size=run.processes, tensor_parallel_size=1)
    if run.strategy is Strategy.ddp:
        # else each process has its gradients twice, and sends tables that never change
        return DDPStrategy(gradient_as_bucket_view=True, broadcast_buffers=False)
    return run.strategy.value

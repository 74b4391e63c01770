"""Training counters, the callback that keeps and shows them, and the line now and then where no bar is seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as lightning
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ablate.compute.train_step import StepResult
from ablate.core.interruption import Terminated, asked, listen_again

SILENCE = 30.0  # seconds without a line in a log


@dataclass
class TrainingCounters:
    """What training has counted so far; part of the checkpoint. loss_tokens: tokens that were scored."""

    step: int = 0
    tokens: int = 0
    loss_tokens: int = 0


@dataclass
class ProgressLog:
    """A line now and then for whoever reads a log: where a console is a terminal, a bar is there instead."""

    console: Console
    last: float = field(default_factory=lambda: time.monotonic())

    @property
    def due(self) -> bool:
        """Was the last line long enough ago?"""
        return not self.console.is_terminal and time.monotonic() - self.last >= SILENCE

    def write(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, markup=False)
        self.last = time.monotonic()


def divergence(where: str, loss: torch.Tensor, norm: torch.Tensor, key: str, rate: float) -> str:
    """What to say, with the learning rate's `key`, where the loss or the gradient's norm is no number; else nothing."""
    if torch.isfinite(loss) and torch.isfinite(norm):
        return ""
    return (
        f"{where}: loss {float(loss):g}, gradient norm {float(norm):g}: training diverged; type a smaller {key} "
        f"than {rate:g}, and out=PATH"
    )


@dataclass(repr=False)
class ProgressCallback(lightning.Callback):
    """Counts steps for every run that trains, shows progress, calls `on_step` with the step's result and the trainer
    after every step in `pauses` and every multiple of `every`.

    Where a signal has asked to stop (see `interruption`), calls `on_stop` with the trainer after the step and raises
    Terminated.
    """

    title: str
    counters: Sequence[TrainingCounters]  # of each run; all are at one step
    every: int
    pauses: frozenset[int]
    step_tokens: int
    on_step: Callable[[StepResult, Any], None]
    console: Console
    on_stop: Callable[[Any], None] = lambda trainer: None
    scored: torch.Tensor | int = 0  # tokens of each run and of this process since the last look
    bar: Progress = field(default_factory=lambda: Progress(disable=True))
    progress_log: ProgressLog = field(init=False)

    def __post_init__(self) -> None:
        self.progress_log = ProgressLog(self.console)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        listen_again()  # Lightning's own handler would end the loop without a checkpoint
        fields = TextColumn("loss {task.fields[loss]:.3f}  {task.fields[rate]}  left")
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            fields,
            TimeRemainingColumn(),
        )
        hidden = not trainer.is_global_zero or not self.console.is_terminal
        self.bar = Progress(*columns, console=self.console, disable=hidden, auto_refresh=False, transient=True)
        self.bar.start()
        self.task = self.bar.add_task(self.title, total=trainer.max_steps, loss=float("nan"), rate="")
        self.begun = time.monotonic()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        counters, result = self.counters[0], pl_module.result
        self.scored = self.scored + result.scored
        for one in self.counters:
            one.step += 1
            one.tokens += self.step_tokens
        if trainer.is_global_zero and self.progress_log.due:
            self.progress_log.write(self._line(trainer, result))
        if counters.step % self.every == 0:
            speed = self.bar.tasks[self.task].speed or 0.0
            rate = f"{speed * self.step_tokens * len(self.counters) / 1000:.1f}k tok/s"
            loss = _loss(trainer, result)
            self.bar.update(self.task, completed=trainer.global_step, loss=loss, rate=rate)
            self.bar.refresh()
        stop = bool(trainer.strategy.reduce(torch.tensor(float(asked())), reduce_op="sum"))  # of any process
        looks = counters.step % self.every == 0 or counters.step in self.pauses
        if looks or stop:
            scored = trainer.strategy.reduce(torch.as_tensor(self.scored), reduce_op="sum")
            for one, count in zip(self.counters, scored.tolist(), strict=True):
                one.loss_tokens += int(count)
            self.scored = 0
        if looks:
            begun = time.monotonic()
            self.on_step(result, trainer)
            self.begun += time.monotonic() - begun  # evaluation is not part of training's speed
        if stop:
            self.on_stop(trainer)
            raise Terminated

    def _line(self, trainer: Any, result: StepResult) -> str:
        """Where training is, how fast, and how long the rest of the stage takes without evaluation."""
        done, seconds = trainer.global_step, time.monotonic() - self.begun
        left = trainer.max_steps - done
        speed = done * self.step_tokens * len(self.counters) / seconds / 1000
        return (
            f"{self.title}: step {self.counters[0].step}, loss {_loss(trainer, result):.3f}, {speed:.1f}k tok/s, "
            f"{left} steps left of the stage, {seconds / done * left / 60:.0f} min"
        )

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.bar.stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.bar.stop()


def _loss(trainer: Any, result: StepResult) -> float:
    """Mean loss of the runs, nats; of several processes as if each had this one's part."""
    return float(result.loss.nanmean()) * trainer.world_size

"""AdamW over a network's parameters, and room for its state.

Stacked networks share one optimizer. Those whose stages are the same are one slice of every parameter, so that networks
that differ in their seed alone take one step as a whole. The state of each network by itself is that of a plain one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from ablate.model.transformer import Transformer
from ablate.objectives.regime import Stage

State = dict[str, Any]  # of a plain network's AdamW, as torch gives it: tensors by the parameter's number


class AdamW(torch.optim.AdamW):
    """AdamW with decay on matrices alone (Loshchilov & Hutter, 2019), as one fused kernel.

    stages: of the network, or of each of those that are stacked. Neighbours of one stage are a slice, which has two
    groups: matrices, and vectors (gains of norms and biases).
    """

    def __init__(self, network: nn.Module, stages: Sequence[Stage]):
        self.stacked, self.slices = len(stages) > 1, _slices(stages)
        self.owned: list[tuple[nn.Parameter, nn.Parameter, slice]] = []  # a slice of a parameter, which has its memory
        groups: list[dict[str, Any]] = []
        for part, stage in self.slices:
            for parameters, decay in zip(_groups(network, self.stacked), (stage.weight_decay, 0.0), strict=True):
                groups.append({"params": [self._part(p, part) for p in parameters], "weight_decay": decay})
        super().__init__(groups, lr=stages[0].lr, betas=(0.9, 0.95), fused=True)

    def _part(self, parameter: nn.Parameter, part: slice) -> nn.Parameter:
        if len(self.slices) == 1:
            return parameter
        own = nn.Parameter(parameter.data[part])
        self.owned.append((own, parameter, part))
        return own

    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for own, parameter, part in self.owned:
            own.grad = None if parameter.grad is None else parameter.grad[part]
        super().step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for _, parameter, _ in self.owned:
            parameter.grad = None

    def set_rates(self, step: int, steps: int) -> None:
        """Every stage's learning rate of step `step` (from 0) of `steps`."""
        for i, (_, stage) in enumerate(self.slices):
            for group in self.param_groups[2 * i : 2 * i + 2]:
                group["lr"] = stage.rate(step, steps)

    def states(self) -> list[State]:
        """The state of every network, as a plain one has it."""
        whole = self.state_dict()
        if not self.stacked:
            return [whole]
        found: list[State] = []
        for i, (part, _) in enumerate(self.slices):
            numbers = [n for group in whole["param_groups"][2 * i : 2 * i + 2] for n in group["params"]]
            for place in range(part.stop - part.start):
                state = {
                    k: {name: x if name == "step" else x[place] for name, x in whole["state"][n].items()}
                    for k, n in enumerate(numbers)
                    if n in whole["state"]
                }
                found.append({"state": state})
        return found

    def load_states(self, states: Sequence[State]) -> None:
        """Takes up what `states` gave; rates and decay are those of its own stages."""
        groups = self.state_dict()["param_groups"]
        if not self.stacked:
            self.load_state_dict({"state": states[0]["state"], "param_groups": groups})
            return
        whole: dict[int, dict[str, Tensor]] = {}
        for i, (part, _) in enumerate(self.slices):
            numbers = [n for group in groups[2 * i : 2 * i + 2] for n in group["params"]]
            for k, n in enumerate(numbers):
                parts = [states[s]["state"][k] for s in range(part.start, part.stop)]
                whole[n] = {
                    name: parts[0][name] if name == "step" else torch.stack([p[name] for p in parts])
                    for name in parts[0]
                }
        self.load_state_dict({"state": whole, "param_groups": groups})


def adamw(network: nn.Module, *stages: Stage) -> AdamW:
    """The optimizer of a network that trains by a stage, or of as many stacked ones as there are stages."""
    return AdamW(network, stages)


def moments(network: Transformer) -> dict[str, dict[str, Tensor]]:
    """Room for AdamW's state of every parameter of a plain network, by its number, to be filled from a checkpoint."""
    numbered = [p.detach() for group in _groups(network, False) for p in group]
    return {
        str(i): {"step": torch.zeros(()), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        for i, p in enumerate(numbered)
    }


def _slices(stages: Sequence[Stage]) -> list[tuple[slice, Stage]]:
    """Neighbours of one stage."""
    found, first = [], 0
    for stage, same in groupby(stages):
        count = len(list(same))
        found.append((slice(first, first + count), stage))
        first += count
    return found


def _groups(network: nn.Module, stacked: bool) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices, and vectors: gains of norms and biases."""
    parameters, axes = list(network.parameters()), 3 if stacked else 2
    return [p for p in parameters if p.dim() >= axes], [p for p in parameters if p.dim() < axes]

"""Exponential moving average of a network's weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nephros.reading import MalformedContent
from nephros.training.checkpoint import check_tensors


class WeightEMA:
    """Exponential moving average of a network's weights and buffers: average = decay * average + (1 - decay) * current.

    The decay starts at (1 + steps) / (10 + steps) while that is smaller, so that the initial weights are soon forgotten.
    torch's AveragedModel is not used: it copies the whole module, process group included, and its first update replaces the
    initial weights instead of averaging with them.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Average the network's current weights in; integer buffers are copied."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        current = network.state_dict()
        floating = [name for name, averaged in self.weights.items() if averaged.is_floating_point()]
        torch._foreach_lerp_([self.weights[name] for name in floating], [current[name] for name in floating], 1 - decay)
        if counts := list(self.weights.keys() - floating):
            torch._foreach_copy_([self.weights[name] for name in counts], [current[name] for name in counts])

    @torch.no_grad()
    def copy_statistics(self, network: nn.Module) -> None:
        """Take over the buffers of a network that holds the averaged weights, such as estimated batch statistics."""
        for name, value in network.named_buffers():
            if name in self.weights:
                self.weights[name].copy_(value)

    @contextlib.contextmanager
    def applied_to(self, network: nn.Module) -> Iterator[None]:
        """Within the block the network holds the averaged weights, afterwards its own again."""
        train_weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.weights)
        try:
            yield
        finally:
            network.load_state_dict(train_weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages and the number of steps, for a checkpoint."""
        return {"weights": self.weights, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, on the devices of the present averages; MalformedContent for anything else."""
        check_tensors(state["weights"], self.weights, "ema.weights")
        if type(state["steps"]) is not int or state["steps"] < 0:
            raise MalformedContent("'ema.steps' is not a number of steps")
        self.weights = {name: _like(self.weights[name], value) for name, value in state["weights"].items()}
        self.steps = state["steps"]


def _like(current: Tensor, saved: Tensor) -> Tensor:
    return saved.to(current.device)

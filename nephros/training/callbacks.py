"""What follows a training run from outside: callbacks of one's own, and those that write to a tracker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from nephros.errors import InvalidArgument
from nephros.runs import RunFolder
from nephros.training.history import EpochMetrics


@runtime_checkable
class Callback(Protocol):
    """Follows a run of `nephros.train`; any object with these two methods is one."""

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        """Called after each epoch, once its checkpoint is written; `history` holds all epochs so far.

        A classical baseline has no epochs. A run that is resumed continues with its next epoch.
        """

    def on_train_end(self, run: RunFolder) -> None:
        """Called once, when weights, scores and report are written; `run` is what `nephros.train` returns."""


class StepCallback(Protocol):
    """Follows a `Trainer`."""

    def on_step_end(self, epoch: int, n_images: int, loss: Tensor) -> None:
        """Called after a step on `n_images` of `epoch` (from 1); `loss` () is the mean over the batch, on the device."""

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        """Called after an epoch, once its checkpoint is written; `history` holds all epochs so far."""


def check_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """Return callbacks as a tuple; InvalidArgument for one that lacks a method, such as a class in place of an object."""
    expected = "objects with the methods on_epoch_end(epoch, history) and on_train_end(run)"
    if not isinstance(callbacks, Iterable) or isinstance(callbacks, str):
        raise InvalidArgument("callbacks", type(callbacks).__name__, f"a list of {expected}")
    checked: Sequence[Any] = tuple(callbacks)
    for callback in checked:
        if isinstance(callback, type) or not isinstance(callback, Callback):
            name = callback.__name__ if isinstance(callback, type) else type(callback).__name__
            raise InvalidArgument("callbacks", name, expected)
    return tuple(checked)

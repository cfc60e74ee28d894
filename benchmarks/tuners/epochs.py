"""Training a trial epoch by epoch on a shared budget, for the tuners that keep no checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from benchmarks.tuners.budget_config import BudgetConfig
from benchmarks.tuners.event_log import EventLog
from nephros.errors import DivergedError
from nephros.training.history import EpochMetrics
from nephros.training.trainer import Trainer
from nephros.tuning.dimension import apply_params
from nephros.tuning.trial import TrialRunner


class NullCallback:
    """A Listener that needs to hear nothing."""

    def on_step_end(self, epoch: int, n_images: int, loss: Tensor) -> None:
        """Nothing is told of single steps."""

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        """The loop below looks at the fit's history."""


def start_trial(
    config: BudgetConfig, runner: TrialRunner, event_log: EventLog, trial: str, params: Mapping[str, Any]
) -> Trainer:
    """Note a trial and return its fit, with fresh weights."""
    event_log.log_trial(trial, params)
    return runner.make_trainer(apply_params(config.base_recipe, params))


def train_epoch(trainer: Trainer, event_log: EventLog, trial: str) -> EpochMetrics | None:
    """Train and judge one epoch, and note it; None, and nothing is trained, when the budget is spent.

    Raises Diverged, which costs an epoch too.
    """
    if not event_log.claim_epoch():
        return None
    epochs_done = len(trainer.history)
    try:
        trainer.run(None, NullCallback(), stop_epoch=epochs_done + 1)
    except DivergedError:
        event_log.log_epoch(trial, epochs_done + 1, None, 0.0)
        raise
    row = trainer.history[-1]
    event_log.log_epoch(trial, row.epoch, row.val_accuracy, row.seconds)
    return row


def train_epochs(trainer: Trainer, event_log: EventLog, trial: str) -> Iterator[EpochMetrics]:
    """Yield the trial's epochs to its end, or to the end of the budget."""
    while not trainer.finished:
        row = train_epoch(trainer, event_log, trial)
        if row is None:
            return
        yield row

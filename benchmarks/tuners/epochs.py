"""Training a trial epoch by epoch on a shared budget, for tuners without nephros's checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.tuners.budget_config import BudgetConfig
from benchmarks.tuners.event_log import EventLog
from nephros.errors import DivergedError
from nephros.training.history import EpochMetrics
from nephros.training.progress import NullCallback
from nephros.training.trainer import Trainer
from nephros.tuning.space import apply_params
from nephros.tuning.trial import TrialRunner


def start_trial(
    config: BudgetConfig, runner: TrialRunner, event_log: EventLog, trial: str, params: Mapping[str, Any]
) -> Trainer:
    """Log a trial and return its Trainer, with freshly initialized weights."""
    event_log.log_trial(trial, params)
    return runner.make_trainer(apply_params(config.base_recipe, params))


def train_epoch(trainer: Trainer, event_log: EventLog, trial: str) -> EpochMetrics | None:
    """Train, validate and log one epoch; return None without training when the budget is spent.

    Raises DivergedError, which costs an epoch too.
    """
    if not event_log.claim_epoch():
        return None
    epochs_done = len(trainer.history)
    try:
        trainer.run(None, NullCallback(), stop_epoch=epochs_done + 1)
    except DivergedError:
        event_log.log_epoch(trial, epochs_done + 1, None, 0.0)
        raise
    metrics = trainer.history[-1]
    event_log.log_epoch(trial, metrics.epoch, metrics.val_accuracy, metrics.seconds)
    return metrics


def train_epochs(trainer: Trainer, event_log: EventLog, trial: str) -> Iterator[EpochMetrics]:
    """Train the trial to its end or the end of the budget, yielding each epoch."""
    while not trainer.finished:
        metrics = train_epoch(trainer, event_log, trial)
        if metrics is None:
            return
        yield metrics

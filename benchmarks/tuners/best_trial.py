"""A run's best epoch, trained again and evaluated on the whole validation split."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.tuners.budget_config import BudgetConfig
from benchmarks.tuners.event_log import EpochEvent, EventLog
from nephros.data.batches import BatchLoader
from nephros.evaluation.scoring import evaluate_model
from nephros.training.progress import NullCallback
from nephros.tuning.space import apply_params


@dataclass(frozen=True)
class BestTrial:
    """The configuration and the epoch with the best validation accuracy, of all epochs of all trials."""

    trial: str
    epoch: int
    value: float
    """Validation accuracy on the images that trials see."""
    retrained_value: float
    """The same after training again: equal on the same machine with the same torch."""
    full_val_accuracy: float
    """Accuracy on the whole validation split."""


def best_event(events: list[EpochEvent]) -> EpochEvent:
    """Return the epoch with the best validation accuracy, the earliest of equal ones."""
    return max((event for event in events if event.value is not None), key=lambda event: event.value or 0.0)


def evaluate_best(config: BudgetConfig) -> BestTrial:
    """Train the best configuration to its best epoch again, and evaluate it.

    No tuner keeps the weights of every epoch, so this treats all alike: equal seeds and numbers of threads give equal weights.
    """
    event_log = EventLog(config)
    best = best_event(event_log.events())
    dataset = config.load_data()
    runner = config.make_runner(config.tuning_subset(dataset))
    trainer = runner.make_trainer(apply_params(config.base_recipe, event_log.params()[best.trial]))
    trainer.run(None, NullCallback(), stop_epoch=best.epoch)
    val = BatchLoader(dataset.val, runner.device, channels_last=trainer.recipe.channels_last)
    accuracy = evaluate_model(trainer.model, val, dataset.class_names).accuracy
    assert best.value is not None
    return BestTrial(best.trial, best.epoch, best.value, trainer.history[-1].val_accuracy, float(accuracy))

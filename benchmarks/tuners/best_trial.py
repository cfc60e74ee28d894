"""What a run's best epoch is worth: trained once more, then judged on the whole validation split."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.tuners.budget_config import BudgetConfig
from benchmarks.tuners.epochs import NullCallback
from benchmarks.tuners.event_log import EpochEvent, EventLog
from nephros.data.batches import BatchLoader
from nephros.evaluation.scoring import evaluate_model
from nephros.tuning.dimension import apply_params


@dataclass(frozen=True)
class BestTrial:
    """The configuration and the epoch with the best validation accuracy, of all epochs of all trials."""

    trial: str
    epoch: int
    value: float
    """On the part of validation that trials see."""
    retrained_value: float
    """The same, trained once more: equal where the machine and torch are the same."""
    full_val_accuracy: float
    """Accuracy on all of validation."""


def best_event(events: list[EpochEvent]) -> EpochEvent:
    """Return the epoch with the best validation accuracy; of equal ones the earliest."""
    return max((event for event in events if event.value is not None), key=lambda event: event.value or 0.0)


def evaluate_best(config: BudgetConfig) -> BestTrial:
    """Train the best configuration to its best epoch again, and judge it.

    No tuner keeps the weights of every epoch, so this is how one rule can serve all: with the seed and the number of
    threads the same, so are the weights.
    """
    event_log = EventLog(config)
    best = best_event(event_log.events())
    dataset = config.load_data()
    runner = config.make_runner(config.tuning_subset(dataset))
    trainer = runner.make_trainer(apply_params(config.base_recipe, event_log.params()[best.trial]))
    trainer.run(None, NullCallback(), stop_epoch=best.epoch)
    val = BatchLoader(dataset.val, runner.device, channels_last=trainer.recipe.channels_last)
    accuracy = evaluate_model(trainer.model, val, dataset.class_names).metrics["accuracy"]
    assert best.value is not None
    return BestTrial(best.trial, best.epoch, best.value, trainer.history[-1].val_accuracy, float(accuracy))

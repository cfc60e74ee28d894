"""What a run's best epoch is worth: trained once more, then judged on the whole validation split."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.tuners.budget_config import Terms
from benchmarks.tuners.epochs import Silent
from benchmarks.tuners.event_log import Event, Ledger
from nephros.data.batches import Batches
from nephros.evaluation.scoring import evaluate
from nephros.tuning.dimension import laid_over


@dataclass(frozen=True)
class Choice:
    """The configuration and the epoch with the best validation accuracy, of all epochs of all trials."""

    trial: str
    epoch: int
    value: float
    """On the part of validation that trials see."""
    again: float
    """The same, trained once more: equal where the machine and torch are the same."""
    whole: float
    """Accuracy on all of validation."""


def best_of(events: list[Event]) -> Event:
    """Return the epoch with the best validation accuracy; of equal ones the earliest."""
    return max((event for event in events if event.value is not None), key=lambda event: event.value or 0.0)


def judge(terms: Terms) -> Choice:
    """Train the best configuration to its best epoch again, and judge it.

    No tuner keeps the weights of every epoch, so this is how one rule can serve all: with the seed and the number of
    threads the same, so are the weights.
    """
    ledger = Ledger(terms)
    best = best_of(ledger.events())
    dataset = terms.data()
    bench = terms.bench(terms.cut(dataset))
    fit = bench.fit(laid_over(terms.base, ledger.params()[best.trial]))
    fit.run(None, Silent(), until=best.epoch)
    val = Batches(dataset.val, bench.device, channels_last=fit.recipe.channels_last)
    whole = evaluate(fit.model, val, dataset.class_names).metrics["accuracy"]
    assert best.value is not None
    return Choice(best.trial, best.epoch, best.value, fit.history[-1].val_accuracy, float(whole))

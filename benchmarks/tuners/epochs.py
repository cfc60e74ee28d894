"""Training a trial epoch by epoch on a shared budget, for the tuners that keep no checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from benchmarks.tuners.budget_config import Terms
from benchmarks.tuners.event_log import Ledger
from nephros.errors import Diverged
from nephros.training.history import Epoch
from nephros.training.trainer import Fit
from nephros.tuning.dimension import laid_over
from nephros.tuning.trial import Bench


class Silent:
    """A Listener that needs to hear nothing."""

    def step(self, epoch: int, images: int, loss: Tensor) -> None:
        """Nothing is told of single steps."""

    def epoch(self, row: Epoch, rows: list[Epoch]) -> None:
        """The loop below looks at the fit's history."""


def begin(terms: Terms, bench: Bench, ledger: Ledger, trial: str, params: Mapping[str, Any]) -> Fit:
    """Note a trial and return its fit, with fresh weights."""
    ledger.begin(trial, params)
    return bench.fit(laid_over(terms.base, params))


def advance(fit: Fit, ledger: Ledger, trial: str) -> Epoch | None:
    """Train and judge one epoch, and note it; None, and nothing is trained, when the budget is spent.

    Raises Diverged, which costs an epoch too.
    """
    if not ledger.take():
        return None
    done = len(fit.history)
    try:
        fit.run(None, Silent(), until=done + 1)
    except Diverged:
        ledger.tell(trial, done + 1, None, 0.0)
        raise
    row = fit.history[-1]
    ledger.tell(trial, row.epoch, row.val_accuracy, row.seconds)
    return row


def values(fit: Fit, ledger: Ledger, trial: str) -> Iterator[Epoch]:
    """Yield the trial's epochs to its end, or to the end of the budget."""
    while not fit.over:
        row = advance(fit, ledger, trial)
        if row is None:
            return
        yield row

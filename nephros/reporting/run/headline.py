"""The numbers at the top of the page, each with its 95 % interval where one can be had."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nephros.data.dataset import WORD
from nephros.evaluation.intervals import macro_auc_interval, macro_f1_interval
from nephros.evaluation.metrics import wilson_interval
from nephros.evaluation.scoring import Evaluation
from nephros.reporting.run.run_contents import Contents

Interval = tuple[float, float]


@dataclass(frozen=True)
class Number:
    """One figure with its name."""

    name: str
    value: float | None
    interval: Interval | None = None
    """95 %; None where it was not worked out."""


@dataclass(frozen=True)
class Headline:
    """How the run did on one split."""

    split: str
    """val or test."""
    word: str
    """The split's name in prose."""
    n: int
    """Cells of the split."""
    accuracy: float
    interval: Interval
    """95 %, Wilson score."""
    others: list[Number]
    note: str = ""
    """What tells these numbers from final ones."""


def headlines(contents: Contents) -> list[Headline]:
    """Return the headline of test, if it has been scored, then of validation; an unfinished run's is its last epoch's."""
    found = [
        _scored(contents.evaluations[split], split, contents.complete)
        for split in ("test", "val")
        if split in contents.evaluations
    ]
    return found or ([_last_epoch(contents)] if contents.history else [])


def _scored(evaluation: Evaluation, split: str, complete: bool) -> Headline:
    m = evaluation.metrics
    auc_interval = macro_auc_interval(evaluation.probabilities, evaluation.labels, m["macro_over"])
    others = [
        Number("AUC, mean of classes", m["auc"], auc_interval),
        Number("macro F1", m["macro_f1"], macro_f1_interval(np.array(m["confusion_matrix"]))),
        Number("loss, nats", m["loss"]),
        Number("calibration error", m["expected_calibration_error"]),
    ]
    interval = (m["accuracy_interval"]["low"], m["accuracy_interval"]["high"])
    note = "" if complete else "the run has not finished"
    return Headline(split, WORD[split], m["n"], m["accuracy"], interval, others, note)


def _last_epoch(contents: Contents) -> Headline:
    last = contents.history[-1]
    n = sum(contents.info.class_counts["val"])
    others = [
        Number("AUC, mean of classes", None if math.isnan(last.val_auc) else last.val_auc),
        Number("macro F1", last.val_macro_f1),
        Number("loss, nats", last.val_loss),
    ]
    note = f"after epoch {last.epoch} of {contents.recipe.epochs}; the run has not finished"
    interval = wilson_interval(round(last.val_accuracy * n), n)
    return Headline("val", WORD["val"], n, last.val_accuracy, interval, others, note)

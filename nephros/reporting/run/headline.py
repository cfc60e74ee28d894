"""The metrics at the top of the page, with 95% intervals where there are any."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nephros.data.split import SPLIT_ADJECTIVES
from nephros.evaluation.confusions import never_predicted
from nephros.evaluation.intervals import wilson_interval
from nephros.evaluation.largest_class import (
    LargestClass,
    largest_class,
    largest_class_of_split,
    no_better_than_largest_class,
)
from nephros.evaluation.metrics import Metrics
from nephros.evaluation.scoring import Evaluation
from nephros.evaluation.significance import macro_auc_interval, macro_f1_interval
from nephros.reporting.run.run_contents import RunContents

Interval = tuple[float, float]


@dataclass(frozen=True)
class HeadlineMetric:
    """One metric with its name."""

    name: str
    value: float | None
    interval: Interval | None = None
    """95%; None where none is computed."""


@dataclass(frozen=True)
class Headline:
    """Metrics of the run on one split."""

    split: str
    """val or test."""
    where: str
    """What was classified, in prose, such as ``on validation``, or ``in cross-validation`` among the images of train."""
    n_images: int
    accuracy: float
    interval: Interval
    """95%, as `nephros.evaluation.intervals` computes it."""
    other_metrics: list[HeadlineMetric]
    baseline: LargestClass
    """What always predicting the largest class of the training images gives on these images."""
    never_predicted: str = ""
    """Classes that the run never predicts, such as ``2 of 8 (Podocytes; Leukocytes)``; empty before its evaluation."""
    note: str = ""
    """Why these metrics are not final, or say little; else empty."""


def headlines(contents: RunContents) -> list[Headline]:
    """Return the headlines of test and validation, as far as evaluated; else that of the last epoch, if there is one.

    That of a fine-tuned run's cross-validation comes before validation where that has fewer images.
    """
    evaluated = [
        _from_evaluation(contents, contents.evaluations[split], split, f"on {SPLIT_ADJECTIVES[split]}")
        for split in ("test", "val")
        if split in contents.evaluations
    ]
    if evaluated and contents.cross_validation is not None:
        headline = _from_evaluation(contents, contents.cross_validation, "val", "in cross-validation")
        is_larger = evaluated[-1].split == "val" and headline.n_images > evaluated[-1].n_images
        evaluated.insert(len(evaluated) - 1 if is_larger else len(evaluated), headline)
    return evaluated or ([_from_last_epoch(contents)] if contents.history else [])


def _from_evaluation(contents: RunContents, evaluation: Evaluation, split: str, where: str) -> Headline:
    metrics = evaluation.metrics
    auc_interval, f1_interval = None, None
    if not metrics.accuracy_interval.counts_groups:  # of images in groups these would be too narrow
        auc_interval = macro_auc_interval(evaluation.probabilities, evaluation.labels, metrics.macro_classes)
        f1_interval = macro_f1_interval(np.array(metrics.confusion_matrix))
    other_metrics = [
        HeadlineMetric("macro AUC", metrics.auc, auc_interval),
        HeadlineMetric("macro PR-AUC", metrics.pr_auc),
        HeadlineMetric("macro F1", metrics.macro_f1, f1_interval),
        HeadlineMetric("loss (nats per image)", metrics.loss),
        HeadlineMetric("calibration error", metrics.expected_calibration_error),
    ]
    interval = (metrics.accuracy_interval.low, metrics.accuracy_interval.high)
    notes = [] if contents.is_complete else ["the run has not finished"]
    if sentence := no_better_than_largest_class(contents.info, metrics):
        notes.append(sentence[0].lower() + sentence[1:].partition(":")[0])
    return Headline(
        split=split,
        where=where,
        n_images=metrics.n,
        accuracy=metrics.accuracy,
        interval=interval,
        other_metrics=other_metrics,
        baseline=largest_class(contents.info, metrics),
        never_predicted=_describe_never_predicted(contents, metrics),
        note="; ".join(notes),
    )


def _describe_never_predicted(contents: RunContents, metrics: Metrics) -> str:
    names, missing = contents.class_names, never_predicted(metrics.confusion_matrix)
    if not missing:
        return f"none of {len(names)}"
    predicted = [name for c, name in enumerate(names) if c not in missing]
    listed = (
        f"all but {'; '.join(predicted)}" if len(predicted) < 3 < len(missing) else "; ".join(names[c] for c in missing)
    )
    return f"{len(missing)} of {len(names)} ({listed})"


def _from_last_epoch(contents: RunContents) -> Headline:
    last = contents.history[-1]
    n_images = sum(contents.info.class_counts["val"])
    other_metrics = [
        HeadlineMetric("macro AUC", None if math.isnan(last.val_auc) else last.val_auc),
        HeadlineMetric("macro F1", last.val_macro_f1),
        HeadlineMetric("loss (nats per image)", last.val_loss),
    ]
    note = f"after epoch {last.epoch} of {contents.recipe.epochs}; the run has not finished"
    interval = wilson_interval(round(last.val_accuracy * n_images), n_images)
    return Headline(
        split="val",
        where=f"on {SPLIT_ADJECTIVES['val']}",
        n_images=n_images,
        accuracy=last.val_accuracy,
        interval=interval,
        other_metrics=other_metrics,
        baseline=largest_class_of_split(contents.info, "val"),
        note=note,
    )

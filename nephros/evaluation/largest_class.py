"""The least that a classifier must beat: always predicting the largest class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nephros.evaluation.intervals import wilson_interval
from nephros.evaluation.metrics import Metrics
from nephros.runs import RunInfo


@dataclass(frozen=True)
class LargestClass:
    """The class with most training images, and the accuracy of always predicting it."""

    name: str
    accuracy: float


def largest_class(info: RunInfo, metrics: Metrics) -> LargestClass:
    """Return the largest class of a run's training images, with its share of the images that `metrics` are on."""
    label = int(np.argmax(info.class_counts["train"]))
    return LargestClass(info.class_names[label], metrics.per_class[label].support / metrics.n)


def largest_class_of_split(info: RunInfo, split: str) -> LargestClass:
    """Return the largest class of a run's training images, with its share of one of the run's own splits."""
    label, counts = int(np.argmax(info.class_counts["train"])), info.class_counts[split]
    return LargestClass(info.class_names[label], counts[label] / max(1, sum(counts)))


def no_better_than_largest_class(info: RunInfo, metrics: Metrics) -> str:
    """Return a sentence if the accuracy is no better than the largest class's, within its 95% interval; else "".

    An accuracy is better only where its whole interval lies above what always predicting that class gives. The few validation
    images of a fine-tuned run can't tell: its accuracy in cross-validation, over many more images, stands in for theirs. The
    interval counts images there, also where folds are by group: the question is whether anything was learned, which two or three
    stacks show well enough, and not how accurate the model is on another one.
    """
    if info.finetuning is not None and metrics.split != "test":
        rows = {row["method"]: row for row in info.finetuning["methods"]}
        kept, baseline = rows[info.finetuning["method"]], rows.get("largest-class")
        if baseline is not None:
            counts = info.class_counts["train"]
            interval = wilson_interval(round(kept["accuracy"] * sum(counts)), sum(counts))
            name = info.class_names[int(np.argmax(counts))]
            return _sentence(
                kept["accuracy"], interval, " in cross-validation", LargestClass(name, baseline["accuracy"])
            )
    split = {"val": " on validation", "test": " on test", "train": " on train"}.get(metrics.split, " on validation")
    low, high = metrics.accuracy_interval.low, metrics.accuracy_interval.high
    return _sentence(metrics.accuracy, (low, high), split, largest_class(info, metrics))


def _sentence(accuracy: float, interval: tuple[float, float], where: str, baseline: LargestClass) -> str:
    low, high = interval
    if low > baseline.accuracy:
        return ""
    verdict = "Not clearly better" if accuracy > baseline.accuracy else "No better"
    return (
        f"{verdict} than always predicting the largest class: accuracy {accuracy:.1%}{where} (95% interval {low:.1%} to "
        f"{high:.1%}), always {baseline.name} {baseline.accuracy:.1%}."
    )

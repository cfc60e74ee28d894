"""What held-out predictions say about the labels: which look wrong, which classes need more, and what more would bring."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.data.subset import stratified_indices
from nephros.evaluation.intervals import wilson_interval
from nephros.evaluation.metrics import Floats, Labels, Metrics
from nephros.finetuning.folds import Folds
from nephros.finetuning.head import LinearHead, fit_head
from nephros.text_tables import csv_table, join_words

CURVE_SHARES = (0.25, 0.5, 1.0)
"""Shares of the labels at which the learning curve is measured."""


@dataclass(frozen=True)
class SuspiciousLabel:
    """A label that the model, trained on other images, confidently contradicts."""

    index: int
    """Of the image in the train split, from 0."""
    image: str
    """Its name in the source, as `nephros.data.split.Split.names` has it, or such as ``training image 12``."""
    label: str
    label_probability: float
    suggested: str
    suggested_probability: float


def suspicious_labels_csv(rows: Sequence[SuspiciousLabel]) -> str:
    """Return suspicious labels as CSV text, with a header."""
    headers = [field.name for field in dataclasses.fields(SuspiciousLabel)]
    return csv_table(headers, [[_cell(getattr(row, name)) for name in headers] for row in rows])


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class ClassRecall:
    """How well a class is recognized, in cross-validation."""

    name: str
    n_labels: int
    recall: float
    low: float
    """95% Wilson interval."""
    high: float


def suspicious_labels(
    probabilities: Floats, labels: Labels, class_names: Sequence[str], image_names: NDArray[np.str_] | None = None
) -> list[SuspiciousLabel]:
    """Return the labels that look wrong, the least probable first.

    Confident learning (Northcutt, Jiang and Chuang, JAIR 70, 2021): a label is suspicious if another class is most probable,
    and at least as probable as that class is on average for the images that carry it. `probabilities` (n, classes) are
    held-out predictions. `image_names` (n,) are those of the train split.
    """
    n_classes = probabilities.shape[1]
    thresholds = np.array(
        [probabilities[labels == c, c].mean() if (labels == c).any() else np.inf for c in range(n_classes)]
    )
    predicted = probabilities.argmax(axis=1)
    rows = np.arange(len(labels))
    confident = (predicted != labels) & (probabilities[rows, predicted] >= thresholds[predicted])
    order = sorted(np.flatnonzero(confident), key=lambda i: float(probabilities[i, labels[i]]))
    return [
        SuspiciousLabel(
            int(i),
            f"training image {i}" if image_names is None else str(image_names[i]),
            class_names[labels[i]],
            float(probabilities[i, labels[i]]),
            class_names[predicted[i]],
            float(probabilities[i, predicted[i]]),
        )
        for i in order
    ]


def class_recalls(metrics: Metrics) -> list[ClassRecall]:
    """Return the recall of every class; the first is the one that needs labels most, having the lowest lower bound."""
    recalls = []
    for row in metrics.per_class:
        low, high = wilson_interval(metrics.confusion_matrix[row.class_index][row.class_index], row.support)
        recalls.append(ClassRecall(row.name, row.support, row.recall, low, high))
    return sorted(recalls, key=lambda recall: recall.low)


def learning_curve(
    features: NDArray[np.float32], labels: Labels, folds: Folds, heads: Sequence[LinearHead], seed: int
) -> list[tuple[int, float]]:
    """Return (labels, held-out accuracy) of a head on CURVE_SHARES of the labels, stratified, as far as each class keeps one.

    `features` are (n, views, d), and `heads` are fitted to the train part of each fold: they are the curve's end, and those for
    fewer labels have their regularization.
    """
    curve: dict[int, float] = {}
    for share in CURVE_SHARES:
        n_right, n_labels = 0, []
        for (train, held_out), head in zip(folds.splits(), heads, strict=True):
            n = max(len(np.unique(labels[train])), round(share * len(train)))
            if share < 1:
                rows = train[stratified_indices(labels[train], n, seed)]
                head = fit_head(features[rows, 0], labels[rows], len(head.bias), head.C)
            n_right += int((head.predict(features[held_out]).argmax(axis=1) == labels[held_out]).sum())
            n_labels.append(n)
        curve[round(float(np.mean(n_labels)))] = n_right / len(labels)
    return list(curve.items())


def describe_learning_curve(curve: list[tuple[int, float]]) -> str:
    """Return such as ``0.71 with 20 labels, 0.78 with 40 and 0.80 with 80``; empty for a curve of no points."""
    if not curve:
        return ""
    first, *others = [f"{accuracy:.2f} with {n:,}" for n, accuracy in curve]
    return join_words([f"{first} labels", *others])

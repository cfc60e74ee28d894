"""Numbers and curves from probabilities (n, c) and labels (n,): pure functions, no files, no models.

The AUC and accuracy are MedMNIST's: argmax accuracy, and the unweighted mean over classes of the area under each
one-vs-rest ROC curve of that class's score, of two classes the second's (Yang et al., MedMNIST v2, Scientific Data 10,
41, 2023; its evaluator.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

CALIBRATION_BINS = 15
INTERVAL_METHOD = "Wilson score, 95 %"
Z95 = 1.959963984540054


def confusion_matrix(predicted: Labels, labels: Labels, n_classes: int) -> Labels:
    """Return (classes, classes) int64 counts: row = actual class, column = predicted class."""
    return np.bincount(labels * n_classes + predicted, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def mean_cross_entropy(probabilities: Floats, labels: Labels) -> float:
    """Return the mean over images of -ln(probability of the right class), in nats.

    Probabilities below 1e-300 count as that; scikit-learn's log_loss clips at 2.2e-16 instead.
    """
    p_true = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(p_true, 1e-300)).mean())


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share right / n (Wilson, JASA 22, 1927)."""
    p, z = successes / n, Z95
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half_width = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, center - half_width), min(1.0, center + half_width)


def class_roc_curve(probabilities: Floats, labels: Labels, class_index: int) -> tuple[Floats, Floats]:
    """Return false- and true-positive rates of the one-vs-rest ROC curve of class `class_index`."""
    from sklearn.metrics import roc_curve

    false_positive, true_positive, _ = roc_curve(labels == class_index, probabilities[:, class_index])
    return false_positive, true_positive


def class_auc(probabilities: Floats, labels: Labels, class_index: int) -> float | None:
    """Return the area under the one-vs-rest ROC curve of a class; None when the labels lack it, or hold nothing else."""
    from sklearn.metrics import roc_auc_score

    positive = labels == class_index
    if positive.all() or not positive.any():
        return None
    return float(roc_auc_score(positive, probabilities[:, class_index]))


@dataclass(frozen=True)
class CalibrationBin:
    """Images whose top probability falls between two edges."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean top probability; NaN when the bin is empty."""
    accuracy: float
    """Share predicted rightly; NaN when the bin is empty."""


def calibration_curve(probabilities: Floats, labels: Labels) -> list[CalibrationBin]:
    """Return 15 equal-width bins of the top probability, the last closed above (Guo et al., ICML 2017)."""
    confidences = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bin_index = np.minimum((confidences * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    count = np.bincount(bin_index, minlength=CALIBRATION_BINS)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bin_index, weights=confidences, minlength=CALIBRATION_BINS) / count
        accuracy = np.bincount(bin_index, weights=correct, minlength=CALIBRATION_BINS) / count
    edges = np.arange(CALIBRATION_BINS + 1) / CALIBRATION_BINS
    return [
        CalibrationBin(float(edges[i]), float(edges[i + 1]), int(count[i]), float(confidence[i]), float(accuracy[i]))
        for i in range(CALIBRATION_BINS)
    ]


def expected_calibration_error(bins: list[CalibrationBin]) -> float:
    """Return the mean over images of |accuracy - confidence| of their bin."""
    n = sum(b.count for b in bins)
    return sum(b.count * abs(b.accuracy - b.confidence) for b in bins if b.count) / n


def per_class_metrics(probabilities: Floats, labels: Labels, class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return precision, recall, F1, AUC and support of each class; 0 / 0 counts as 0, the AUC of an absent class is None."""
    n_classes = len(class_names)
    matrix = confusion_matrix(probabilities.argmax(axis=1), labels, n_classes)
    rows = []
    for c in range(n_classes):
        true_positives, n_predicted, n_actual = int(matrix[c, c]), int(matrix[:, c].sum()), int(matrix[c].sum())
        rows.append(
            {
                "class": c,
                "name": class_names[c],
                "precision": true_positives / n_predicted if n_predicted else 0.0,
                "recall": true_positives / n_actual if n_actual else 0.0,
                "f1": 2 * true_positives / (n_predicted + n_actual) if n_predicted + n_actual else 0.0,
                "auc": class_auc(probabilities, labels, c),
                "support": n_actual,
            }
        )
    return rows


def compute_metrics(probabilities: Floats, labels: Labels, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Return every number of metrics.json that comes from probabilities and labels alone.

    Macro figures are unweighted means over the classes that the labels hold; `macro_classes` lists them.
    """
    rows = per_class_metrics(probabilities, labels, class_names)
    present_rows = [row for row in rows if row["support"]]
    # Of two classes MedMNIST takes the second's area alone; in exact arithmetic it is the first's, too.
    aucs = [row["auc"] for row in (rows[1:] if len(rows) == 2 else present_rows) if row["auc"] is not None]
    predicted = probabilities.argmax(axis=1)
    n_correct, n = int((predicted == labels).sum()), len(labels)
    low, high = wilson_interval(n_correct, n)

    def macro(key: str) -> float:
        return float(np.mean([row[key] for row in present_rows]))

    return {
        "n": n,
        "accuracy": n_correct / n,
        "accuracy_interval": {"low": low, "high": high, "level": 0.95, "method": INTERVAL_METHOD},
        "loss": mean_cross_entropy(probabilities, labels),
        "auc": float(np.mean(aucs)) if aucs else None,
        "macro_precision": macro("precision"),
        "macro_recall": macro("recall"),
        "macro_f1": macro("f1"),
        "macro_classes": [row["class"] for row in present_rows],
        "expected_calibration_error": expected_calibration_error(calibration_curve(probabilities, labels)),
        "n_calibration_bins": CALIBRATION_BINS,
        "per_class": rows,
        "confusion_matrix": confusion_matrix(predicted, labels, len(class_names)).tolist(),
    }

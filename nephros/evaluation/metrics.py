"""Metrics and curves from probabilities (n, classes) and labels (n,): pure functions, no models.

Accuracy and AUC are defined as MedMNIST defines them: argmax accuracy, and the unweighted mean over classes of the area
under each one-vs-rest ROC curve; with two classes, the area of the second alone (Yang et al., MedMNIST v2, Scientific Data
10, 41, 2023; its evaluator.py).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.class_names import class_name_fault
from nephros.data.provenance import ProvenanceRecord
from nephros.errors import FileError, IncompleteError
from nephros.evaluation.intervals import AccuracyInterval, grouped_accuracy_interval, wilson_interval
from nephros.files import write_json
from nephros.reading import MAX_JSON_BYTES, MalformedContent, decode, file_errors, parse_json, read_text

if TYPE_CHECKING:
    from nephros.runs import RunFolder

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

METRICS_FORMAT = "nephros-metrics-2"
"""Format of metrics.json."""
CONTEXT_FIELDS = (
    "split", "tta_views", "recipe", "recipe_hash", "epoch", "provenance", "images_sha256", "versions", "commit",
)  # fmt: skip
"""Fields of Metrics that say what the metrics were measured on."""
CALIBRATION_BINS = 15
_EVALUATE_AGAIN = "evaluate the run again, with `nephros.evaluate(RUN)`"


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class against the rest; 0 / 0 counts as 0."""

    class_index: int
    name: str
    precision: float
    recall: float
    f1: float
    auc: float | None
    """None where the labels lack the class or hold nothing else."""
    support: int
    """Images of the class."""
    pr_auc: float | None = None
    """Area under the precision-recall curve; None as for `auc`, and in files from before it was stored."""


@dataclass(frozen=True)
class Metrics:
    """Metrics of a model on one split, with what they were measured on: the content of metrics.json.

    Macro averages are unweighted means over the classes that the labels hold (`macro_classes`).
    """

    n: int
    """Images."""
    accuracy: float
    accuracy_interval: AccuracyInterval
    loss: float
    """Mean cross-entropy per image, in nats."""
    auc: float | None
    """Mean one-vs-rest AUC; None where no class has one."""
    macro_precision: float
    macro_recall: float
    macro_f1: float
    macro_classes: tuple[int, ...]
    expected_calibration_error: float
    n_calibration_bins: int
    per_class: tuple[ClassMetrics, ...]
    confusion_matrix: tuple[tuple[int, ...], ...]
    """Counts; row = actual class, column = predicted class."""
    split: str = ""
    """train, val or test; empty for metrics that were not computed from a run, as are the fields below."""
    tta_views: int = 1
    """Views of each image whose predictions were averaged."""
    recipe: str = ""
    recipe_hash: str = ""
    epoch: int | None = None
    """Epoch (from 1) of the weights; None for a classical baseline."""
    provenance: ProvenanceRecord | dict[str, Any] = field(default_factory=dict)
    """Of the data; empty as above."""
    images_sha256: str = ""
    """Digest of the split's images."""
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    pr_auc: float | None = None
    """Mean one-vs-rest area under the precision-recall curve over `macro_classes`; None as for `auc`, and in files from before
    it was stored."""

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as metrics.json holds them."""
        values = dataclasses.asdict(self)
        values["per_class"] = [{"class": row.pop("class_index"), **row} for row in values["per_class"]]
        return {"format": METRICS_FORMAT, **values}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Metrics:
        """Return what `to_dict` returned, also after JSON; MalformedContent for anything else, and for contradictions."""
        if not isinstance(values, dict) or values.get("format") != METRICS_FORMAT:
            raise MalformedContent(f"its format is not {METRICS_FORMAT}, which this version reads")
        values = {key: value for key, value in values.items() if key != "format"}
        if isinstance(rows := values.get("per_class"), list):
            values["per_class"] = [
                {"class_index" if key == "class" else key: value for key, value in row.items()}
                if isinstance(row, dict)
                else row
                for row in rows
            ]
        metrics = decode(cls, values)
        metrics._check()
        return metrics

    def _check(self) -> None:
        """Raise MalformedContent where the numbers contradict one another."""
        matrix, n_classes = self.confusion_matrix, len(self.per_class)
        n_correct = sum(matrix[i][i] for i in range(min(n_classes, len(matrix))) if i < len(matrix[i]))
        rows = self.per_class
        shares = [
            self.accuracy,
            self.macro_precision,
            self.macro_recall,
            self.macro_f1,
            self.expected_calibration_error,
        ]
        shares += [share for row in rows for share in (row.precision, row.recall, row.f1)]
        areas = (self.auc, self.pr_auc, *(row.auc for row in rows), *(row.pr_auc for row in rows))
        shares += [area for area in areas if area is not None]
        interval = self.accuracy_interval
        for is_valid, clause in (
            (
                all(len(row) == n_classes for row in matrix) and len(matrix) == n_classes,
                "'confusion_matrix' is not square",
            ),
            (all(count >= 0 for row in matrix for count in row), "'confusion_matrix' has counts below 0"),
            (self.n == sum(map(sum, matrix)) >= 1, "'n' is not the sum of 'confusion_matrix'"),
            (abs(self.accuracy * self.n - n_correct) < 1e-3, "'accuracy' contradicts 'confusion_matrix'"),
            ([row.class_index for row in rows] == list(range(n_classes)), "'per_class' is in another order"),
            ([row.support for row in rows] == list(map(sum, matrix)), "'support' contradicts 'confusion_matrix'"),
            (set(self.macro_classes) <= set(range(n_classes)), "'macro_classes' has classes that don't exist"),
            (all(0 <= share <= 1 + 1e-9 for share in shares), "a share in it is not from 0 to 1"),
            (
                interval.low <= self.accuracy + 1e-9 and self.accuracy <= interval.high + 1e-9,
                "'accuracy' is outside its interval",
            ),
            (self.loss >= 0, "'loss' is below 0"),
            (self.tta_views >= 1, "'tta_views' is below 1"),
        ):
            if not is_valid:
                raise MalformedContent(clause)
        if fault := class_name_fault([row.name for row in rows]):
            raise MalformedContent(fault)

    def save(self, path: Path) -> None:
        """Write the metrics as JSON."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: Path) -> Metrics:
        """Read what `save` wrote.

        Raises:
            IncompleteError: there is no such file.
            FileError: it is damaged or of another format.
        """
        if not path.exists():
            raise IncompleteError(f"{path} is missing: evaluate the run first, with `nephros.evaluate(RUN)`.")
        with file_errors(path, _EVALUATE_AGAIN):
            return cls.from_dict(parse_json(read_text(path, MAX_JSON_BYTES)))

    @classmethod
    def from_run(cls, folder: RunFolder, split: str, *subfolder: str) -> Metrics:
        """Read a run's metrics on one of its own splits; raises as `load` does, also where they are those of another run."""
        path = folder.file(split, *subfolder, "metrics.json")
        metrics, info = cls.load(path), folder.info()
        counts = info.class_counts[split]
        for key, value, expected in (
            ("split", metrics.split, split),
            ("recipe_hash", metrics.recipe_hash, info.recipe_hash),
            ("provenance.sha256", metrics.provenance.get("sha256"), info.data["sha256"]),
            ("per_class.name", [row.name for row in metrics.per_class], info.class_names),
            ("per_class.support", [row.support for row in metrics.per_class], counts),
        ):
            if value and value != expected:
                clause = f"'{key}' is not that of run.json: it belongs to another run"
                raise FileError(path, f"{path} can't be read ({clause}): {_EVALUATE_AGAIN}.")
        return metrics


def compute_metrics(
    probabilities: Floats, labels: Labels, class_names: tuple[str, ...], groups: NDArray[np.str_] | None = None
) -> Metrics:
    """Return every metric that comes from probabilities (n, classes) and labels (n,) alone.

    `groups` (n,), such as patients, are those of images that were held out by group: the interval of the accuracy counts them.
    """
    rows = per_class_metrics(probabilities, labels, class_names)
    present = [row for row in rows if row.support]
    # With two classes MedMNIST takes the second's AUC alone; in exact arithmetic the first's is the same.
    aucs = [row.auc for row in (rows[1:] if len(rows) == 2 else present) if row.auc is not None]
    pr_aucs = [row.pr_auc for row in present if row.pr_auc is not None]
    predicted = probabilities.argmax(axis=1)
    matrix = confusion_matrix(predicted, labels, len(class_names))
    n, n_correct = len(labels), int(matrix.trace())
    interval = AccuracyInterval(*wilson_interval(n_correct, n))
    if groups is not None:
        interval = grouped_accuracy_interval(predicted == labels, groups)
    return Metrics(
        n=n,
        accuracy=n_correct / n,
        accuracy_interval=interval,
        loss=mean_cross_entropy(probabilities, labels),
        auc=float(np.mean(aucs)) if aucs else None,
        macro_precision=float(np.mean([row.precision for row in present])),
        macro_recall=float(np.mean([row.recall for row in present])),
        macro_f1=float(np.mean([row.f1 for row in present])),
        macro_classes=tuple(row.class_index for row in present),
        expected_calibration_error=expected_calibration_error(calibration_curve(probabilities, labels)),
        n_calibration_bins=CALIBRATION_BINS,
        per_class=tuple(rows),
        confusion_matrix=tuple(map(tuple, matrix.tolist())),
        pr_auc=float(np.mean(pr_aucs)) if pr_aucs else None,
    )


def per_class_metrics(probabilities: Floats, labels: Labels, class_names: tuple[str, ...]) -> list[ClassMetrics]:
    """Return the metrics of each class against the rest."""
    from sklearn.metrics import precision_recall_fscore_support

    indices = range(len(class_names))
    columns = precision_recall_fscore_support(labels, probabilities.argmax(axis=1), labels=indices, zero_division=0)
    return [
        ClassMetrics(
            class_index=c,
            name=class_names[c],
            precision=float(precision),
            recall=float(recall),
            f1=float(f1),
            auc=class_auc(probabilities, labels, c),
            support=int(n),
            pr_auc=class_pr_auc(probabilities, labels, c),
        )
        for c, (precision, recall, f1, n) in enumerate(zip(*columns, strict=True))
    ]


def confusion_matrix(predicted: Labels, labels: Labels, n_classes: int) -> Labels:
    """Return (classes, classes) int64 counts: row = actual class, column = predicted class."""
    return np.bincount(labels * n_classes + predicted, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def mean_cross_entropy(probabilities: Floats, labels: Labels) -> float:
    """Return the mean over images of -ln(probability of the actual class), in nats.

    Probabilities are clipped at 1e-300; scikit-learn's log_loss clips at 2.2e-16.
    """
    p_true = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(p_true, 1e-300)).mean())


def class_roc_curve(probabilities: Floats, labels: Labels, class_index: int) -> tuple[Floats, Floats]:
    """Return the false- and true-positive rates of a class's one-vs-rest ROC curve."""
    from sklearn.metrics import roc_curve

    false_positive, true_positive, _ = roc_curve(labels == class_index, probabilities[:, class_index])
    return false_positive, true_positive


def class_auc(probabilities: Floats, labels: Labels, class_index: int) -> float | None:
    """Return the area under a class's one-vs-rest ROC curve; None where the labels lack the class or hold nothing else."""
    from sklearn.metrics import roc_auc_score

    positive = labels == class_index
    if positive.all() or not positive.any():
        return None
    return float(roc_auc_score(positive, probabilities[:, class_index]))


def class_pr_curve(probabilities: Floats, labels: Labels, class_index: int) -> tuple[Floats, Floats]:
    """Return recall and precision of a class's one-vs-rest precision-recall curve, by rising recall, from (0, 1)."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(labels == class_index, probabilities[:, class_index])
    return recall[::-1], precision[::-1]


def class_pr_auc(probabilities: Floats, labels: Labels, class_index: int) -> float | None:
    """Return the area under a class's one-vs-rest precision-recall curve; None where the labels lack the class or hold no other.

    It is average precision, the sum over thresholds of precision times the step in recall, without interpolation, which would
    be too optimistic (Davis and Goadrich, ICML 2006; scikit-learn's average_precision_score). Chance is the class's share.
    """
    from sklearn.metrics import average_precision_score

    positive = labels == class_index
    if positive.all() or not positive.any():
        return None
    return float(average_precision_score(positive, probabilities[:, class_index]))


@dataclass(frozen=True)
class CalibrationBin:
    """Images whose confidence, the top class's probability, falls between two edges."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean confidence; NaN when the bin is empty."""
    accuracy: float
    """NaN when the bin is empty."""


def calibration_curve(probabilities: Floats, labels: Labels) -> list[CalibrationBin]:
    """Return 15 bins of confidence, of equal width, the last one closed above (Guo et al., ICML 2017)."""
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

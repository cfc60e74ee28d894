"""A fine-tuned run on its page: its methods in cross-validation, the classes that need labels, and the labels that look wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nephros.data.dataset import Dataset
from nephros.data.volumes import IndexedImages, SlicesTiles
from nephros.evaluation.held_out import HeldOutPredictions
from nephros.evaluation.intervals import accuracy_by_group
from nephros.evaluation.largest_class import no_better_than_largest_class
from nephros.finetuning.choice import explain_choice
from nephros.finetuning.label_review import (
    ClassRecall,
    SuspiciousLabel,
    class_recalls,
    describe_learning_curve,
    suspicious_labels,
)
from nephros.reporting.run.mistakes import Tile, thumbnail
from nephros.reporting.run.run_contents import RunContents
from nephros.runs import FinetuningRecord, MethodRecord, describe_folds

MAX_SUSPICIOUS = 24
"""Suspicious labels on the page; the run's suspicious_labels.csv has all."""


@dataclass(frozen=True)
class FinetuningReview:
    """What cross-validation over the train split says."""

    record: FinetuningRecord
    kept: MethodRecord
    folds: str
    """Such as ``5-fold cross-validation by group``."""
    interval_note: str
    """What the intervals of folds by group are of; empty for folds by image."""
    n_images: int
    choice: str
    """Why the method was kept where another is more accurate; else empty."""
    recalls: list[ClassRecall]
    """The class that needs labels most comes first."""
    learning_curve: str
    """Accuracy of the head by the number of labels; empty where that is unknown."""
    suspicious: list[SuspiciousLabel]
    """The least probable first; at most MAX_SUSPICIOUS."""
    n_suspicious: int
    tiles: list[Tile]
    """The cell of each of `suspicious`; empty where the data is not at hand."""


def review_finetuning(contents: RunContents, dataset: Dataset | None) -> FinetuningReview | None:
    """Return the review of a fine-tuned run, with images from its data; None for any other run.

    Raises:
        FileError: the stored predictions of cross-validation are damaged.
    """
    record, evaluation, held_out = contents.info.finetuning, contents.cross_validation, contents.held_out
    if record is None or evaluation is None or held_out is None:
        return None
    metrics = evaluation.metrics
    class_names = contents.class_names
    train = dataset.train if dataset is not None and np.array_equal(dataset.train.labels, held_out.labels) else None
    suspicious = []
    if not no_better_than_largest_class(contents.info, metrics):
        names = None if train is None else train.names
        suspicious = suspicious_labels(held_out.probabilities, held_out.labels, class_names, names)
    tiles = []
    if dataset is not None and train is not None:
        images: IndexedImages = SlicesTiles(train.images) if dataset.is_volumetric else train.images
        tiles = [
            Tile(thumbnail(images[row.index]), f"{row.image}, labeled {row.label} ({contents.title})")
            for row in suspicious[:MAX_SUSPICIOUS]
        ]
    return FinetuningReview(
        record,
        next(row for row in record["methods"] if row["method"] == record["method"]),
        describe_folds(record),
        _interval_note(record, held_out),
        len(held_out.labels),
        explain_choice(record["method"], {row["method"]: row["accuracy"] for row in record["methods"]}),
        class_recalls(metrics),
        describe_learning_curve([(point["labels"], point["accuracy"]) for point in record.get("learning_curve", [])]),
        suspicious[:MAX_SUSPICIOUS],
        len(suspicious),
        tiles,
    )


def _interval_note(record: FinetuningRecord, held_out: HeldOutPredictions) -> str:
    if not record["by_group"]:
        return ""
    if "interval_method" not in record or held_out.groups is None:
        return "The intervals count the images of a group as if they were independent, and are too narrow for other groups."
    rows = accuracy_by_group(held_out.probabilities.argmax(axis=1) == held_out.labels, held_out.groups)
    return (
        f"The intervals are for images of other groups, such as patients or stacks, estimated from the {len(rows)} here: on "
        f"them the accuracy of {record['method']} is {rows[0].accuracy:.2f} to {rows[-1].accuracy:.2f}."
    )

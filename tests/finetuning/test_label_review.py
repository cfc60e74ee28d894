"""The table of suspicious labels is text, whatever the classes are called."""

from __future__ import annotations

import csv

import numpy as np

from nephros.finetuning.label_review import (
    SuspiciousLabel,
    describe_learning_curve,
    suspicious_labels,
    suspicious_labels_csv,
)


def test_class_names_are_no_formulas() -> None:
    rows = [SuspiciousLabel(3, "a/3.png", "=1+1", 0.0123456, 'a "b", c', 0.9)]
    (row,) = csv.DictReader(suspicious_labels_csv(rows).splitlines())
    assert row["label"] != "=1+1"
    assert "=1+1" in row["label"]
    assert (row["index"], row["suggested"], row["suggested_probability"]) == ("3", 'a "b", c', "0.9000")
    assert suspicious_labels_csv([]).splitlines() == [
        "index,image,label,label_probability,suggested,suggested_probability"
    ]


def test_an_image_is_called_what_its_source_calls_it() -> None:
    probabilities, labels = np.array([[0.9, 0.1], [0.2, 0.8], [0.95, 0.05], [0.1, 0.9]]), np.array([0, 1, 1, 1])
    (row,) = suspicious_labels(probabilities, labels, ("a", "b"), np.array(["0.png", "1.png", "b/2.png", "3.png"]))
    assert (row.index, row.image, row.label, row.suggested) == (2, "b/2.png", "b", "a")
    (row,) = suspicious_labels(probabilities, labels, ("a", "b"))
    assert row.image == "training image 2"


def test_a_learning_curve_as_text() -> None:
    assert describe_learning_curve([(20, 0.714), (1400, 0.8)]) == "0.71 with 20 labels and 0.80 with 1,400"
    assert describe_learning_curve([]) == ""

"""The table of suspicious labels is text, whatever the classes are called."""

from __future__ import annotations

import csv

from nephros.finetuning.label_review import SuspiciousLabel, suspicious_labels_csv


def test_class_names_are_no_formulas() -> None:
    rows = [SuspiciousLabel(3, "=1+1", 0.0123456, 'a "b", c', 0.9)]
    (row,) = csv.DictReader(suspicious_labels_csv(rows).splitlines())
    assert row["label"] != "=1+1"
    assert "=1+1" in row["label"]
    assert (row["index"], row["suggested"], row["suggested_probability"]) == ("3", 'a "b", c', "0.9000")
    assert suspicious_labels_csv([]).splitlines() == ["index,label,label_probability,suggested,suggested_probability"]

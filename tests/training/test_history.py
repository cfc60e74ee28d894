"""Training history: its CSV file, and which epoch is better."""

from __future__ import annotations

from pathlib import Path

import pytest

from nephros.errors import FileError
from nephros.training.history import EpochMetrics, history_to_csv, read_history


def test_history_is_read_back_from_csv(tmp_path: Path) -> None:
    rows = [
        EpochMetrics(1, 0.1, 1.5, 0.3, 1.4, 0.35, 0.2, float("nan"), 2.0, 100.0),
        EpochMetrics(2, 0.1, 1.0, 1.0, 1.0, 1.0, 1.0, 0.9, 2.0, 3.0),
    ]
    path = tmp_path / "history.csv"
    path.write_text(history_to_csv(rows))
    restored = read_history(path)
    assert restored[1] == rows[1]
    assert str(restored) == str(rows)
    path.write_text("epoch,lr\none,2\n")
    with pytest.raises(FileError) as exc_info:
        read_history(path)
    assert exc_info.value.path == path


def test_epochs_compare_by_a_metric_and_nan_is_worst() -> None:
    low = EpochMetrics(1, 0.1, 1, 0, 2.0, 0.5, 0.4, float("nan"), 1, 1)
    high = EpochMetrics(2, 0.1, 1, 0, 1.0, 0.6, 0.4, 0.8, 1, 1)
    assert high.is_better_than(low, "val_accuracy")
    assert high.is_better_than(low, "val_loss")
    assert not low.is_better_than(high, "val_loss")
    assert not high.is_better_than(low, "val_macro_f1")
    assert high.is_better_than(low, "val_auc")
    assert not low.is_better_than(high, "val_auc")

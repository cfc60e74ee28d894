"""Progress: a bar with figures on a terminal, one plain line an epoch elsewhere."""

from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console

from nephros.training.history import EpochMetrics
from nephros.training.progress import ProgressCallback, format_duration

ROW = EpochMetrics(1, 0.1, 1.25, 0.5, 1.5, 0.4375, 0.3, 0.7, 2.0, 5000.0)


def _shown(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(ProgressCallback, "_REFRESH_SECONDS", 0.0)
    text = io.StringIO()
    with ProgressCallback(2, 100, Console(file=text, force_terminal=terminal, width=140)) as progress:
        for _ in range(4):
            progress.on_step_end(1, 25, torch.tensor(1.2345))
        progress.on_epoch_end(ROW, [ROW])
        progress.on_step_end(2, 25, torch.tensor(1.1111))
    return text.getvalue()


def test_a_terminal_shows_a_bar_with_loss_accuracy_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _shown(True, monkeypatch)
    for part in ("━", "loss 1.1111", "val accuracy 0.4375", "images/s", "left"):
        assert part in shown


def test_elsewhere_there_is_one_plain_line_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for line in _shown(False, monkeypatch).splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith(
        "epoch 1/2  loss 1.2500  accuracy 0.5000  val loss 1.5000  val accuracy 0.4375  5,000 images/s"
    )


def test_clock() -> None:
    assert [format_duration(seconds) for seconds in (0, 59.6, 245)] == ["0:00", "1:00", "4:05"]

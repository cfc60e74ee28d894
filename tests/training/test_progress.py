"""Progress: a bar with figures on a terminal, and a log line per epoch."""

from __future__ import annotations

import io
import logging

import pytest
import torch
from rich.console import Console

from nephros.training.history import EpochMetrics
from nephros.training.progress import ProgressCallback, format_duration

ROW = EpochMetrics(1, 0.1, 1.25, 0.5, 1.5, 0.4375, 0.3, 0.7, 2.0, 5000.0)


def _terminal_output(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a run of an epoch and a quarter writes to the console."""
    monkeypatch.setattr(ProgressCallback, "_REFRESH_SECONDS", 0.0)
    text = io.StringIO()
    with ProgressCallback(2, 100, Console(file=text, force_terminal=terminal, width=140)) as progress:
        for _ in range(4):
            progress.on_step_end(1, 25, torch.tensor(1.2345))
        progress.on_epoch_end(ROW, [ROW])
        progress.on_step_end(2, 25, torch.tensor(1.1111))
    return text.getvalue()


def test_a_bar_on_a_terminal_shows_loss_accuracy_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    output = _terminal_output(True, monkeypatch)
    for part in ("━", "loss 1.1111", "val accuracy 0.4375", "images/s", "left"):
        assert part in output


def test_epochs_are_logged_and_nothing_else_is_written_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nephros")
    assert _terminal_output(False, monkeypatch) == ""
    (line,) = caplog.messages
    assert line.startswith(
        "epoch 1/2  loss 1.2500  accuracy 0.5000  val loss 1.5000  val accuracy 0.4375  5,000 images/s"
    )


def test_format_duration() -> None:
    assert [format_duration(seconds) for seconds in (0, 59.6, 245)] == ["0:00", "1:00", "4:05"]

"""What a study shows while it runs."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from nephros.data.dataset import Dataset
from nephros.tuning.progress import StudyProgress, plan_table, progress_table
from nephros.tuning.study_state import StudyState
from tests.tuning.conftest import SmallStudy


def run_and_capture(cells: Dataset, folder: Path, *, terminal: bool, max_epochs: int = 4) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=200, highlight=False)
    study = SmallStudy(folder, cells, max_epochs=max_epochs)
    with StudyProgress(console) as callback:
        study.callback = callback  # type: ignore[assignment]
        study.run()
    return text.getvalue()


def test_each_rung_is_logged_with_the_time_left(
    cells: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "nephros.tuning.progress"):
        assert run_and_capture(cells, tmp_path, terminal=False, max_epochs=2) == ""
    lines = caplog.messages
    assert len(lines) == 3
    assert lines[0].startswith("bracket s=1: 2 at 1 epoch, best val_accuracy ")
    assert "1 promoted" in lines[0]
    assert "/7 epochs" in lines[0]
    assert "left" in lines[0]
    assert "7/7 epochs" in lines[-1]
    assert "bracket finished" in lines[-1]


def test_a_terminal_shows_a_live_table(cells: Dataset, tmp_path: Path) -> None:
    text = run_and_capture(cells, tmp_path, terminal=True, max_epochs=2)
    assert "study small" in text
    assert "running s1#0 to 1" in text


def test_the_tables_list_plan_and_progress(reference_state: StudyState) -> None:
    text = io.StringIO()
    console = Console(file=text, width=200)
    console.print(plan_table(reference_state.settings))
    console.print(progress_table(reference_state))
    output = text.getvalue()
    assert "4 at 1, 2 at 2, 1 at 4" in output
    assert "10 configurations" in output
    assert "28" in output
    assert "34" in output  # the epochs if rungs restarted
    assert output.count("3/3") == 2

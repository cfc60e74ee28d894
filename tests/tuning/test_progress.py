"""What a study prints while it runs."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from nephros.data.dataset import Dataset
from nephros.tuning.progress import ShowStudy, plan_table, progress_table
from nephros.tuning.study_state import Records
from tests.tuning.conftest import SmallStudy


def show(cells: Dataset, folder: Path, *, terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=200, highlight=False)
    study = SmallStudy(folder, cells)
    with ShowStudy(console) as watcher:
        study.watcher = watcher  # type: ignore[assignment]
        study.run()
    return text.getvalue()


def test_each_rung_gets_a_line_with_what_is_left(cells: Dataset, tmp_path: Path) -> None:
    lines = show(cells, tmp_path, terminal=False).splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("bracket s=2: 4 at 1 epoch, best val_accuracy ")
    assert "2 go on" in lines[0]
    assert "/28 epochs" in lines[0]
    assert "left" in lines[0]
    assert "28/28 epochs" in lines[-1]
    assert "bracket over" in lines[-1]


def test_a_terminal_sees_the_table_live(cells: Dataset, tmp_path: Path) -> None:
    text = show(cells, tmp_path, terminal=True)
    assert "study small" in text
    assert "running s2#0 to 1" in text


def test_the_tables_of_plan_and_progress(undisturbed: Records) -> None:
    text = io.StringIO()
    console = Console(file=text, width=200)
    console.print(plan_table(undisturbed.settings))
    console.print(progress_table(undisturbed))
    shown = text.getvalue()
    assert "4 at 1, 2 at 2, 1 at 4" in shown
    assert "10 configurations" in shown
    assert "28" in shown
    assert "34" in shown  # the epochs that restarting would take
    assert shown.count("3/3") == 2

"""A comparison in each of its files, and on terminals of different widths: every one has intervals, costs and sources."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from nephros.commands import compare as compare_command
from nephros.evaluation.leaderboard import Comparison, DatasetComparison, LeaderboardRow, leaderboard
from nephros.reporting.comparison.page import write_comparison

RUN = LeaderboardRow(
    method="a-run", input="28", accuracy=0.69, split="own test", source="nephros train --out runs/a-run", low=0.685,
    high=0.695, interval="95%", auc=0.93, macro_f1=0.59, parameters=870_376, multiply_adds=26_128_512, training_minutes=16.5,
    device="CPU, 2 threads", checkpoint="last, epoch 5", is_run=True,
)  # fmt: skip


@pytest.fixture
def comparison() -> Comparison:
    runs = [RUN, replace(RUN, method="knn", accuracy=0.5, low=0.49, high=0.51, training_minutes=None)]
    return Comparison("test", [DatasetComparison("TissueMNIST, own split", leaderboard(runs), [], ["A caveat."])])


def test_each_file_names_the_kind_of_interval(comparison: Comparison, tmp_path: Path) -> None:
    markdown, table, page = write_comparison(comparison, tmp_path)
    with open(table, encoding="utf-8", newline="") as file:
        rows = {(row["method"], row["input"]): row for row in csv.DictReader(file)}
    assert rows["a-run", "28"]["interval"] == "95%"
    densenet = rows["DenseNet-121, ImageNet weights", "128"]
    assert (densenet["low"], densenet["high"], densenet["interval"]) == ("0.7386", "0.7464", "1 sd")
    for row in rows.values():
        assert bool(row["low"]) == bool(row["high"]) == bool(row["interval"])
    text = markdown.read_text()
    assert "| 0.6850 | 0.6950 | 95% |" in text
    assert "| 0.7386 | 0.7464 | 1 sd |" in text
    html = page.read_text()
    assert "0.6850 to 0.6950 (95%)" in html
    assert "0.7386 to 0.7464 (1 sd)" in html


@pytest.mark.parametrize("width", [100, 200])
def test_a_terminal_of_any_width_shows_intervals_costs_and_sources(
    comparison: Comparison, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(width=width, force_terminal=True, color_system=None, highlight=False, soft_wrap=True)
    monkeypatch.setattr("nephros.console.table_console", lambda: console)
    monkeypatch.setattr("nephros.workflows.compare.compare", lambda *_args, **_options: comparison)
    assert compare_command.compare(["runs/a-run"]) == 0
    output = capsys.readouterr().out
    table, rest = output[: output.index("└")], output[output.index("┘") :]
    assert max(map(len, table.splitlines())) <= width
    assert "0.6850 to 0.6950 (95%)" in table
    assert "0.7386 to 0.7464 (1 sd)" in table
    expected_in = table if width == 200 else rest
    for text in ("870,376", "26,128,512", "16.5", "CPU, 2 threads", "last, epoch 5"):
        assert text in expected_in, text
    assert "  a-run (28); knn (28): nephros train --out runs/a-run" in rest
    assert "https://doi.org/10.1038/s41597-022-01721-8" in rest
    assert "None" not in output
    assert "…" not in output

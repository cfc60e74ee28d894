"""A comparison's page in a real browser, wide and narrow, light and dark."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nephros.evaluation.leaderboard import Comparison, DatasetComparison, LeaderboardRow, leaderboard
from nephros.evaluation.significance import compare_paired
from nephros.reporting.comparison.page import write_comparison
from tests.ui.conftest import CHROMIUM, open_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

RUN_ROW = LeaderboardRow(
    method="a-run-with-a-rather-long-name (nephros)",
    input="28",
    accuracy=0.69,
    split="own test",
    source="nephros train --test --out runs/a-run-with-a-rather-long-name",
    low=0.685,
    high=0.695,
    interval="95%",
    auc=0.93,
    macro_f1=0.59,
    parameters=870_376,
    multiply_adds=26_128_512,
    training_minutes=16.5,
    device="CPU, 2 threads",
    checkpoint="last, epoch 5",
    is_run=True,
)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of two runs and the published results."""
    other = dataclasses.replace(
        RUN_ROW, method="knn", accuracy=0.5, low=0.49, high=0.51, checkpoint="best val_accuracy: pca"
    )
    right = np.arange(1000) % 10 < 7
    tested = [(RUN_ROW.method, other.method, compare_paired(right, np.roll(right, 1)))]
    rows = leaderboard([RUN_ROW, other])
    dataset = DatasetComparison("TissueMNIST, own split", rows, tested, ["One thing to know.", "Another."])
    return write_comparison(Comparison("test", [dataset]), tmp_path_factory.mktemp("comparison"))[2]


@pytest.fixture(scope="module")
def page_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of one run on each of two data sets."""
    breast = dataclasses.replace(RUN_ROW, method="breast", accuracy=0.84, low=0.78, high=0.89)
    datasets = [
        DatasetComparison("TissueMNIST, own split", leaderboard([RUN_ROW]), [], ["One thing to know."]),
        DatasetComparison("BreastMNIST, official split", [breast], [], []),
    ]
    comparison = Comparison("test", datasets, ["Accuracies on different data are not comparable."])
    return write_comparison(comparison, tmp_path_factory.mktemp("two"))[2]


def _check_fits(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    wide = "[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scroll')"
    wide += " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    assert page.evaluate(wide) == []


def test_the_page_fits_and_shows_its_chart_and_tables(opened_report: tuple[Any, str, list[str]]) -> None:
    page, _, problems = opened_report
    _check_fits(page)
    assert "69.0" in page.locator("#headline").inner_text()
    assert page.locator("#metrics tbody tr").count() == 16
    assert page.locator("#metrics tbody tr.highlight").count() == 2
    assert page.locator("#cost tbody tr").count() == 2
    assert page.locator("svg").count() == 1
    assert "McNemar" in page.locator("#significance").inner_text()
    assert page.locator("section").first.get_attribute("id") == "significance"
    assert page.locator(".notes li").count() == 2
    assert problems == []


@pytest.mark.parametrize("width", [1280, 390])
def test_each_data_set_has_a_part_of_its_own(browser: Any, page_of_two: Path, width: int) -> None:
    with open_page(browser, page_of_two.as_uri(), width, "light", ("file:", "data:")) as (page, _, problems):
        _check_fits(page)
        assert "69.0" in page.locator("#headline").inner_text()
        assert "84.0" in page.locator("#headline-2").inner_text()
        assert "best" not in page.locator("header").inner_text()
        assert page.locator("#metrics tbody tr").count() == 15
        assert page.locator("#metrics-2 tbody tr").count() == 1
        assert page.locator("svg").count() == 2
        assert page.locator("nav a").all_inner_texts() == ["TissueMNIST, own split", "BreastMNIST, official split"]
        assert problems == []

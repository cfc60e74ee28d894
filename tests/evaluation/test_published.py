"""The published TissueMNIST results are complete and as their sources print them."""

from __future__ import annotations

from collections import Counter

from nephros.evaluation.leaderboard import published_results
from nephros.presets import RECIPES


def test_every_result_has_a_source_and_plausible_values() -> None:
    rows = published_results()
    assert sum(row.headline for row in rows) == 14
    for row in rows:
        assert row.method
        assert row.source
        assert (0.5 if row.headline else 0.3) < row.accuracy < 0.8
        assert row.auc is None or 0.8 < row.auc < 1
        assert row.split in ("official", "another")
        assert row.url.startswith("https://") or row.source == "Groves, course report, 2023"
    assert Counter(row.url for row in rows)["https://doi.org/10.1038/s41597-022-01721-8"] == 7
    assert Counter(row.url for row in rows)["https://doi.org/10.1038/s41598-025-92156-9"] == 3


def test_reference_results_are_as_published() -> None:
    by_name = {(row.method, row.input): row for row in published_results()}
    assert by_name["AutoKeras", "28"].accuracy == 0.703
    assert by_name["ResNet-18", "28"].auc == 0.930
    best = max(published_results(), key=lambda row: row.accuracy)
    assert (best.method, best.input, best.accuracy_sd) == ("DenseNet-121, ImageNet weights", "128", 0.0039)
    assert "selected on the test split" in by_name["MedViTV2-L", "224"].note
    assert by_name["course CNN", "28"].auc is None
    assert by_name["poster net", "28"].split == "another"


def test_recipes_have_the_results_that_they_reproduce() -> None:
    by_recipe = {row.recipe: row for row in published_results() if row.recipe}
    accuracies = [0.419, 0.465, 0.543, 0.475, 0.321, 0.588, 0.590]
    assert [by_recipe[f"course-{row}"].accuracy for row in range(1, 8)] == accuracies
    assert by_recipe["poster"].macro_f1 == 0.5426
    implied = [by_recipe[f"course-{row}"].implied_loss for row in range(1, 8)]
    assert [round(loss or 0, 2) for loss in implied] == [1.60, 1.53, 1.24, 1.47, 1.82, 1.13, 1.17]
    assert set(by_recipe) <= set(RECIPES)

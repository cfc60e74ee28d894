"""Tables of the bundled models: speed beside accuracy, and their place among recipes and published results."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.predict_modes import MODES
from nephros.evaluation.leaderboard import published_results
from nephros.inference.bundled import DEFAULT_MODEL, bundled_file, bundled_names
from nephros.inference.model_names import bundled_card
from nephros.inference.model_table import models_csv
from results import fill, frontier, summary, zoo
from results.figure_data import shows
from results.model_descriptions import DESCRIPTIONS


def _read_csv(name: str) -> list[dict[str, str]]:
    with open(zoo.HERE / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _record(rates: dict[str, float]) -> dict[str, Any]:
    """Return a record of `benchmarks.predict_modes`: 256 images per call at `rates`, by mode, and one at a tenth of it."""
    rows: list[dict[str, Any]] = []
    for beside, factor in (("nothing", 1.0), ("a busy process", 0.5)):
        for mode, rate in rates.items():
            for batch, slower in ((256, 1.0), (1, 0.1)):
                median = rate * factor * slower
                spread = {"median": median, "min": 0.9 * median, "max": 1.2 * median}
                row = {"beside": beside, "what": f"runtime, {mode}", "batch": batch, "images_per_s": spread}
                rows.append(
                    row | ({"ms_per_image": {"median": 1000 / median, "min": 1.0, "max": 9.0}} if batch == 1 else {})
                )
        rows.append({"beside": beside, "what": "20,000 PNG files, image alone, int8", "images_per_s": {"median": 7}})
    return {"rows": rows, "hardware": {"cpu": "Some CPU", "threads": 2}}


RATES = dict(zip(MODES, (100.0, 500.0, 2000.0, 3000.0, 9000.0, 120.0, 480.0), strict=True))


def test_every_bundled_model_is_measured_in_each_precision_it_has() -> None:
    measured = {(options.get("model", DEFAULT_MODEL), options["precision"]) for options in MODES.values()}
    for row in _read_csv("zoo.csv"):
        assert (row["name"], "float32") in measured
        assert not row["val_int8"] or (row["name"], "int8") in measured


def test_a_speed_row_has_the_quiet_rates_of_its_model_and_precision() -> None:
    rows = zoo.speed_rows(_read_csv("zoo.csv"), _record(RATES))
    assert [(row["model"], row["precision"]) for row in rows] == [
        ("nephros-fast", "int8"), ("nephros-fast", "float32"), ("nephros-distilled", "int8"), ("nephros-distilled", "float32"),
        ("nephros-large", "int8"), ("nephros-large", "float32"),
    ]  # fmt: skip
    expected = ["9,000 (", "3,000 (", "2,000 (", "500 (450 to 600)", "480 (", "120 ("]
    assert all(row["images_per_s"].startswith(text) for row, text in zip(rows, expected, strict=True))
    assert rows[3]["ms_per_image"] == "20 (1 to 9)"
    for row in rows:
        card = bundled_card(row["model"])
        if row["precision"] == "float32":
            assert float(row["val_accuracy"]) == pytest.approx(card["validation"]["accuracy"], abs=5.1e-5)
        assert int(row["multiply_adds"]) == card["network"]["multiply_adds_per_view"]


def test_a_model_that_was_not_measured_has_no_rate_and_no_point() -> None:
    cards = _read_csv("zoo.csv")
    record = _record({mode: rate for mode, rate in RATES.items() if "large" not in mode})
    rows = zoo.speed_rows(cards, record)
    assert [row["images_per_s"] for row in rows if row["model"] == "nephros-large"] == ["", ""]
    assert {point["model"] for point in zoo.speed_points(cards, record)} == {"nephros-fast", "nephros-distilled"}


def test_the_speed_figure_has_a_point_per_rate(tmp_path: Path) -> None:
    record = _record(RATES)
    points = zoo.speed_points(_read_csv("zoo.csv"), record)
    figure = zoo.plot_speed(points, record["hardware"], tmp_path / "speed.png")
    (axes,) = figure.axes
    drawn = np.concatenate([np.asarray(line.get_xydata()) for line in axes.lines if line.get_marker() == "o"])
    expected = [(point["images_per_s"], point["val_accuracy"]) for point in points]
    assert sorted(map(tuple, drawn.tolist())) == sorted(expected)
    assert len(expected) == 6
    assert shows(tmp_path / "speed.png", zoo.figure_numbers(points))


def test_the_files_on_disk_are_of_the_cards_and_the_latest_record() -> None:
    cards, record = _read_csv("zoo.csv"), zoo.latest_record()
    hint = "run `python -m results.fill`"
    assert models_csv(command=zoo.COMMANDS) == (zoo.HERE / "zoo.csv").read_text(encoding="utf-8"), hint
    assert _read_csv("zoo-speed.csv") == zoo.speed_rows(cards, record), hint
    assert shows(zoo.HERE / "zoo-speed.png", zoo.figure_numbers(zoo.speed_points(cards, record))), hint
    assert _read_csv("summary.csv") == summary.summary_rows(), hint


def test_descriptions_of_the_models_hold() -> None:
    """In words: one and a half points less, half a point more, a quarter of the multiply-adds, several times."""
    fast, default, large = (bundled_card(name) for name in ("nephros-fast", DEFAULT_MODEL, "nephros-large"))
    accuracy = {card["recipe"]: 100 * card["validation"]["accuracy"] for card in (fast, default, large)}
    cost = {card["recipe"]: card["network"]["multiply_adds_per_view"] for card in (fast, default, large)}
    assert accuracy[DEFAULT_MODEL] - accuracy["nephros-fast"] == pytest.approx(1.5, abs=0.25)
    assert accuracy["nephros-large"] - accuracy[DEFAULT_MODEL] == pytest.approx(0.5, abs=0.25)
    assert cost["nephros-fast"] / cost[DEFAULT_MODEL] == pytest.approx(0.25, abs=0.02)
    assert cost["nephros-large"] / cost[DEFAULT_MODEL] > 3
    assert {name: bundled_card(name)["description"] for name in bundled_names()} == DESCRIPTIONS


def test_the_summary_has_bundled_models_as_their_cards_have_them() -> None:
    rows = {row["method"]: row for row in summary.summary_rows()}
    for name in bundled_names():
        row, card = rows[f"{name}, bundled"], json.loads(bundled_file("card.json", name).read_text(encoding="utf-8"))
        test = card["test"]
        for key, value in (("accuracy", test["accuracy"]), ("auc", test["auc"]), ("macro_f1", test["macro_f1"])):
            assert float(row[key]) == pytest.approx(value, abs=5.1e-5)
        assert float(row["low"]) < test["accuracy"] < float(row["high"])
        assert (row["views"], int(row["parameters"])) == ("1", card["network"]["parameters"])
        assert "H100" in row["training"]


def test_the_summary_keeps_recipes_and_published_results_by_falling_accuracy() -> None:
    rows = summary.summary_rows()
    accuracies = [float(row["accuracy"]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    ours = [bundled_card(name)["test"] for name in bundled_names()]
    expected = [float(row["accuracy"]) for row in _read_csv("compare/compare.csv")]
    assert sorted(accuracies) == sorted(expected + [round(test["accuracy"], 4) for test in ours if test])
    published = [row for row in rows if not row["training"]]
    assert {row["method"] for row in published} <= {result.method for result in published_results()}
    recipes = [row for row in rows if row["method"].endswith(", recipe")]
    minutes = {row["method"]: row["training"] for row in recipes}
    assert minutes["nephros-fast, recipe"].endswith(" minutes on 2 CPU threads, bf16")
    assert minutes["nephros, recipe"].endswith(" minutes on 1 CPU thread")
    assert all(" CPU thread" in text for text in minutes.values())
    assert len(published) + len(recipes) + len(bundled_names()) == len(rows)


def test_fill_writes_derived_files_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "compare").mkdir()
    shutil.copy(zoo.HERE / "compare" / "compare.csv", tmp_path / "compare")
    shutil.copytree(zoo.HERE / "frontier-runs", tmp_path / "frontier-runs")
    for file in (
        "nephros.csv",
        "compute.csv",
        frontier.EARLIER,
        *(path.name for path in zoo.HERE.glob("*-history.csv")),
    ):
        shutil.copy(zoo.HERE / file, tmp_path)
    for module in ("zoo", "frontier", "summary"):
        monkeypatch.setattr(f"results.{module}.HERE", tmp_path)
    monkeypatch.setattr(fill, "DOCUMENTS", ())
    assert fill.main([]) == 0
    for file in ("zoo.csv", "zoo-speed.csv", "frontier.csv", "frontier.md", "summary.csv"):
        assert (tmp_path / file).read_bytes() == (Path(fill.__file__).parent / file).read_bytes()
    for file in ("zoo-speed.png", "frontier.png"):
        assert (tmp_path / file).stat().st_size

"""The model card as Markdown contains the figures of the JSON card, and says what is unknown."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from nephros.exporters.model_card_markdown import card_to_markdown
from nephros.inference.bundled import bundled_file


@pytest.fixture
def card() -> Any:
    return json.loads(bundled_file("card.json").read_text(encoding="utf-8"))


def test_the_bundled_page_belongs_to_the_bundled_card(card: Any) -> None:
    assert bundled_file("card.md").read_text(encoding="utf-8") == card_to_markdown(card)


def test_the_page_contains_figures_limitations_and_license(card: Any) -> None:
    text = card_to_markdown(card)
    interval = card["test"]["accuracy_interval"]
    sets = card["conformal"]["test"]
    error = card["calibration"]["expected_calibration_error"]["test"]
    for expected in (
        *card["limitations"],
        card["data"]["sha256"],
        f"{card['data']['training_images']:,}",
        f"{card['test_accuracy']:.4f} | {interval['low']:.4f} to {interval['high']:.4f}",
        f"| {error['before']:.4f} | {error['after']:.4f} |",
        f"{100 * sets['coverage']:.1f}% and had {sets['mean_set_size']:.2f} classes",
        f"| noise | {100 * card['ood_detector']['flagged_fraction']['noise']:.1f} |",
        card["license"]["data"],
        card["license"]["attribution"],
    ):
        assert expected in text, expected
    for row in card["test"]["per_class"]:
        assert f"| {row['class']} | {row['name']} | {row['precision']:.3f} | {row['recall']:.3f} |" in text
    changed = copy.deepcopy(card)
    changed["test"]["per_class"][1]["recall"] = 0.123
    assert "0.123" in card_to_markdown(changed)


def test_the_page_says_what_is_unknown(card: Any) -> None:
    assert "With test-time augmentation" in card_to_markdown(card)
    card |= {"test": None, "test_accuracy": None, "ood_detector": None, "commit": None, "tta": None}
    card["calibration"]["expected_calibration_error"]["test"] = None
    card["conformal"]["test"] = None
    card["license"] |= {"data": None, "attribution": None}
    card["data"] |= {"key": None, "sha256": None, "detail": ""}
    card["network"] = {
        key: card["network"][key] for key in card["network"] if key not in ("epoch", "onnx_max_abs_error")
    }
    card["validation"] |= {"auc": None}
    text = card_to_markdown(card)
    assert "None |" not in text
    for expected in (
        "not scored on test",
        "not measured on test",
        "None: the training cells were not available",
        "license of the data is unknown",
        f"- 5: {card['class_names'][5]}\n",
    ):
        assert expected in text, expected
    assert "| test |" not in text
    assert "With test-time augmentation" not in text


def test_missing_values_are_empty_and_the_accuracy_drop_is_shown(card: Any) -> None:
    card["test"]["per_class"][3] |= {"auc": None, "support": 0}
    card["conformal"]["test"]["coverage_per_class"][3] = None
    card["ood_detector"]["feature_distance"] = None
    quantization = {"method": "static", "validation_accuracy": {"float32": 0.7, "int8": 0.69, "drop": 0.01}}
    card["network"] |= {"precision": "int8", "quantization": quantization}
    text = card_to_markdown(card)
    assert "None" not in text
    assert "| 0 |  |" in text
    assert "0.0100 on validation" in text

"""Model cards as JSON text: written into exported files, and checked when they are read from one."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from nephros.data.class_names import class_name_fault
from nephros.data.images.input_conversion import InputConversion
from nephros.data.images.tta_views import includes_rotations
from nephros.evaluation.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE, N_LEVELS
from nephros.inference.model_card import CARD_FORMAT, CardMetrics, ModelCard, Reading
from nephros.inference.ood.detector import check_detector
from nephros.reading import MalformedContent, decode, file_errors, parse_json
from nephros.recipe import TTA_VIEW_COUNTS

_MAX_CARD_LENGTH = 16 << 20


def card_to_json(card: ModelCard) -> str:
    """Return the card as indented JSON, each of its long lists of quantiles on one line."""
    placeholder_card = dict(card) | _without_quantiles(card, "@")
    quantiles = {"@": card["conformal"]["quantiles"]}
    if tta := card.get("tta"):
        placeholder_card["tta"] = dict(tta) | _without_quantiles(tta, "@tta")
        quantiles["@tta"] = tta["conformal"]["quantiles"]
    text = json.dumps(placeholder_card, indent=2, ensure_ascii=False)
    for placeholder, values in quantiles.items():
        text = text.replace(f'"quantiles": "{placeholder}"', f'"quantiles": {json.dumps(values)}')
    return text + "\n"


def _without_quantiles(reading: Reading, placeholder: str) -> dict[str, Any]:
    return {"conformal": dict(reading["conformal"]) | {"quantiles": placeholder}}


def card_from_json(text: str | None, origin: str | Path) -> ModelCard:
    """Return the card in `text`, which comes from the file `origin`.

    Raises FileError if it is missing, damaged, outdated, or contradicts itself.
    """
    with file_errors(origin, "write it again with `nephros.export(RUN)`"):
        if not text:
            raise MalformedContent("it has no model card")
        if len(text) > _MAX_CARD_LENGTH:
            raise MalformedContent("its model card is too long")
        values = parse_json(text)
        if not isinstance(values, dict) or values.get("format") != CARD_FORMAT:
            raise MalformedContent(f"its model card's format is not {CARD_FORMAT}, which this version reads")
        card = decode(ModelCard, values, "card")
        _check_card(card)
        return card


def _check_card(card: ModelCard) -> None:
    """Raise MalformedContent where a card contradicts itself."""
    if fault := class_name_fault(card["class_names"]):
        raise MalformedContent(fault)
    if conversion := card["input"].get("conversion"):
        InputConversion.from_dict(asdict(decode(InputConversion, conversion, "card.input.conversion")))
    input_spec, network, tta = card["input"], card["network"], card.get("tta")
    for is_valid, clause in (
        (len(card["class_names"]) > 1, "its model card names fewer than two classes"),
        (input_spec["dtype"] == "uint8", "its cells are not of uint8"),
        (min(input_spec["height"], input_spec["width"], input_spec.get("depth", 1)) >= 1, "its cells have no pixels"),
        (input_spec["channels"] in (1, 3), "its cells have neither 1 nor 3 channels"),
        (network["tta_views"] in TTA_VIEW_COUNTS, "its number of views is not 1, 5, 8 or 40"),
        (network.get("recipe_tta_views", 1) in TTA_VIEW_COUNTS, "its recipe's number of views is not 1, 5, 8 or 40"),
        (network["precision"] in ("float32", "int8"), "its precision is neither float32 nor int8"),
        (
            not tta or (tta["tta_views"] in TTA_VIEW_COUNTS[1:] and network["tta_views"] == 1),
            "its test-time augmentation is not of 5, 8 or 40 views around a network of one view",
        ),
        (
            not tta or not includes_rotations(tta["tta_views"]) or input_spec["height"] == input_spec["width"],
            "its test-time augmentation rotates cells that are not square",
        ),
    ):
        if not is_valid:
            raise MalformedContent(clause)
    for reading in (card, tta) if tta else (card,):
        _check_reading(reading)
    if card["ood_detector"] is not None:
        check_detector(card["ood_detector"])


def _check_reading(reading: Reading) -> None:
    """Raise MalformedContent where what a card says of the predictions with one number of views is impossible."""
    quantiles, test = reading["conformal"]["quantiles"], reading["test"]
    for is_valid, clause in (
        (len(quantiles) == N_LEVELS, f"its model card has {len(quantiles)} quantiles and not {N_LEVELS}"),
        (
            all(-1 <= low <= high <= 1 + 1e-6 for low, high in pairwise(quantiles)),
            "its quantiles don't rise from -1 to 1",
        ),
        (
            0.99 * MIN_TEMPERATURE <= reading["calibration"]["temperature"] <= 1.01 * MAX_TEMPERATURE,
            f"its temperature is not from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}",
        ),
        (reading["test_accuracy"] == (test["accuracy"] if test else None), "it has two test accuracies"),
        (
            all(_has_valid_shares(metrics) for metrics in _all_metrics(reading)),
            "a metric is not a share",
        ),
    ):
        if not is_valid:
            raise MalformedContent(clause)


def _all_metrics(reading: Reading) -> list[CardMetrics]:
    return [metrics for metrics in (reading["test"], reading.get("cross_validation"), reading["validation"]) if metrics]


def _has_valid_shares(metrics: CardMetrics) -> bool:
    shares = [metrics["accuracy"], metrics["macro_precision"], metrics["macro_recall"], metrics["macro_f1"]]
    return all(0 <= share <= 1 for share in [*shares, metrics["auc"] or 0.0])

"""Model cards as JSON text: written into exported files, and checked when they are read from one."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

from nephros.data.class_names import class_name_fault
from nephros.data.images.input_conversion import InputConversion
from nephros.evaluation.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE, N_LEVELS
from nephros.inference.model_card import CARD_FORMAT, CardMetrics, ModelCard
from nephros.inference.ood.detector import check_detector
from nephros.reading import MalformedContent, decode, file_errors, parse_json
from nephros.recipe import TTA_VIEW_COUNTS

_MAX_CARD_LENGTH = 16 << 20


def card_to_json(card: ModelCard) -> str:
    """Return the card as indented JSON, its long list of quantiles on one line."""
    quantiles = card["conformal"]["quantiles"]
    placeholder_card = dict(card) | {"conformal": dict(card["conformal"]) | {"quantiles": "@"}}
    return json.dumps(placeholder_card, indent=2, ensure_ascii=False).replace('"@"', json.dumps(quantiles)) + "\n"


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
    quantiles, test, input_spec = card["conformal"]["quantiles"], card["test"], card["input"]
    for is_valid, clause in (
        (len(card["class_names"]) > 1, "its model card names fewer than two classes"),
        (len(quantiles) == N_LEVELS, f"its model card has {len(quantiles)} quantiles and not {N_LEVELS}"),
        (
            all(-1 <= low <= high <= 1 + 1e-6 for low, high in pairwise(quantiles)),
            "its quantiles don't rise from -1 to 1",
        ),
        (
            0.99 * MIN_TEMPERATURE <= card["calibration"]["temperature"] <= 1.01 * MAX_TEMPERATURE,
            f"its temperature is not from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}",
        ),
        (input_spec["dtype"] == "uint8", "its cells are not of uint8"),
        (min(input_spec["height"], input_spec["width"]) >= 1, "its cells have no pixels"),
        (input_spec["channels"] in (1, 3), "its cells have neither 1 nor 3 channels"),
        (card["network"]["tta_views"] in TTA_VIEW_COUNTS, "its number of views is not 1, 5, 8 or 40"),
        (card["network"]["precision"] in ("float32", "int8"), "its precision is neither float32 nor int8"),
        (card["test_accuracy"] == (test["accuracy"] if test else None), "it has two test accuracies"),
        (all(_has_valid_shares(metrics) for metrics in (test, card["validation"]) if metrics), "a metric is no share"),
    ):
        if not is_valid:
            raise MalformedContent(clause)
    if card["ood_detector"] is not None:
        check_detector(card["ood_detector"])


def _has_valid_shares(metrics: CardMetrics) -> bool:
    shares = [metrics["accuracy"], metrics["macro_precision"], metrics["macro_recall"], metrics["macro_f1"]]
    return all(0 <= share <= 1 for share in [*shares, metrics["auc"] or 0.0])

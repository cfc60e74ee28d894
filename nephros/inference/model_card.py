"""The model card: what an exported model is, what it can be trusted with, and what it was measured at; plain JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from nephros.data.medmnist import MEDMNIST
from nephros.environment import __version__, git_commit
from nephros.errors import NephrosError
from nephros.evaluation.conformal import conformal_quantiles, coverage_report
from nephros.evaluation.metrics import (
    CALIBRATION_BINS,
    Floats,
    Labels,
    calibration_curve,
    compute_metrics,
    expected_calibration_error,
)
from nephros.evaluation.temperature import apply_temperature
from nephros.runs import RunInfo

CARD_FORMAT = "nephros-card-2"
ExportFormat = Literal["onnx", "safetensors"]
"""In which a model can be exported."""
CARD_METADATA_KEY = "nephros_card"
"""Under which a card lies in a file's metadata."""
CARD_COVERAGE = 0.9
"""At which the card says how large prediction sets are."""
ECE_FORMULA = (
    "sum over bins of (images in bin / all) x |accuracy - mean top probability|, "
    "equal-width bins of the top probability"
)
LIMITATIONS = [
    "For research only, not for diagnosis or any decision about a patient.",
    "Learnt from cells of one laboratory's specimens, stain and microscope: other tissue, stains or microscopes change what the "
    "figures here say, and `is_ood` finds only some of what differs.",
    "A picture must show one nucleus, cut out and scaled as the training cells were.",
    "Prediction sets hold the right class as often as was asked over all cells alike, not within each class.",
]
CITATIONS = {
    "tissuemnist": "TissueMNIST: Yang, J. et al., MedMNIST v2, Scientific Data 10, 41 (2023); made from BBBC051, Woloshuk, A. "
    "et al., Cytometry Part A 99(7), 707-721 (2021), Broad Bioimage Benchmark Collection (Ljosa et al., "
    "Nature Methods 9, 637, 2012)."
}
_CARD_METRICS = (
    "n",
    "accuracy",
    "accuracy_interval",
    "loss",
    "auc",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "per_class",
)


def make_card(
    info: RunInfo,
    network: Mapping[str, Any],
    temperature: float,
    uncalibrated: tuple[Floats, Labels],
    probabilities: Floats,
    ood_detector: dict[str, Any] | None,
    test: tuple[dict[str, Any], Floats, Labels] | None,
) -> dict[str, Any]:
    """Return the card of a run's model.

    Args:
        info: of the run.
        network: views, precision and the like, of the exported model.
        temperature: fitted on validation.
        raw: validation probabilities (n, classes) before that temperature, and labels (n,).
        answers: (n, classes) validation probabilities as the exported model gives them.
        unfamiliarity: what `fit_ood_detector` returned; None where the data was not at hand.
        test: metrics, probabilities before the temperature and labels that the run stored; None where it was not scored.
    """
    names = tuple(info.class_names)
    quantiles = conformal_quantiles(probabilities, uncalibrated[1])
    # Then the stored answers are the model's own.
    matches_stored = network["tta_views"] == info.tta_views and network["precision"] == "float32"
    views_text = "one view" if info.tta_views == 1 else f"{info.tta_views} views"
    on_test = (
        None if test is None or not matches_stored else (test[1], apply_temperature(test[1], temperature), test[2])
    )
    dataset_entry = MEDMNIST.get(info.data["key"] or "")
    return {
        "format": CARD_FORMAT,
        "nephros_version": __version__,
        "commit": git_commit(),
        "recipe": info.recipe,
        "recipe_hash": info.recipe_hash,
        "teachers": [
            {key: teacher[key] for key in ("recipe", "recipe_hash", "weights_sha256")} for teacher in info.teachers
        ],
        "network": {"parameters": info.parameters, "multiply_adds_per_view": info.multiply_adds, **network},
        "data": {key: info.data[key] for key in ("title", "name", "split", "key", "sha256", "detail")}
        | {"training_images": sum(info.class_counts["train"])},
        "class_names": list(names),
        "input": {"dtype": "uint8", **{key: info.input_spec[key] for key in ("channels", "height", "width")}},
        "test_accuracy": test[0]["accuracy"] if test else None,
        "test": {"setup": f"the float32 weights, {views_text} of each image"}
        | {key: test[0][key] for key in _CARD_METRICS}
        if test
        else None,
        "validation": _without_per_class(compute_metrics(probabilities, uncalibrated[1], names)),
        "calibration": {
            "method": "temperature: softmax(logits / temperature), of least mean cross-entropy on validation",
            "temperature": temperature,
            "expected_calibration_error": {
                "formula": ECE_FORMULA,
                "n_bins": CALIBRATION_BINS,
                "validation": _ece_before_after(uncalibrated[0], probabilities, uncalibrated[1]),
                "test": None if on_test is None else _ece_before_after(*on_test),
            },
        },
        "conformal": {
            "method": "split conformal on validation; score 1 - probability (least ambiguous set-valued classifier); the most "
            "probable class is always in the set",
            "quantiles": [math.ceil(q * 1e7) / 1e7 for q in quantiles.tolist()],
            "n_calibration_images": len(probabilities),
            "test": None if on_test is None else coverage_report(*on_test[1:], quantiles, CARD_COVERAGE),
        },
        "ood_detector": ood_detector,
        "license": {
            "model": "Apache-2.0",
            "data": dataset_entry.license if dataset_entry else None,
            "attribution": CITATIONS.get(dataset_entry.key, f"{dataset_entry.name}, MedMNIST v2.")
            if dataset_entry
            else None,
        },
        "limitations": LIMITATIONS,
    }


def _without_per_class(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: metrics[key] for key in _CARD_METRICS if key != "per_class"}


def _ece_before_after(before: Floats, after: Floats, labels: Labels) -> dict[str, float]:
    by_stage = {"before": before, "after": after}
    return {stage: expected_calibration_error(calibration_curve(p, labels)) for stage, p in by_stage.items()}


def card_to_json(card: dict[str, Any]) -> str:
    """Return the card as indented JSON, its long list of quantiles on one line."""
    quantiles = card["conformal"]["quantiles"]
    placeholder_card = card | {"conformal": card["conformal"] | {"quantiles": "@"}}
    return json.dumps(placeholder_card, indent=2, ensure_ascii=False).replace('"@"', json.dumps(quantiles)) + "\n"


def card_from_json(text: str | None, origin: str) -> dict[str, Any]:
    """Return the card in `text`; UserError, naming `origin` it lies, when it is missing, damaged or of another format."""
    message = f"{origin} has no card that this version of nephros reads: export the model again with `nephros export`."
    try:
        card = dict(json.loads(text or ""))
        input_spec = card["input"]
        is_valid = (
            card["format"] == CARD_FORMAT
            and len(card["conformal"]["quantiles"]) == 1001
            and len(card["class_names"]) > 1
        )
        is_valid = is_valid and all(
            isinstance(input_spec[key], int) and input_spec[key] > 0 for key in ("channels", "height", "width")
        )
        is_valid = is_valid and "ood_detector" in card and "test" in card["conformal"]
    except (ValueError, TypeError, KeyError):
        raise NephrosError(message) from None
    if not is_valid:
        raise NephrosError(message)
    return card

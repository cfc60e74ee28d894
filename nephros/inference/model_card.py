"""The model card: what an exported model is, what it can be trusted with, and how it was evaluated; plain JSON values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast

from nephros.data.medmnist import MEDMNIST
from nephros.environment import __version__, git_commit
from nephros.errors import FileError
from nephros.evaluation.conformal import N_LEVELS, CoverageReport, conformal_quantiles, coverage_report
from nephros.evaluation.metrics import (
    CALIBRATION_BINS,
    Floats,
    Labels,
    calibration_curve,
    compute_metrics,
    expected_calibration_error,
)
from nephros.evaluation.temperature import apply_temperature
from nephros.inference.ood.detector import OODDetector
from nephros.runs import RunInfo

CARD_FORMAT = "nephros-card-2"
ExportFormat = Literal["onnx", "safetensors"]
"""The formats in which a model can be exported."""
CARD_METADATA_KEY = "nephros_card"
"""Key of the card in an exported file's metadata."""
CARD_COVERAGE = 0.9
"""Coverage at which the card reports the size of prediction sets."""
ECE_FORMULA = (
    "sum over bins of (images in bin / all) x |accuracy - mean top probability|, equal-width bins of top probability"
)
LIMITATIONS = [
    "For research only, not for diagnosis or any decision about a patient.",
    "Trained on cells from one laboratory's specimens, stain and microscope: with other tissue, stains or microscopes the "
    "figures here do not hold, and `is_ood` detects only some of what differs.",
    "An image must show one nucleus, cropped and scaled as the training cells were.",
    "Prediction sets contain the true class with the chosen frequency over all cells together, not within each class.",
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


class InputInfo(TypedDict):
    """The cells that a model takes."""

    dtype: str
    channels: int
    height: int
    width: int


class Quantization(TypedDict):
    """How a model was quantized, and the accuracy on validation in ``float32``, in ``int8``, and their difference, ``drop``."""

    method: str
    validation_accuracy: NotRequired[dict[str, float]]


class ExportFacts(TypedDict):
    """What an export knows about its network."""

    tta_views: int
    precision: str
    """``float32`` or ``int8``."""
    weights_sha256: str
    epoch: NotRequired[int | None]
    onnx_max_abs_error: NotRequired[float]
    """Largest difference of a probability between ONNX Runtime and torch."""
    quantization: NotRequired[Quantization]


class NetworkInfo(ExportFacts):
    """The network of a model."""

    parameters: int
    multiply_adds_per_view: int


class CalibrationError(TypedDict):
    """Expected calibration error before and after the temperature."""

    before: float
    after: float


class CalibrationErrors(TypedDict):
    """Expected calibration error by split; None where the predictions of this model on test are not known."""

    formula: str
    n_bins: int
    validation: CalibrationError
    test: CalibrationError | None


class CalibrationInfo(TypedDict):
    """The temperature, and what it achieves."""

    method: str
    temperature: float
    expected_calibration_error: CalibrationErrors


class ConformalInfo(TypedDict):
    """Prediction sets: the quantiles of `nephros.evaluation.conformal`, and their coverage on test."""

    method: str
    quantiles: list[float]
    n_calibration_images: int
    test: CoverageReport | None


class ModelCard(TypedDict):
    """A model card, as JSON holds it."""

    format: str
    nephros_version: str
    commit: str | None
    recipe: str
    recipe_hash: str
    teachers: list[dict[str, str]]
    network: NetworkInfo
    data: dict[str, Any]
    class_names: list[str]
    input: InputInfo
    test_accuracy: float | None
    test: dict[str, Any] | None
    """Stored metrics on the test split; None if the run was not scored on it."""
    validation: dict[str, Any]
    calibration: CalibrationInfo
    conformal: ConformalInfo
    ood_detector: OODDetector | None
    """None where the training data was not available."""
    license: dict[str, str | None]
    limitations: list[str]
    interface: NotRequired[dict[str, dict[str, list[Any]]]]
    """Names and shapes of the network's inputs and outputs."""


CardTest = tuple[Mapping[str, Any], Floats, Labels]
"""Metrics, probabilities (n, classes) before the temperature, and labels (n,) that a run stored for its test split."""


def make_card(
    info: RunInfo,
    network: ExportFacts,
    temperature: float,
    uncalibrated: tuple[Floats, Labels],
    probabilities: Floats,
    ood_detector: OODDetector | None,
    test: CardTest | None,
) -> ModelCard:
    """Return the card of a run's model.

    Args:
        info: the run.
        network: facts about the exported model.
        temperature: fitted on validation.
        uncalibrated: validation probabilities (n, classes) before that temperature, and labels (n,).
        probabilities: validation probabilities (n, classes) of the exported model.
        ood_detector: from `nephros.exporters.packaging.fit_ood_detector`; None where the data was not available.
        test: stored test results; None if the run was not scored on test.
    """
    names = tuple(info.class_names)
    quantiles = conformal_quantiles(probabilities, uncalibrated[1])
    # Only a float32 model with the run's own views gives the predictions that the run stored for test.
    matches_stored = network["tta_views"] == info.tta_views and network["precision"] == "float32"
    views_text = "one view" if info.tta_views == 1 else f"{info.tta_views} views"
    on_test = (
        None if test is None or not matches_stored else (test[1], apply_temperature(test[1], temperature), test[2])
    )
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
        "input": {
            "dtype": "uint8",
            "channels": info.input_spec["channels"],
            "height": info.input_spec["height"],
            "width": info.input_spec["width"],
        },
        "test_accuracy": test[0]["accuracy"] if test else None,
        "test": {"setup": f"the float32 weights, {views_text} of each image"}
        | {key: test[0][key] for key in _CARD_METRICS}
        if test
        else None,
        "validation": _without_per_class(compute_metrics(probabilities, uncalibrated[1], names).to_dict()),
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
        "license": _license(info.data["key"]),
        "limitations": LIMITATIONS,
    }


def _license(dataset_key: str | None) -> dict[str, str | None]:
    entry = MEDMNIST.get(dataset_key or "")
    return {
        "model": "Apache-2.0",
        "data": entry.license if entry else None,
        "attribution": CITATIONS.get(entry.key, f"{entry.name}, MedMNIST v2.") if entry else None,
    }


def _without_per_class(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {key: metrics[key] for key in _CARD_METRICS if key != "per_class"}


def _ece_before_after(before: Floats, after: Floats, labels: Labels) -> CalibrationError:
    return {
        "before": expected_calibration_error(calibration_curve(before, labels)),
        "after": expected_calibration_error(calibration_curve(after, labels)),
    }


def card_to_json(card: ModelCard) -> str:
    """Return the card as indented JSON, its long list of quantiles on one line."""
    quantiles = card["conformal"]["quantiles"]
    placeholder_card = dict(card) | {"conformal": dict(card["conformal"]) | {"quantiles": "@"}}
    return json.dumps(placeholder_card, indent=2, ensure_ascii=False).replace('"@"', json.dumps(quantiles)) + "\n"


def card_from_json(text: str | None, origin: str | Path) -> ModelCard:
    """Return the card in `text`, which comes from the file `origin`; FileError if it is missing, damaged or outdated."""
    try:
        card = dict(json.loads(text or ""))
        input_spec = card["input"]
        is_valid = (
            card["format"] == CARD_FORMAT
            and len(card["conformal"]["quantiles"]) == N_LEVELS
            and len(card["class_names"]) > 1
            and all(isinstance(input_spec[key], int) and input_spec[key] > 0 for key in ("channels", "height", "width"))
            and "ood_detector" in card
            and "test" in card["conformal"]
        )
    except (ValueError, TypeError, KeyError):
        is_valid = False
    if not is_valid:
        raise FileError(
            origin,
            f"{origin} has no model card that this version of nephros reads: write it again with `nephros.export(RUN)`.",
        )
    return cast(ModelCard, card)

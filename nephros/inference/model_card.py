"""The model card: what an exported model is, what it can be trusted with, and how it was evaluated; plain JSON values."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict, cast

from nephros.data.dataset import describe_training_subset
from nephros.data.medmnist import MEDMNIST
from nephros.environment import __version__, git_commit
from nephros.evaluation.calibration import (
    CoverageReport,
    apply_temperature,
    conformal_quantiles,
    coverage_report,
)
from nephros.evaluation.held_out import pool
from nephros.evaluation.metrics import (
    CALIBRATION_BINS,
    Floats,
    Labels,
    Metrics,
    calibration_curve,
    compute_metrics,
    expected_calibration_error,
)
from nephros.inference.limitations import limitations
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
CITATIONS = {
    "tissuemnist": "TissueMNIST: Yang, J. et al., MedMNIST v2, Scientific Data 10, 41 (2023); made from BBBC051, Woloshuk, A. "
    "et al., Cytometry Part A 99(7), 707-721 (2021), Broad Bioimage Benchmark Collection (Ljosa et al., "
    "Nature Methods 9, 637, 2012)."
}


class InputInfo(TypedDict):
    """The cells that a model takes."""

    dtype: str
    channels: int
    height: int
    width: int
    conversion: NotRequired[dict[str, Any]]
    """`nephros.data.images.input_conversion.InputConversion` of training, the default of prediction; absent in earlier cards."""


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


class DataInfo(TypedDict):
    """The data that a model was trained on."""

    title: str
    name: str
    split: str
    key: str | None
    """Of MedMNIST's sets; None for any other data."""
    sha256: str | None
    detail: str
    training_images: int
    training_subset: NotRequired[str]
    """Such as ``subset: 1,000 of 165,466 training images``; empty where all were used, absent in cards of earlier versions."""


class IntervalInfo(TypedDict):
    """Confidence interval of an accuracy."""

    low: float
    high: float
    level: float
    method: str


# Functional, since one of the keys is a keyword.
ClassMetricsInfo = TypedDict(
    "ClassMetricsInfo",
    {
        "class": int,
        "name": str,
        "precision": float,
        "recall": float,
        "f1": float,
        "auc": float | None,
        "support": int,
        "pr_auc": NotRequired[float | None],
    },
)
"""Metrics of one class, as in `nephros.evaluation.metrics.ClassMetrics`."""


class CardMetrics(TypedDict):
    """Metrics on one split, as in `nephros.evaluation.metrics.Metrics`."""

    n: int
    accuracy: float
    accuracy_interval: IntervalInfo
    loss: float
    auc: float | None
    macro_precision: float
    macro_recall: float
    macro_f1: float


class TestMetrics(CardMetrics):
    """Metrics on the test split, in total and per class."""

    setup: str
    """Which weights and views the metrics belong to."""
    per_class: list[ClassMetricsInfo]


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
    """Prediction sets: the quantiles of `nephros.evaluation.calibration`, and their coverage on test."""

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
    init: NotRequired[dict[str, str] | None]
    """Weights that the training started from: their recipe, digest, and whether the head was ``kept`` or ``new``; None for random
    ones, absent in cards of earlier versions."""
    network: NetworkInfo
    data: DataInfo
    class_names: list[str]
    input: InputInfo
    test_accuracy: float | None
    test: TestMetrics | None
    """Stored metrics on the test split; None if the run was not scored on it."""
    validation: CardMetrics
    calibration: CalibrationInfo
    conformal: ConformalInfo
    ood_detector: OODDetector | None
    """None where the training data was not available."""
    license: dict[str, str | None]
    limitations: list[str]
    interface: NotRequired[dict[str, dict[str, list[Any]]]]
    """Names and shapes of the network's inputs and outputs."""


class StoredTest(NamedTuple):
    """What a run stored when its test split was scored."""

    metrics: Metrics
    probabilities: Floats
    """(n, classes), before the temperature."""
    labels: Labels
    """(n,)."""


def make_card(
    info: RunInfo,
    network: ExportFacts,
    temperature: float,
    uncalibrated: tuple[Floats, Labels],
    probabilities: Floats,
    ood_detector: OODDetector | None,
    test: StoredTest | None,
    held_out: tuple[Floats, Labels] | None = None,
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
        held_out: probabilities of training images in cross-validation, before the temperature, and labels, of a fine-tuned run.
    """
    labels = uncalibrated[1]
    validation = compute_metrics(probabilities, labels, tuple(info.class_names))
    # Only a float32 model with the run's own views gives the predictions that the run stored for test.
    matches_stored = network["tta_views"] == info.tta_views and network["precision"] == "float32"
    test_predictions = test if test is not None and matches_stored else None
    return {
        "format": CARD_FORMAT,
        "nephros_version": __version__,
        "commit": git_commit(),
        "recipe": info.recipe,
        "recipe_hash": info.recipe_hash,
        "teachers": [
            {key: teacher[key] for key in ("recipe", "recipe_hash", "weights_sha256")} for teacher in info.teachers
        ],
        "init": {key: info.init[key] for key in ("recipe", "sha256", "head")} if info.init else None,
        "network": {"parameters": info.parameters, "multiply_adds_per_view": info.multiply_adds, **network},
        "data": _data_info(info),
        "class_names": list(info.class_names),
        "input": {
            "dtype": "uint8",
            "channels": info.input_spec["channels"],
            "height": info.input_spec["height"],
            "width": info.input_spec["width"],
            "conversion": info.input_conversion,
        },
        "test_accuracy": test.metrics.accuracy if test else None,
        "test": _test_metrics(test.metrics, info.tta_views) if test else None,
        "validation": _card_metrics(validation),
        "calibration": _calibration_info(temperature, uncalibrated[0], probabilities, labels, test_predictions),
        "conformal": _conformal_info(temperature, (probabilities, labels), test_predictions, held_out),
        "ood_detector": ood_detector,
        "license": _license(info.data["key"]),
        "limitations": limitations(info, validation, temperature),
    }


def _data_info(info: RunInfo) -> DataInfo:
    return {
        "title": info.data["title"],
        "name": info.data["name"],
        "split": info.data["split"],
        "key": info.data["key"],
        "sha256": info.data["sha256"],
        "detail": info.data["detail"],
        "training_images": sum(info.class_counts["train"]),
        "training_subset": info.training_subset,
    }


def training_subset(card: ModelCard) -> str:
    """Return the subset that a card's model was trained on, in words; empty where it was trained on all images."""
    data = card["data"]
    if "training_subset" in data:
        return data["training_subset"]
    return describe_training_subset(data.get("training_images", 0), data)


def _card_metrics(metrics: Metrics) -> CardMetrics:
    return {
        "n": metrics.n,
        "accuracy": metrics.accuracy,
        "accuracy_interval": cast(IntervalInfo, dataclasses.asdict(metrics.accuracy_interval)),
        "loss": metrics.loss,
        "auc": metrics.auc,
        "macro_precision": metrics.macro_precision,
        "macro_recall": metrics.macro_recall,
        "macro_f1": metrics.macro_f1,
    }


def _test_metrics(metrics: Metrics, tta_views: int) -> TestMetrics:
    views = "one view" if tta_views == 1 else f"{tta_views} views"
    return {
        "setup": f"the float32 weights, {views} of each image",
        **_card_metrics(metrics),
        "per_class": metrics.to_dict()["per_class"],
    }


def _calibration_info(
    temperature: float, uncalibrated: Floats, probabilities: Floats, labels: Labels, test: StoredTest | None
) -> CalibrationInfo:
    """Return the temperature with its calibration error on validation, and on test for the stored predictions, if any."""

    def error(before: Floats, after: Floats, labels: Labels) -> CalibrationError:
        return {
            "before": expected_calibration_error(calibration_curve(before, labels)),
            "after": expected_calibration_error(calibration_curve(after, labels)),
        }

    return {
        "method": "temperature: softmax(logits / temperature), of least mean cross-entropy on validation",
        "temperature": temperature,
        "expected_calibration_error": {
            "formula": ECE_FORMULA,
            "n_bins": CALIBRATION_BINS,
            "validation": error(uncalibrated, probabilities, labels),
            "test": error(test.probabilities, apply_temperature(test.probabilities, temperature), test.labels)
            if test
            else None,
        },
    }


def _conformal_info(
    temperature: float,
    validation: tuple[Floats, Labels],
    test: StoredTest | None,
    held_out: tuple[Floats, Labels] | None,
) -> ConformalInfo:
    """Return the quantiles of prediction sets, with their coverage on test for the stored predictions, if any."""
    calibrated_held_out = held_out and (apply_temperature(held_out[0], temperature), held_out[1])
    quantiles = conformal_quantiles(*pool(validation, calibrated_held_out))
    kind = (
        "cross-conformal on training images in cross-validation, and split conformal" if held_out else "split conformal"
    )
    coverage = None
    if test is not None:
        calibrated = apply_temperature(test.probabilities, temperature)
        coverage = coverage_report(calibrated, test.labels, quantiles, CARD_COVERAGE)
    return {
        "method": f"{kind} on validation; score 1 - probability (least ambiguous set-valued classifier); the most "
        "probable class is always in the set",
        "quantiles": [math.ceil(q * 1e7) / 1e7 for q in quantiles.tolist()],
        "n_calibration_images": len(validation[1]) + (len(held_out[1]) if held_out else 0),
        "test": coverage,
    }


def _license(dataset_key: str | None) -> dict[str, str | None]:
    entry = MEDMNIST.get(dataset_key or "")
    return {
        "model": "Apache-2.0",
        "data": entry.license if entry else None,
        "attribution": CITATIONS.get(entry.key, f"{entry.name}, MedMNIST v2.") if entry else None,
    }

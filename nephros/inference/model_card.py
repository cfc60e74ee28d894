"""The model card: what an exported model is, what it can be trusted with, and how it was evaluated; plain JSON values."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from nephros.data.provenance import describe_training_subset
from nephros.evaluation.calibration import CoverageReport
from nephros.inference.ood.detector import OODDetector

CARD_FORMAT = "nephros-card-2"
ExportFormat = Literal["onnx", "safetensors"]
"""The formats in which a model can be exported."""
CARD_METADATA_KEY = "nephros_card"
"""Key of the card in an exported file's metadata."""


class InputInfo(TypedDict):
    """The cells that a model takes."""

    dtype: str
    channels: int
    height: int
    width: int
    depth: NotRequired[int]
    """Slices of volumes; absent where the cells are images."""
    conversion: NotRequired[dict[str, Any]]
    """`nephros.data.images.input_conversion.InputConversion` of training, the default of prediction; absent in earlier cards."""


class Quantization(TypedDict):
    """How a model was quantized, and the accuracy on validation in ``float32``, in ``int8``, and their difference, ``drop``."""

    method: str
    validation_accuracy: NotRequired[dict[str, float]]


class ExportFacts(TypedDict):
    """What an export knows about its network."""

    tta_views: int
    """Views of each image over which the network itself averages."""
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
    recipe_tta_views: NotRequired[int]
    """Views of the run's recipe; absent in cards of earlier versions, whose `tta_views` are those."""


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
    pooled: NotRequired[CalibrationError]
    """Of a fine-tuned model: on validation and training images in cross-validation, to both of which the temperature is fitted;
    absent in cards of other models and of earlier versions."""
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


class Reading(TypedDict):
    """How a model predicts with a number of views of each image: what it scores, and what is fitted to its probabilities."""

    test_accuracy: float | None
    test: TestMetrics | None
    """Stored metrics on the test split; None if the run was not scored on it."""
    cross_validation: NotRequired[CardMetrics | None]
    """Of a fine-tuned model, on its training images, each by a model that did not see it; absent in cards of earlier versions."""
    validation: CardMetrics
    calibration: CalibrationInfo
    conformal: ConformalInfo


class TTAReading(Reading):
    """The reading of a model that is asked for test-time augmentation, several views around a network of one view."""

    tta_views: int


class ModelCard(Reading):
    """A model card, as JSON holds it; its own reading is that of the network as the file has it."""

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
    description: NotRequired[str]
    """Of a bundled model, what it is for."""
    class_names: list[str]
    input: InputInfo
    ood_detector: OODDetector | None
    """None where the training data was not available."""
    tta: NotRequired[TTAReading | None]
    """With test-time augmentation around the network; None if that was not fitted, absent in cards of earlier versions and of
    networks that take several views themselves."""
    license: dict[str, str | None]
    limitations: list[str]
    interface: NotRequired[dict[str, dict[str, list[Any]]]]
    """Names and shapes of the network's inputs and outputs."""


def training_subset(card: ModelCard) -> str:
    """Return the subset that a card's model was trained on, in words; empty where it was trained on all images."""
    data = card["data"]
    if "training_subset" in data:
        return data["training_subset"]
    return describe_training_subset(data.get("training_images", 0), data)

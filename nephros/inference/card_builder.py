"""Making a model card from a run and the predictions of its exported model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple, cast

from nephros.data.medmnist import MEDMNIST
from nephros.environment import __version__, git_commit
from nephros.evaluation.calibration import (
    apply_temperature,
    conformal_quantiles,
    coverage_report,
)
from nephros.evaluation.held_out import HeldOutPredictions, pool
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
from nephros.inference.model_card import (
    CARD_FORMAT,
    CalibrationError,
    CalibrationErrors,
    CalibrationInfo,
    CardMetrics,
    ConformalInfo,
    DataInfo,
    ExportFacts,
    InputInfo,
    IntervalInfo,
    ModelCard,
    Reading,
    TestMetrics,
)
from nephros.inference.ood.detector import OODDetector
from nephros.runs import RunInfo

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


class StoredTest(NamedTuple):
    """What a run stored when its test split was scored with some number of views."""

    metrics: Metrics
    probabilities: Floats
    """(n, classes), before the temperature."""
    labels: Labels
    """(n,)."""


class FittedPredictions(NamedTuple):
    """Validation predictions of an exported model, and what was fitted to them."""

    temperature: float
    uncalibrated: tuple[Floats, Labels]
    """Probabilities (n, classes) before the temperature, of the float32 model, and labels (n,)."""
    probabilities: Floats
    """(n, classes), of the exported model."""


def make_card(
    info: RunInfo,
    network: ExportFacts,
    fitted: FittedPredictions,
    ood_detector: OODDetector | None,
    tests: Mapping[int, StoredTest],
    held_out: HeldOutPredictions | None = None,
) -> ModelCard:
    """Return the card of a run's model, without a reading for test-time augmentation around it.

    Args:
        info: the run.
        network: facts about the exported model.
        fitted: its predictions.
        ood_detector: from `nephros.exporters.packaging.fit_ood_detector`; None where the data was not available.
        tests: stored test results by number of views. Where there is none for the model's number, the card has that of the run's
            own, and says so.
        held_out: predictions for training images in cross-validation, before the temperature, of a fine-tuned run.
    """
    class_names = tuple(info.class_names)
    reading = make_reading(class_names, network, fitted, tests.get(network["tta_views"]), held_out)
    if reading["test"] is None and (test := tests.get(info.tta_views)):
        reading["test"], reading["test_accuracy"] = _test_metrics(test.metrics), test.metrics.accuracy
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
        "network": {
            "parameters": info.parameters,
            "multiply_adds_per_view": info.multiply_adds,
            "recipe_tta_views": info.tta_views,
            **network,
        },
        "data": _data_info(info),
        "class_names": list(info.class_names),
        "input": _input_info(info),
        "test_accuracy": reading["test_accuracy"],
        "test": reading["test"],
        "cross_validation": reading.get("cross_validation"),
        "validation": reading["validation"],
        "calibration": reading["calibration"],
        "conformal": reading["conformal"],
        "ood_detector": ood_detector,
        "license": _license(info.data["key"]),
        "limitations": limitations(
            info, compute_metrics(fitted.probabilities, fitted.uncalibrated[1], class_names), fitted.temperature
        ),
    }


def make_reading(
    class_names: tuple[str, ...],
    network: ExportFacts,
    fitted: FittedPredictions,
    test: StoredTest | None,
    held_out: HeldOutPredictions | None = None,
) -> Reading:
    """Return what a card says of the predictions with one number of views; `test` was stored with that number, in float32."""
    temperature, (_, labels), probabilities = fitted
    calibrated = None if held_out is None else _calibrated(held_out, temperature)
    test_predictions = test if network["precision"] == "float32" else None
    return {
        "test_accuracy": test.metrics.accuracy if test else None,
        "test": _test_metrics(test.metrics) if test else None,
        "cross_validation": _cross_validation(calibrated, class_names) if calibrated else None,
        "validation": _card_metrics(compute_metrics(probabilities, labels, class_names)),
        "calibration": _calibration_info(fitted, test_predictions, held_out),
        "conformal": _conformal_info(temperature, (probabilities, labels), test_predictions, calibrated),
    }


def _calibrated(held_out: HeldOutPredictions, temperature: float) -> HeldOutPredictions:
    return held_out._replace(probabilities=apply_temperature(held_out.probabilities, temperature))


def _cross_validation(held_out: HeldOutPredictions, class_names: tuple[str, ...]) -> CardMetrics:
    return _card_metrics(compute_metrics(held_out.probabilities, held_out.labels, class_names, held_out.groups))


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


def _test_metrics(metrics: Metrics) -> TestMetrics:
    views = "one view" if metrics.tta_views == 1 else f"{metrics.tta_views} views"
    return {
        "setup": f"the float32 weights, {views} of each image",
        **_card_metrics(metrics),
        "per_class": metrics.to_dict()["per_class"],
    }


def _calibration_info(
    fitted: FittedPredictions, test: StoredTest | None, held_out: HeldOutPredictions | None
) -> CalibrationInfo:
    """Return the temperature with its calibration error on what it was fitted to, and on test for stored predictions, if any."""
    temperature, (uncalibrated, labels), probabilities = fitted

    def error(before: Floats, after: Floats, labels: Labels) -> CalibrationError:
        return {
            "before": expected_calibration_error(calibration_curve(before, labels)),
            "after": expected_calibration_error(calibration_curve(after, labels)),
        }

    errors: CalibrationErrors = {
        "formula": ECE_FORMULA,
        "n_bins": CALIBRATION_BINS,
        "validation": error(uncalibrated, probabilities, labels),
        "test": error(test.probabilities, apply_temperature(test.probabilities, temperature), test.labels)
        if test
        else None,
    }
    where = "validation"
    if held_out is not None:
        where = "training images in cross-validation and on validation"
        before, all_labels = pool((uncalibrated, labels), held_out)
        after, _ = pool((probabilities, labels), _calibrated(held_out, temperature))
        errors["pooled"] = error(before, after, all_labels)
    return {
        "method": f"temperature: softmax(logits / temperature), of least mean cross-entropy on {where}",
        "temperature": temperature,
        "expected_calibration_error": errors,
    }


def _conformal_info(
    temperature: float,
    validation: tuple[Floats, Labels],
    test: StoredTest | None,
    held_out: HeldOutPredictions | None,
) -> ConformalInfo:
    """Return the quantiles of prediction sets, with their coverage on test for the stored predictions, if any.

    The predictions of `validation` and `held_out` are calibrated, those of `test` are not.
    """
    quantiles = conformal_quantiles(*pool(validation, held_out))
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
        "n_calibration_images": len(validation[1]) + (len(held_out.labels) if held_out else 0),
        "test": coverage,
    }


def _input_info(info: RunInfo) -> InputInfo:
    spec = info.input_spec
    cells: InputInfo = {
        "dtype": "uint8",
        "channels": spec["channels"],
        "height": spec["height"],
        "width": spec["width"],
        "conversion": info.input_conversion,
    }
    if "depth" in spec:
        cells["depth"] = spec["depth"]
    return cells


def _license(dataset_key: str | None) -> dict[str, str | None]:
    entry = MEDMNIST.get(dataset_key or "")
    return {
        "model": "Apache-2.0",
        "data": entry.license if entry else None,
        "attribution": CITATIONS.get(entry.key, f"{entry.name}, MedMNIST v2.") if entry else None,
    }

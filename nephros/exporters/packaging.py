"""From a run folder to a network that is calibrated, evaluated and described by a model card."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.data.images.tta_views import DEFAULT_TTA_VIEWS, includes_rotations
from nephros.data.relocation import reopen_dataset
from nephros.data.split import Split
from nephros.data.subset import subset_train
from nephros.data.volumes import n_planes
from nephros.errors import DivergedError, IncompatibleError, InvalidArgument
from nephros.evaluation.calibration import apply_temperature, fit_temperature
from nephros.evaluation.held_out import HeldOutPredictions, pool, read_held_out
from nephros.evaluation.scoring import ONE_VIEW, PIXELS_PER_BATCH, Evaluation, load_run_model
from nephros.exporters.inference_module import InferenceModule, fit_feature_distance
from nephros.exporters.ood_limits import (
    FEW_CELLS,
    cross_fitted_feature_distances,
    cross_fitted_structure_distances,
    few_cell_ranges,
    shrinkage_ridge,
    upper_limit,
)
from nephros.files import file_digest
from nephros.inference.card_builder import FittedPredictions, StoredTest, make_card, make_reading
from nephros.inference.model_card import ExportFacts, ModelCard, TTAReading
from nephros.inference.onnx_session import ForwardFn
from nephros.inference.ood.detector import (
    RANGE_PERCENTILES,
    FeatureDistanceThreshold,
    OODDetector,
    StatisticRange,
    StructureReference,
    find_ood_reasons,
    fit_statistic_ranges,
    fit_structure,
    structure_distances,
)
from nephros.inference.ood.negative_controls import negative_controls
from nephros.inference.tta import tta_forward_fn
from nephros.models.classifier import Classifier
from nephros.models.tta import TTAClassifier
from nephros.runs import RunFolder, RunInfo

MAX_DISTANCE_IMAGES = 20_000
"""Number of training images, at most, that the feature distance and the structure statistics are fitted to."""


@dataclass(frozen=True)
class OODReference:
    """What the out-of-distribution detector learns from the training cells."""

    ranges: dict[str, StatisticRange]
    structure: StructureReference
    structure_distances: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """(n,) of training cells, which the reference was fitted without; none where validation has cells enough."""
    feature_distances: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Likewise of the features."""


@dataclass(frozen=True)
class TTAFit:
    """Test-time augmentation around the packaged network of one view."""

    tta_views: int
    temperature: float
    uncalibrated: tuple[NDArray[np.float64], NDArray[np.int64]]
    """As in `ExportBundle`, over these views."""
    held_out: HeldOutPredictions | None = None
    """As in `ExportBundle`, where cross-validation took as many views; else None."""


@dataclass(frozen=True)
class ExportBundle:
    """A packaged network, and everything that its card is made from."""

    module: InferenceModule
    info: RunInfo
    network_facts: ExportFacts
    """Of the float32 model."""
    dataset: Dataset
    ood_reference: OODReference
    uncalibrated: tuple[NDArray[np.float64], NDArray[np.int64]]
    """Validation probabilities (n, classes) before the temperature, and labels (n,)."""
    tests: dict[int, StoredTest]
    """Stored results on test by number of views."""
    held_out: HeldOutPredictions | None = None
    """Of a fine-tuned run: predictions for training images in cross-validation."""
    tta: TTAFit | None = None
    """None for a network that takes several views itself, or where it was not asked for."""

    def build_card(self, forward_fn: ForwardFn, network_facts: ExportFacts | None = None) -> ModelCard:
        """Return the card of `forward_fn`, the module or a model made from it, whose facts are `network_facts`."""
        facts, inner_temperature = network_facts or self.network_facts, float(self.module.temperature)
        outputs = forward_fn(self.dataset.val.images)
        fitted = FittedPredictions(inner_temperature, self.uncalibrated, normalize_rows(outputs["probabilities"]))
        ood_detector = fit_ood_detector(
            forward_fn, self.ood_reference, outputs.get("feature_distance"), self.dataset.val.images
        )
        card = make_card(self.info, facts, fitted, ood_detector, self.tests, self.held_out)
        if self.tta is not None:
            card["tta"] = self._tta_reading(forward_fn, facts, self.tta, inner_temperature)
        input_spec = self.info.input_spec
        card["interface"] = {
            "inputs": {"cells": ["n", n_planes(input_spec), input_spec["height"], input_spec["width"]]},
            "outputs": {name: ["n", *values.shape[1:]] for name, values in outputs.items()},
        }
        return card

    def _tta_reading(
        self, forward_fn: ForwardFn, facts: ExportFacts, tta: TTAFit, inner_temperature: float
    ) -> TTAReading:
        tta_fn = tta_forward_fn(forward_fn, tta.tta_views, inner_temperature, tta.temperature)
        probabilities = normalize_rows(tta_fn(self.dataset.val.images)["probabilities"])
        fitted = FittedPredictions(tta.temperature, tta.uncalibrated, probabilities)
        reading = make_reading(tuple(self.info.class_names), facts, fitted, self.tests.get(tta.tta_views), tta.held_out)
        return {**reading, "tta_views": tta.tta_views}


def run_module(module: torch.nn.Module, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Return the outputs of an `InferenceModule` for (n, h, w) or (n, h, w, c) uint8 images, in batches on its device."""
    tensor = next(itertools.chain(module.buffers(), module.parameters()), None)
    device = torch.device("cpu") if tensor is None else tensor.device
    batches = BatchLoader(Split(images, np.zeros(len(images), dtype=np.int64)), device)
    batch_outputs: list[dict[str, torch.Tensor]] = []
    with torch.no_grad():
        batch_outputs += [
            module(cells) for _, cells, _ in batches.iter_batches(max(1, PIXELS_PER_BATCH // batches.pixels_per_image))
        ]
    return (
        {name: torch.cat([outputs[name] for outputs in batch_outputs]).cpu().numpy() for name in batch_outputs[0]}
        if batch_outputs
        else {}
    )


def build_export_bundle(
    run: RunFolder,
    tta_views: int | None = None,
    data: str | Path | Dataset | None = None,
    *,
    tta: bool = True,
) -> ExportBundle:
    """Fit temperature, ranges and distances of a finished run on its train and validation splits.

    `tta_views` are those of the network itself, by default 1, and `tta` tells whether test-time augmentation around a network
    of one view is fitted too. `data` defaults to the run's data where it was or near the run folder. The test split is not read:
    test figures in the card come from what the run stored when it was scored. Raises a NephrosError if the run is unfinished,
    its data is gone or has changed, or it is a classical baseline.
    """
    info = run.info()
    classifier = load_run_model(run)
    held_out = read_held_out(run)
    if tta_views is None:  # cross-validation calibrates the views with which it predicted
        tta_views = 1 if held_out is None else info.tta_views
    module = InferenceModule(classifier, tta_views)
    if includes_rotations(tta_views) and info.input_spec["height"] != info.input_spec["width"]:
        hint = "The images of this run are not square, and the other views rotate them."
        raise InvalidArgument("tta_views", tta_views, "1 or 5", hint=hint)
    dataset = _load_training_data(run, info, data)
    _check_matches_classifier(classifier, dataset.val.images[:64], run)
    uncalibrated = validation_probabilities(module, dataset), dataset.val.labels
    if not np.isfinite(uncalibrated[0]).all():
        raise DivergedError(f"The network of {run.root} outputs NaN, so its training diverged: train again.")
    reference = fit_reference(module, dataset)
    module.temperature.fill_(fit_temperature(*pool(uncalibrated, held_out)))
    network_facts: ExportFacts = {**_network_facts(run, tta_views), "epoch": info.chosen_epoch}
    tta_fit = None
    if tta and tta_views == 1:
        outer_views = info.tta_views if info.tta_views > 1 else DEFAULT_TTA_VIEWS
        tta_fit = fit_tta(module, dataset, outer_views, held_out if outer_views == info.tta_views else None)
    tests = _stored_test_results(run)
    return ExportBundle(module, info, network_facts, dataset, reference, uncalibrated, tests, held_out, tta_fit)


def validation_probabilities(module: InferenceModule, dataset: Dataset) -> NDArray[np.float64]:
    """Return (n, classes) probabilities of the validation split."""
    return normalize_rows(run_module(module, dataset.val.images)["probabilities"])


def normalize_rows(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (n, classes) probabilities as float64 whose rows sum to 1."""
    exact: NDArray[np.float64] = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    return exact


def fit_reference(module: InferenceModule, dataset: Dataset) -> OODReference:
    """Fit the module's feature distance, and the statistics of the pixels, to training cells; no threshold yet."""
    split = dataset.train
    if len(split) > MAX_DISTANCE_IMAGES:
        split = subset_train(dataset, MAX_DISTANCE_IMAGES, 0).train
    features = torch.from_numpy(run_module(module, split.images)["features"])
    labels = torch.from_numpy(np.array(split.labels))
    structure = fit_structure(split.images)
    if len(dataset.val) >= FEW_CELLS:
        module.set_distance_parameters(fit_feature_distance(features, labels, dataset.n_classes))
        return OODReference(fit_statistic_ranges(dataset.train.images), structure)
    ridge = shrinkage_ridge(features, labels, dataset.n_classes)
    module.set_distance_parameters(fit_feature_distance(features, labels, dataset.n_classes, ridge))
    return OODReference(
        few_cell_ranges(dataset.train.images),
        structure,
        cross_fitted_structure_distances(split.images, split.labels),
        cross_fitted_feature_distances(features, labels, dataset.n_classes, ridge),
    )


def fit_tta(
    module: InferenceModule, dataset: Dataset, tta_views: int, held_out: HeldOutPredictions | None = None
) -> TTAFit:
    """Fit the temperature of several views around a module of one view on validation, and on predictions in cross-validation."""
    forward_fn = tta_forward_fn(lambda cells: run_module(module, cells), tta_views, float(module.temperature), 1.0)
    uncalibrated = (normalize_rows(forward_fn(dataset.val.images)["probabilities"]), dataset.val.labels)
    return TTAFit(tta_views, fit_temperature(*pool(uncalibrated, held_out)), uncalibrated, held_out)


def probabilities_only(run: RunFolder, device: torch.device) -> tuple[ForwardFn, ModelCard]:
    """Return a finished run's network and a card, both made without the run's data from its stored predictions.

    The network outputs nothing but probabilities. Raises a NephrosError if validation has not been scored.
    """
    info = run.info()
    classifier = load_run_model(run)
    stored = Evaluation.from_run(run, "val")
    held_out = read_held_out(run)
    temperature = fit_temperature(*pool((stored.probabilities, stored.labels), held_out))
    card = make_card(
        info,
        _network_facts(run, info.tta_views),
        FittedPredictions(
            temperature,
            (stored.probabilities, stored.labels),
            apply_temperature(stored.probabilities, temperature),
        ),
        None,
        _stored_test_results(run),
        held_out,
    )

    class ProbabilitiesOnly(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tta_model = TTAClassifier(classifier, info.tta_views)

        def forward(self, cells: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"probabilities": torch.softmax(self.tta_model(cells).double() / temperature, dim=1).float()}

    module = ProbabilitiesOnly().to(device)
    return lambda cells: run_module(module, cells), card


def fit_ood_detector(
    forward_fn: ForwardFn, ood_reference: OODReference, feature_distance: NDArray[Any] | None, val: NDArray[np.uint8]
) -> OODDetector:
    """Return the card's ``ood_detector``: thresholds, and the flagged fraction of validation cells and negative controls.

    `feature_distance` (n,) belongs to the validation images `val`; None for a network without it.
    """
    distance_threshold: FeatureDistanceThreshold | None = None
    if feature_distance is not None:
        description = "Mahalanobis distance of the features to the nearest class mean, one covariance for all classes"
        distances = np.concatenate([feature_distance, ood_reference.feature_distances])
        threshold = upper_limit(distances, RANGE_PERCENTILES[1])
        distance_threshold = {"description": description, "threshold": threshold}
    structure = ood_reference.structure
    distances = np.concatenate([structure_distances(structure, val), ood_reference.structure_distances])
    threshold = upper_limit(distances, structure["percentile"])
    detector: OODDetector = {
        "range_percentiles": list(RANGE_PERCENTILES),
        "ranges": ood_reference.ranges,
        "structure": {**structure, "threshold": threshold},
        "feature_distance": distance_threshold,
    }

    def flagged_fraction(cells: NDArray[np.uint8], feature_distance: NDArray[Any] | None) -> float:
        return float(np.mean([bool(reasons) for reasons in find_ood_reasons(detector, cells, feature_distance)]))

    controls = negative_controls(val)
    detector["flagged_fraction"] = {"validation": flagged_fraction(val, feature_distance)} | {
        kind: flagged_fraction(cells, forward_fn(cells).get("feature_distance")) for kind, cells in controls.items()
    }
    return detector


def _network_facts(run: RunFolder, tta_views: int) -> ExportFacts:
    weights_sha256 = file_digest(run.file("weights.safetensors"))
    return {"tta_views": tta_views, "precision": "float32", "weights_sha256": weights_sha256}


def _check_matches_classifier(classifier: Classifier, images: NDArray[np.uint8], run: RunFolder) -> None:
    """Raise IncompatibleError unless an `InferenceModule` gives the classifier's own probabilities."""
    with torch.no_grad():
        cells = torch.from_numpy(np.array(images if images.ndim == 4 else images[..., None])).permute(0, 3, 1, 2)
        expected = torch.softmax(classifier(cells), dim=1).numpy()
    probabilities = run_module(InferenceModule(classifier), images)["probabilities"]
    if not np.allclose(expected, probabilities, atol=1e-5, equal_nan=True):
        raise IncompatibleError(
            f"The network of {run.root} can't be packaged: its layers don't act in the order in which they are named."
        )


def _load_training_data(run: RunFolder, info: RunInfo, data: str | Path | Dataset | None) -> Dataset:
    if data is None and not info.data_request["source"]:
        raise IncompatibleError(
            f"{run.root} was trained on data given in Python; packaging reads it again, so give it as `data`."
        )
    return reopen_dataset(info.data_request, info.data, run.root, data)


def _stored_test_results(run: RunFolder) -> dict[int, StoredTest]:
    """Return the results on test that a run stored, by number of views: its own, and one view."""
    if not run.file("test", "metrics.json").is_file():
        return {}
    evaluations = [Evaluation.from_run(run, "test")]
    if run.file("test", ONE_VIEW, "metrics.json").is_file():
        evaluations.append(Evaluation.from_run(run, "test", ONE_VIEW))
    return {
        evaluation.metrics.tta_views: StoredTest(evaluation.metrics, evaluation.probabilities, evaluation.labels)
        for evaluation in evaluations
    }

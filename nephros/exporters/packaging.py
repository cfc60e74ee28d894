"""From a run folder to a Packaged network that is calibrated, measured and described by its card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nephros.data.batches import Batches
from nephros.data.dataset import Dataset, Split
from nephros.data.load import load
from nephros.data.subset import subset
from nephros.errors import UserError
from nephros.evaluation.scoring import EVALUATION_PIXELS, Evaluation
from nephros.evaluation.temperature import fit_temperature, scaled
from nephros.exporters.inference_module import Packaged, distance_tensors
from nephros.files import digest
from nephros.inference.model_card import make_card
from nephros.inference.ood.detector import RANGE, fit_ranges, reasons
from nephros.inference.ood.negative_controls import non_cells
from nephros.inference.ood.structure import distances, fit_structure
from nephros.inference.predictor import Network
from nephros.models.classifier import Classifier
from nephros.models.serialization import load_model
from nephros.models.tta import Averaged, turning
from nephros.runs import RunFolder, RunInfo

DISTANCE_IMAGES = 20_000
"""Training images that distances of features and of structure are fitted to, at most."""


@dataclass(frozen=True)
class Package:
    """A packaged network and all that its cards are made from."""

    module: Packaged
    info: RunInfo
    about: dict[str, Any]
    """Card's ``network``, for the float32 model."""
    dataset: Dataset
    familiar: dict[str, Any]
    """``ranges`` and ``structure`` of the training cells."""
    raw: tuple[NDArray[np.float64], NDArray[np.int64]]
    """Validation probabilities before the temperature, and labels."""
    test: tuple[dict[str, Any], NDArray[np.float64], NDArray[np.int64]] | None

    def card(self, network: Network, **about: Any) -> dict[str, Any]:
        """Return the card of `network`, which is the module or was made from it; `about` replaces parts of ``network``."""
        found = network(self.dataset.val.images)
        probabilities = found["probabilities"].astype(np.float64)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        unfamiliarity = fit_unfamiliarity(network, self.familiar, found.get("distance"), self.dataset.val.images)
        temperature = float(self.module.temperature)
        shape = self.info.shape
        interface = {
            "input": {"cells": ["n", shape["channels"], shape["height"], shape["width"]]},
            "outputs": {name: ["n", *values.shape[1:]] for name, values in found.items()},
        }
        card = make_card(
            self.info, {**self.about, **about}, temperature, self.raw, probabilities, unfamiliarity, self.test
        )
        return card | {"interface": interface}


def run_module(module: torch.nn.Module, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Return what a Packaged answers on (n, h, w) or (n, h, w, c) uint8 images, in batches on the CPU."""
    batches = Batches(Split(images, np.zeros(len(images), dtype=np.int64)), torch.device("cpu"))
    parts: list[dict[str, torch.Tensor]] = []
    with torch.no_grad():
        parts += [module(cells) for _, cells, _ in batches.read(max(1, EVALUATION_PIXELS // batches.pixels))]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]} if parts else {}


def package(run: RunFolder, views: int | None = None) -> Package:
    """Fit temperature, familiar ranges and distances of a finished run, on its train and validation splits.

    `views` are the run's own unless given. The test split is not read: what the card says of it comes from what the run
    stored when it was scored. UserError when the run is not over, its data is gone or has changed, or it is a classical
    baseline.
    """
    info = run.info()
    weights = run.file("weights.safetensors")
    classifier, _ = load_model(weights)
    views = info.views if views is None else views
    module = Packaged(classifier, views)
    if turning(views) and info.shape["height"] != info.shape["width"]:
        raise UserError(f"--views {views} turns the images, but those of {run.root} are not square: use 1 or 5.")
    dataset = _data(run, info)
    _check_same(classifier, dataset.val.images[:64], run)
    plain = run_module(module, dataset.val.images)["probabilities"].astype(np.float64)
    if not np.isfinite(plain).all():
        raise UserError(f"The network of {run.root} answers NaN: its training diverged; train again.")
    raw = (plain / plain.sum(axis=1, keepdims=True), dataset.val.labels)
    few = subset(dataset, DISTANCE_IMAGES, 0).train if len(dataset.train) > DISTANCE_IMAGES else dataset.train
    features = torch.from_numpy(run_module(module, few.images)["features"])
    module.temperature.fill_(fit_temperature(*raw))
    module.add_distance(distance_tensors(features, torch.from_numpy(np.array(few.labels)), dataset.classes))
    about = {"views": views, "precision": "float32", "weights_sha256": digest(weights), "epoch": info.chosen_epoch}
    familiar = {"ranges": fit_ranges(dataset.train.images), "structure": fit_structure(few.images)}
    return Package(module, info, about, dataset, familiar, raw, _test(run))


def _check_same(classifier: Classifier, images: NDArray[np.uint8], run: RunFolder) -> None:
    """Raise UserError unless a Packaged gives the classifier's own probabilities."""
    with torch.no_grad():
        cells = torch.from_numpy(np.array(images if images.ndim == 4 else images[..., None])).permute(0, 3, 1, 2)
        own = torch.softmax(classifier(cells), dim=1).numpy()
    if not np.allclose(own, run_module(Packaged(classifier), images)["probabilities"], atol=1e-5, equal_nan=True):
        raise UserError(
            f"The network of {run.root} can't be packaged: its layers do not act in the order they are named in."
        )


def bare(run: RunFolder) -> tuple[Network, dict[str, Any]]:
    """Return a finished run's network and a card made from its stored predictions alone, without its data.

    It answers with probabilities and nothing else. UserError when validation has not been scored.
    """
    info = run.info()
    classifier, _ = load_model(run.file("weights.safetensors"))
    stored = Evaluation.of_run(run, "val")
    temperature = fit_temperature(stored.probabilities, stored.labels)
    about = {"views": info.views, "precision": "float32", "weights_sha256": digest(run.file("weights.safetensors"))}
    answers = scaled(stored.probabilities, temperature)
    card = make_card(info, about, temperature, (stored.probabilities, stored.labels), answers, None, _test(run))

    class Bare(torch.nn.Module):
        def forward(self, cells: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"probabilities": torch.softmax(averaged(cells).double() / temperature, dim=1).float()}

    averaged, module = Averaged(classifier, info.views), Bare()
    return lambda cells: run_module(module, cells), card


def _data(run: RunFolder, info: RunInfo) -> Dataset:
    if not info.request["source"]:
        raise UserError(
            f"{run.root} was trained on data given in Python: it can't be packaged without a path to its data."
        )
    dataset = load(**info.request)
    if dataset.provenance.sha256 != info.data["sha256"]:
        raise UserError(
            f"The data of {run.root} ({dataset.provenance.path}) has changed since it was trained: restore it."
        )
    return dataset


def _test(run: RunFolder) -> tuple[dict[str, Any], NDArray[np.float64], NDArray[np.int64]] | None:
    if not run.file("test", "metrics.json").is_file():
        return None
    stored = Evaluation.of_run(run, "test")
    return stored.metrics, stored.probabilities, stored.labels


def fit_unfamiliarity(
    network: Network, familiar: dict[str, Any], distance: NDArray[Any] | None, val: NDArray[np.uint8]
) -> dict[str, Any]:
    """Return the card's ``unfamiliarity``: the limits, and the share of validation and of made-up non-cells beyond them."""
    limit = None
    if distance is not None:
        what = "Mahalanobis distance of the features to the nearest class mean, one covariance for all classes"
        limit = {"what": what, "threshold": float(np.percentile(distance, RANGE[1]))}
    structure = familiar["structure"]
    structure = structure | {"threshold": float(np.percentile(distances(structure, val), structure["percentile"]))}
    about: dict[str, Any] = {
        "percentiles": list(RANGE),
        "ranges": familiar["ranges"],
        "structure": structure,
        "distance": limit,
    }

    def flagged(cells: NDArray[np.uint8], found: NDArray[Any] | None) -> float:
        return float(np.mean([bool(words) for words in reasons(about, cells, found)]))

    made_up = non_cells(val)
    shares = {"validation": flagged(val, distance)}
    shares |= {kind: flagged(cells, network(cells).get("distance")) for kind, cells in made_up.items()}
    return about | {"flagged": shares}

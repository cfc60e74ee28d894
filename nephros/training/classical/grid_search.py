"""Grid search over a classical baseline's hyperparameters: every combination is fitted, calibrated and scored on validation."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nephros.data.dataset import Dataset
from nephros.errors import IncompatibleError, InvalidArgument
from nephros.evaluation.metrics import compute_metrics
from nephros.models.classical import ClassicalModel
from nephros.recipe import Recipe
from nephros.training.classical.knn import fit_knn_models
from nephros.training.classical.search_results import FittedModel, SearchResult
from nephros.training.classical.svm import fit_linear_svms, fit_rbf_svms

SHIFT_PENALTY = 1e-6
"""Weight of the penalty that pulls the shift of a class without validation images to 0; negligible for all others."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GridSearchResult:
    """Outcome of a grid search: the best model, calibrated, and how every combination did."""

    model: ClassicalModel
    results: list[SearchResult]
    best_index: int
    """Index of the model's combination in `results`."""


@torch.no_grad()
def grid_search(recipe: Recipe, dataset: Dataset, device: torch.device) -> GridSearchResult:
    """Fit every combination of the recipe's lists and keep the best by its metric; of equals, the first.

    The data must satisfy `check_classical`. Raises InvalidArgument when the metric is undefined on the validation split.
    """
    labels = torch.from_numpy(np.require(dataset.val.labels, requirements=["C", "W"])).to(device)
    results: list[SearchResult] = []
    best: ClassicalModel | None = None
    best_index = 0
    start = time.perf_counter()
    for fitted in _fit_models(recipe, dataset, device):
        scale, shift = _calibrate(fitted, labels)
        logits = (scale * fitted.scores + shift).double()
        metrics = compute_metrics(torch.softmax(logits, dim=1).cpu().numpy(), dataset.val.labels, dataset.class_names)
        auc = math.nan if metrics.auc is None else metrics.auc
        now = time.perf_counter()
        result = SearchResult(
            **dataclasses.asdict(fitted.params),
            val_accuracy=metrics.accuracy,
            val_loss=metrics.loss,
            val_macro_f1=metrics.macro_f1,
            val_auc=auc,
            seconds=now - start,
        )
        start = now
        logger.info("%s: val loss %.4f  val accuracy %.4f", result.description, result.val_loss, result.val_accuracy)
        results.append(result)
        if best is None or result.is_better_than(results[best_index], recipe.metric):
            best_index, best = len(results) - 1, fitted.model
            best.scale, best.shift = scale, shift
    assert best is not None
    if math.isnan(getattr(results[best_index], recipe.metric)):
        raise InvalidArgument("metric", recipe.metric, "val_loss for this validation split, which lacks classes")
    return GridSearchResult(best, results, best_index)


def check_classical(recipe: Recipe, dataset: Dataset) -> None:
    """Raise an error when the train split is too small for the recipe's lists, or too uniform to learn from.

    InvalidArgument names the field of the recipe whose value is too large; IncompatibleError is about the images.
    """
    classical, train = recipe.classical, dataset.train
    n, n_pixels = len(train), int(np.prod(train.images.shape[1:]))
    network = recipe.model.network
    limits = [
        ("classical.n_components", classical.n_components, min(n, n_pixels), "pca" in classical.features),
        ("knn.n_neighbors", max(recipe.knn.n_neighbors), n, network == "knn"),
        ("svm.n_landmarks", recipe.svm.n_landmarks, n, network == "svm-rbf"),
    ]
    for parameter, value, maximum, applies in limits:
        if applies and value > maximum:
            raise InvalidArgument(
                parameter, value, f"at most {maximum:,} for {n:,} training images of {n_pixels:,} pixel values"
            )
    if network != "knn":
        if len(np.unique(train.labels)) < 2:
            raise IncompatibleError(
                f"The training images belong to a single class, but {network} needs at least two: use other data."
            )
        if (train.images == train.images.reshape(-1)[0]).all():
            raise IncompatibleError(
                "All pixels of the training images are equal, so there is nothing to learn: use other data."
            )


def fit_vector_scaling(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (classes,) scale and shift that minimize the mean cross-entropy of softmax(scale * scores + shift).

    `scores` are (n, classes), `labels` (n,) int64. Vector scaling (Guo et al., On calibration of modern neural networks, ICML
    2017) is Platt scaling with a slope per class; the problem is convex and is solved by L-BFGS in float64.
    """
    scores = scores.double()
    std = scores.std(dim=0, correction=0)
    std = torch.where(std > 1e-9 * scores.abs().amax(dim=0), std, 1.0)  # a class that no image is near has one score
    scores = scores / std  # so that a step suits small scores as well as large ones
    scale = torch.ones(scores.shape[1], dtype=torch.float64, device=scores.device, requires_grad=True)
    shift = torch.zeros_like(scale, requires_grad=True)
    optimizer = torch.optim.LBFGS([scale, shift], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(scale * scores + shift, labels) + SHIFT_PENALTY * shift.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return (scale.detach() / std).float(), shift.detach().float()


def _calibrate(fitted: FittedModel, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scale and shift of each class, fitted on validation; a class without training images keeps the lowest score."""
    present = fitted.model.present_classes
    has_training_class = torch.isin(labels, present)
    with torch.enable_grad():
        fitted_scaling = fit_vector_scaling(
            fitted.scores[has_training_class][:, present], torch.searchsorted(present, labels[has_training_class])
        )
    scale, shift = fitted.model.scale.clone(), fitted.model.shift.clone()
    scale[present], shift[present] = fitted_scaling
    return scale, shift


def _fit_models(recipe: Recipe, dataset: Dataset, device: torch.device) -> Iterator[FittedModel]:
    fit_models = {"knn": fit_knn_models, "svm-linear": fit_linear_svms, "svm-rbf": fit_rbf_svms}
    return fit_models[recipe.model.network](recipe, dataset.train, dataset.val, dataset.n_classes, device)

"""Learning a classical baseline: every combination that the recipe lists, each calibrated and judged on validation."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from nephros.data.dataset import Dataset
from nephros.errors import NephrosError
from nephros.evaluation.metrics import compute_metrics
from nephros.models.classical import ClassicalModel
from nephros.recipe import Recipe
from nephros.training.classical.calibration import fit_vector_scaling
from nephros.training.classical.knn import fit_knn_models
from nephros.training.classical.search_results import FittedModel, SearchResult
from nephros.training.classical.svm import fit_linear_svms, fit_rbf_svms

Say = Callable[[str], None]


@torch.no_grad()
def grid_search(
    recipe: Recipe, dataset: Dataset, device: torch.device, say: Say
) -> tuple[ClassicalModel, list[SearchResult], int]:
    """Return the best model, calibrated, with every row tried and the place of the best among them.

    Of equal combinations the earlier is kept. The data is one that `check_classical` has let pass. Raises UserError for a
    metric that validation leaves undefined.
    """
    labels = torch.from_numpy(np.require(dataset.val.labels, requirements=["C", "W"])).to(device)
    results: list[SearchResult] = []
    best: ClassicalModel | None = None
    best_index = 0
    start = time.perf_counter()
    for fitted in _fit_models(recipe, dataset, device, say):
        scale, shift = _calibrate(fitted, labels)
        logits = (scale * fitted.scores + shift).double()
        metrics = compute_metrics(torch.softmax(logits, dim=1).cpu().numpy(), dataset.val.labels, dataset.class_names)
        auc = math.nan if metrics["auc"] is None else metrics["auc"]
        now = time.perf_counter()
        result = SearchResult(
            **dataclasses.asdict(fitted.params),
            val_accuracy=metrics["accuracy"],
            val_loss=metrics["loss"],
            val_macro_f1=metrics["macro_f1"],
            val_auc=auc,
            seconds=now - start,
        )
        start = now
        say(f"{result.description}: val loss {result.val_loss:.4f}  val accuracy {result.val_accuracy:.4f}")
        results.append(result)
        if best is None or result.is_better_than(results[best_index], recipe.metric):
            best_index, best = len(results) - 1, fitted.model
            best.scale, best.shift = scale, shift
    assert best is not None
    if math.isnan(getattr(results[best_index], recipe.metric)):
        raise NephrosError(
            f"--metric {recipe.metric} is undefined on this validation split, which lacks classes: choose val_loss."
        )
    return best, results, best_index


def _calibrate(fitted: FittedModel, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scale and shift of each class, fitted on validation; a class that was not learnt keeps its place below all."""
    present = fitted.model.present
    has_training_class = torch.isin(labels, present)
    with torch.enable_grad():
        fitted_scaling = fit_vector_scaling(
            fitted.scores[has_training_class][:, present], torch.searchsorted(present, labels[has_training_class])
        )
    scale, shift = fitted.model.scale.clone(), fitted.model.shift.clone()
    scale[present], shift[present] = fitted_scaling
    return scale, shift


def _fit_models(recipe: Recipe, dataset: Dataset, device: torch.device, say: Say) -> Iterator[FittedModel]:
    config, train, val, n_classes = recipe.classical, dataset.train, dataset.val, dataset.n_classes
    if recipe.model.network == "knn":
        return fit_knn_models(config, train, val, n_classes, device, say)
    fit_svms = {"svm-linear": fit_linear_svms, "svm-rbf": fit_rbf_svms}[recipe.model.network]
    return fit_svms(config, train, val, n_classes, device, recipe.seed)

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
from nephros.errors import UserError
from nephros.evaluation.metrics import summarise
from nephros.models.classical import ClassicalModel
from nephros.recipe import Recipe
from nephros.training.classical.calibration import vector_scaling
from nephros.training.classical.knn import neighbour_models
from nephros.training.classical.search_results import Learnt, Tried
from nephros.training.classical.svm import linear_machines, rbf_machines

Say = Callable[[str], None]


@torch.no_grad()
def learn(recipe: Recipe, dataset: Dataset, device: torch.device, say: Say) -> tuple[ClassicalModel, list[Tried], int]:
    """Return the best model, calibrated, with every row tried and the place of the best among them.

    Of equal combinations the earlier is kept. The data is one that `check_classical` has let pass. Raises UserError for a
    metric that validation leaves undefined.
    """
    labels = torch.from_numpy(np.require(dataset.val.labels, requirements=["C", "W"])).to(device)
    tried: list[Tried] = []
    best: ClassicalModel | None = None
    place = 0
    start = time.perf_counter()
    for learnt in _models(recipe, dataset, device, say):
        scale, shift = _calibrated(learnt, labels)
        logits = (scale * learnt.scores + shift).double()
        found = summarise(torch.softmax(logits, dim=1).cpu().numpy(), dataset.val.labels, dataset.class_names)
        auc = math.nan if found["auc"] is None else found["auc"]
        now = time.perf_counter()
        row = Tried(
            **dataclasses.asdict(learnt.combination),
            val_accuracy=found["accuracy"],
            val_loss=found["loss"],
            val_macro_f1=found["macro_f1"],
            val_auc=auc,
            seconds=now - start,
        )
        start = now
        say(f"{row.words}: val loss {row.val_loss:.4f}  val accuracy {row.val_accuracy:.4f}")
        tried.append(row)
        if best is None or row.better_than(tried[place], recipe.metric):
            place, best = len(tried) - 1, learnt.model
            best.scale, best.shift = scale, shift
    assert best is not None
    if math.isnan(getattr(tried[place], recipe.metric)):
        raise UserError(
            f"--metric {recipe.metric} is undefined on this validation split, which lacks classes: choose val_loss."
        )
    return best, tried, place


def _calibrated(learnt: Learnt, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scale and shift of each class, fitted on validation; a class that was not learnt keeps its place below all."""
    present = learnt.model.present
    known = torch.isin(labels, present)
    with torch.enable_grad():
        found = vector_scaling(learnt.scores[known][:, present], torch.searchsorted(present, labels[known]))
    scale, shift = learnt.model.scale.clone(), learnt.model.shift.clone()
    scale[present], shift[present] = found
    return scale, shift


def _models(recipe: Recipe, dataset: Dataset, device: torch.device, say: Say) -> Iterator[Learnt]:
    settings, train, val, classes = recipe.classic, dataset.train, dataset.val, dataset.classes
    if recipe.model.network == "knn":
        return neighbour_models(settings, train, val, classes, device, say)
    machines = {"svm-linear": linear_machines, "svm-rbf": rbf_machines}[recipe.model.network]
    return machines(settings, train, val, classes, device, recipe.seed)

"""Every method on the same folds: what it predicts for images that it has not seen, and which is best."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from nephros.console import progress_bar
from nephros.data.split import Split
from nephros.errors import IncompatibleError, InvalidArgument
from nephros.evaluation.metrics import Floats, Labels, Metrics, compute_metrics
from nephros.finetuning.baselines import cross_validate_neighbors, predict_largest_class
from nephros.finetuning.features import with_head
from nephros.finetuning.folds import Folds, Indices, make_folds
from nephros.finetuning.head import DEFAULT_C, LinearHead, choose_C, fit_head
from nephros.finetuning.network import make_recipe, predict_images, train_method
from nephros.finetuning.self_training import self_train
from nephros.models.classifier import Classifier
from nephros.recipe import ModelConfig, Recipe
from nephros.text_tables import join_words, pluralize
from nephros.training.history import EpochMetrics

METHODS = ("head", "last-stage", "network", "self-training", "scratch")
"""Methods that a run can keep, the simplest first; self-training needs images without a label."""
PREFERENCE = ("self-training", "network", "last-stage", "head", "scratch")
"""The same, with those first that did best on classes that the source had not seen (`nephros reproduce transfer`)."""
LEAD, LEAD_SPREAD = 0.05, 0.04
"""Accuracy by which the preferred method is expected to lead another: mean and standard deviation of a normal distribution."""
SHIFT = 0.03
"""Standard deviation of what a lead on other cells, whose classes are not as frequent as those of the labels, differs by from the
lead among the labels, however many they are."""
BASELINES = ("knn", "largest-class")
"""Methods that are shown beside them."""
_INNER_FOLDS = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A method and its predictions for held-out images."""

    method: str
    probabilities: Floats
    """(n, classes) for the training images, each from a model that did not see it."""
    labels: Labels
    class_names: tuple[str, ...]
    seconds: float
    detail: str = ""

    @cached_property
    def metrics(self) -> Metrics:
        """The metrics of the held-out predictions."""
        return compute_metrics(self.probabilities, self.labels, self.class_names)


@dataclass(frozen=True)
class Problem:
    """What all methods learn from."""

    train: Split
    class_names: tuple[str, ...]
    groups: NDArray[np.str_] | None
    folds: Folds
    features: NDArray[np.float32]
    """(n, views, d) of the pretrained network."""
    start: Classifier
    """The pretrained network, with any last layer."""
    model: ModelConfig
    tta_views: int
    seed: int
    device: torch.device
    unlabeled: NDArray[np.uint8] | None = None
    """(m, h, w) or (m, h, w, 3) images of the same source without a label; None where there are none."""
    heads: dict[bytes, LinearHead] = field(init=False, default_factory=dict)
    """Fitted heads by the images that they were fitted to, since every method starts from the same one."""
    networks: dict[bytes, FittedMethod] = field(init=False, default_factory=dict)
    """Those of ``network``, likewise: self-training starts from its predictions."""

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def cross_validate(problem: Problem, methods: Sequence[str]) -> list[Candidate]:
    """Return the candidates of `methods`, which are some of METHODS, and of BASELINES."""
    labels, n_classes = problem.train.labels, problem.n_classes
    candidates = []
    for method in (*methods, *BASELINES):
        start, detail = time.perf_counter(), ""
        if method == "knn":
            probabilities, k = cross_validate_neighbors(problem.features[:, 0], labels, n_classes, problem.folds)
            detail = pluralize(k, "neighbor")
        elif method == "largest-class":
            probabilities = predict_largest_class(labels, n_classes)
        else:
            probabilities = np.empty((len(labels), n_classes))
            splits = problem.folds.splits()
            for train, held_out in progress_bar(splits, f"{method}, {len(splits)} folds", len(splits)):
                probabilities[held_out] = predict_held_out(problem, method, train, held_out)
        seconds = time.perf_counter() - start
        candidate = Candidate(method, probabilities, labels, problem.class_names, seconds, detail)
        logger.info(f"{method}: accuracy {candidate.metrics.accuracy:.3f} in cross-validation ({seconds:.0f} s)")
        candidates.append(candidate)
    return candidates


def best_candidate(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate to keep, of those with a method of METHODS, by `choose_method`."""
    by_method = {candidate.method: candidate for candidate in candidates}
    accuracies = {method: candidate.metrics.accuracy for method, candidate in by_method.items()}
    return by_method[choose_method(accuracies, len(candidates[0].labels))]


def choose_method(accuracies: Mapping[str, float], n_images: int) -> str:
    """Return the method to keep by its accuracy on `n_images`: the first of PREFERENCE, unless another is clearly better.

    The highest accuracy of all would be a matter of luck where labels are few: of 30 images, a method that is 15 points worse is
    ahead in one of ten draws. Where labels are many, a lead among them may still not hold on other cells. So a difference is
    weighed against what is known beforehand, LEAD and LEAD_SPREAD, each by its variance, as if the two methods erred
    independently. Of methods that are always right, the simplest is kept.
    """
    kept, *others = [method for method in PREFERENCE if method in accuracies]
    for other in others:
        kept_accuracy, accuracy = accuracies[kept], accuracies[other]
        variance = (kept_accuracy * (1 - kept_accuracy) + accuracy * (1 - accuracy)) / n_images + SHIFT**2
        is_simpler = METHODS.index(other) < METHODS.index(kept)
        if accuracy - kept_accuracy > LEAD / LEAD_SPREAD**2 * variance or (
            accuracy == kept_accuracy == 1 and is_simpler
        ):
            kept = other
    return kept


def explain_choice(kept: str, accuracies: Mapping[str, float]) -> str:
    """Return why `choose_method` kept a method that is not the most accurate; "" for the most accurate."""
    methods = [method for method in PREFERENCE if method in accuracies]
    better = [method for method in methods if accuracies[method] > accuracies[kept]]
    if not better:
        return ""
    verb = "is" if len(better) == 1 else "are"
    chance = f"{kept} is kept although {join_words(better)} {verb} ahead here, by too little to rely on"
    return (
        f"{chance}: on other classes that were new to the weights, {kept} did best."
        if kept == methods[0]
        else f"{chance}."
    )


def fit_best_head(problem: Problem, train: Indices) -> LinearHead:
    """Return a head fitted to the images at `train`, its regularization chosen by cross-validation among them."""
    key = train.tobytes()
    if key not in problem.heads:
        problem.heads[key] = _fit_best_head(problem, train)
    return problem.heads[key]


def _fit_best_head(problem: Problem, train: Indices) -> LinearHead:
    labels, features = problem.train.labels[train], problem.features[train, 0]
    groups = None if problem.groups is None else problem.groups[train]
    C = DEFAULT_C
    for inner_groups in [groups] if groups is None else [groups, None]:  # by image where a single group is left here
        with contextlib.suppress(IncompatibleError, InvalidArgument):
            inner = make_folds(labels, problem.class_names, inner_groups, _INNER_FOLDS, problem.seed)
            C = choose_C(features, labels, problem.n_classes, inner)
            break
    return fit_head(features, labels, problem.n_classes, C)


def predict_held_out(problem: Problem, method: str, train: Indices, held_out: Indices) -> Floats:
    """Return the (n, classes) probabilities of a method, fitted to the images at `train`, for those at `held_out`."""
    if method == "head":
        return fit_best_head(problem, train).predict(problem.features[held_out])
    held_out_split = Split(problem.train.images[held_out], problem.train.labels[held_out])
    fitted = fit_method(problem, method, train, held_out_split[:1])  # whose scores by epoch nobody reads
    return predict_images(fitted.model, held_out_split, problem.n_classes, fitted.recipe.tta_views, problem.device)


@dataclass(frozen=True)
class FittedMethod:
    """A method, fitted to images."""

    model: Classifier
    recipe: Recipe
    history: list[EpochMetrics]
    """Empty for the head alone."""
    C: float | None
    """Of the head; None from scratch."""


def fit_method(problem: Problem, method: str, rows: Indices, val: Split) -> FittedMethod:
    """Fit a method to the training images at `rows`; `val` is scored after each epoch of training and chooses nothing."""
    return _fit_network(problem, rows, val) if method == "network" else _fit_method(problem, method, rows, val)


def _fit_network(problem: Problem, rows: Indices, val: Split) -> FittedMethod:
    key = rows.tobytes()
    if key not in problem.networks:
        problem.networks[key] = _fit_method(problem, "network", rows, val)
    return problem.networks[key]


def _fit_method(problem: Problem, method: str, rows: Indices, val: Split) -> FittedMethod:
    train = Split(problem.train.images[rows], problem.train.labels[rows])
    recipe = make_recipe(method, problem.model, len(train), problem.seed, problem.tta_views)
    head = None if method == "scratch" else fit_best_head(problem, rows)
    model = problem.start if head is None else with_head(problem.start, head.weight, head.bias)
    history: list[EpochMetrics] = []
    if method == "self-training":
        assert problem.unlabeled is not None
        teacher = _fit_network(problem, rows, val).model
        model, history = self_train(
            recipe, model, teacher, train, val, problem.unlabeled, problem.class_names, problem.device
        )
    elif method != "head":
        model, history = train_method(method, recipe, model, train, val, problem.class_names, problem.device)
    return FittedMethod(model.cpu(), recipe, history, head.C if head else None)

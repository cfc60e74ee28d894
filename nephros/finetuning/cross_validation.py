"""Every method on the same folds: what it predicts for images that it has not seen, and which is best."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nephros.console import progress_bar
from nephros.data.split import Split
from nephros.evaluation.intervals import GroupAccuracy, accuracy_by_group
from nephros.evaluation.metrics import Floats, Labels, Metrics, compute_metrics
from nephros.finetuning.baselines import cross_validate_neighbors, predict_largest_class
from nephros.finetuning.choice import choose_method
from nephros.finetuning.fitting import fit_best_head, fit_method
from nephros.finetuning.folds import Indices
from nephros.finetuning.network import predict_images
from nephros.finetuning.problem import Problem
from nephros.text_tables import pluralize

BASELINES = ("knn", "largest-class")
"""Methods that are shown beside them."""

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
    groups: NDArray[np.str_] | None = None
    """(n,) of the images, which the folds keep together; None for folds by image."""

    @cached_property
    def metrics(self) -> Metrics:
        """The metrics of the held-out predictions; where folds are by group, the interval of the accuracy counts groups."""
        return compute_metrics(self.probabilities, self.labels, self.class_names, self.groups)

    @cached_property
    def group_accuracies(self) -> list[GroupAccuracy]:
        """The accuracy on each group, the lowest first; empty for folds by image."""
        is_right = self.probabilities.argmax(axis=1) == self.labels
        return [] if self.groups is None else accuracy_by_group(is_right, self.groups)


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
        groups = problem.groups if problem.folds.by_group else None
        candidate = Candidate(method, probabilities, labels, problem.class_names, seconds, detail, groups)
        logger.info(f"{method}: accuracy {candidate.metrics.accuracy:.3f} in cross-validation ({seconds:.0f} s)")
        candidates.append(candidate)
    return candidates


def best_candidate(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate to keep, of those with a method of METHODS, by `choose_method`."""
    by_method = {candidate.method: candidate for candidate in candidates}
    accuracies = {method: candidate.metrics.accuracy for method, candidate in by_method.items()}
    return by_method[choose_method(accuracies, len(candidates[0].labels))]


def predict_held_out(problem: Problem, method: str, train: Indices, held_out: Indices) -> Floats:
    """Return the (n, classes) probabilities of a method, fitted to the images at `train`, for those at `held_out`."""
    if method == "head":
        return fit_best_head(problem, train).predict(problem.features[held_out])
    held_out_split = Split(problem.train.images[held_out], problem.train.labels[held_out])
    fitted = fit_method(problem, method, train, held_out_split[:1])  # whose scores by epoch nobody reads
    return predict_images(fitted.model, held_out_split, problem.n_classes, fitted.recipe.tta_views, problem.device)

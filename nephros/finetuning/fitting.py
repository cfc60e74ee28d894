"""Fitting a method to some of the training images; fits that several methods need are kept."""

from __future__ import annotations

import contextlib
import dataclasses

from nephros.data.split import Split
from nephros.errors import IncompatibleError, InvalidArgument
from nephros.finetuning.features import with_head
from nephros.finetuning.folds import Indices, make_folds
from nephros.finetuning.head import DEFAULT_C, LinearHead, choose_C, fit_head
from nephros.finetuning.network import FittedMethod, make_recipe, train_method
from nephros.finetuning.problem import Problem
from nephros.finetuning.self_training import draw_unlabeled, self_train
from nephros.training.history import EpochMetrics

_INNER_FOLDS = 3


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
        network = _fit_network(problem, rows, val)
        unlabeled = draw_unlabeled(problem.unlabeled, problem.usable_unlabeled(rows), recipe.seed)
        if not len(unlabeled):  # all are of groups that are held out here: the first round is all that there is
            return dataclasses.replace(network, recipe=recipe)
        model, history = self_train(
            recipe, model, network.model, train, val, unlabeled, problem.class_names, problem.device
        )
    elif method != "head":
        model, history = train_method(method, recipe, model, train, val, problem.class_names, problem.device)
    return FittedMethod(model.cpu(), recipe, history, head.C if head else None)


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

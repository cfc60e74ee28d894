"""Methods share what they have in common: the head, and the network whose predictions self-training learns from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from nephros.data.split import Split
from nephros.finetuning import network, self_training
from nephros.finetuning.fitting import fit_method
from nephros.finetuning.folds import make_folds
from nephros.finetuning.problem import Problem
from nephros.models.classifier import Classifier, InputSpec
from nephros.models.stages import last_linear
from nephros.recipe import ModelConfig
from nephros.training.model_init import init_model
from tests.conftest import square_images


@pytest.fixture
def problem(monkeypatch: pytest.MonkeyPatch) -> Problem:
    monkeypatch.setattr(network, "STEPS", 5)
    monkeypatch.setattr(self_training, "STEPS", 5)
    images, labels = square_images(12, 2, seed=0)
    split = Split(images, labels)
    model = ModelConfig("compact")
    recipe = network.make_recipe("network", model, len(split), 0, 1)
    start: Classifier = init_model(recipe, split, InputSpec(1, images.shape[1], images.shape[2], 2))
    width = start.network.get_submodule(last_linear(start.network)).in_features
    features = np.random.default_rng(0).normal(size=(len(split), 1, int(width))).astype(np.float32)  # type: ignore[arg-type]
    folds = make_folds(labels, ("a", "b"), None, 2, 0)
    unlabeled = square_images(20, 2, seed=1)[0]
    return Problem(split, ("a", "b"), None, folds, features, start, model, 1, 0, torch.device("cpu"), unlabeled)


@pytest.mark.slow
def test_self_training_learns_from_the_network_of_the_same_images(problem: Problem) -> None:
    rows = np.arange(8)
    teacher = fit_method(problem, "network", rows, problem.train)
    assert fit_method(problem, "network", rows, problem.train) is teacher
    assert fit_method(problem, "network", rows[:6], problem.train) is not teacher
    shared = fit_method(problem, "self-training", rows, problem.train)
    alone = fit_method(dataclasses.replace(problem), "self-training", rows, problem.train)
    for (name, tensor), other in zip(shared.model.state_dict().items(), alone.model.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name


def test_a_changed_problem_shares_nothing_with_the_former(problem: Problem) -> None:
    rows = np.arange(8)
    fit_method(problem, "network", rows, problem.train)
    changed = dataclasses.replace(problem, seed=1)
    assert not changed.heads
    assert not changed.networks

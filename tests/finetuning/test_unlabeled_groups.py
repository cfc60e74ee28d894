"""Self-training does not learn from unlabeled images of groups that are held out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import nephros
from nephros.data.split import Split
from nephros.errors import InvalidArgument
from nephros.finetuning import fitting
from nephros.finetuning.fitting import fit_method
from nephros.finetuning.folds import make_folds
from nephros.finetuning.network import FittedMethod, make_recipe
from nephros.finetuning.problem import Problem, reserved_groups
from nephros.models.classifier import Classifier
from nephros.recipe import ModelConfig
from nephros.runs import RunFolder
from nephros.workflows.finetune import finetune
from tests.conftest import square_images, squares_dataset

pytestmark = pytest.mark.usefixtures("reports_without_figures")
STACKS = ("K4", "K5", "K6", "K7")


@pytest.fixture
def problem() -> Problem:
    """Four stacks with six labeled images each, and two unlabeled ones, whose pixels are the number of the stack."""
    images, labels = square_images(24, 2, seed=0)[0], np.tile([0, 1], 12)
    groups = np.repeat(STACKS, 6)
    folds = make_folds(labels, ("a", "b"), groups, 4, 0)
    numbers = np.repeat([4, 5, 6, 7, 8], 2)
    return Problem(
        Split(images, labels, groups), ("a", "b"), groups, folds, np.zeros((24, 1, 3), np.float32),
        Classifier.__new__(Classifier), ModelConfig("compact"), 1, 0, torch.device("cpu"),
        np.tile(numbers[:, None, None], (1, 28, 28)).astype(np.uint8),
        np.array([f"K{number}" for number in numbers]), frozenset({"K8"}),
    )  # fmt: skip


@pytest.fixture
def learned_from(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.uint8]]:
    """Return a list that is filled with the unlabeled images of each fit, which takes no time."""
    calls: list[NDArray[np.uint8]] = []

    def self_train(_recipe: Any, model: Any, _teacher: Any, _train: Any, _val: Any, unlabeled: Any, *_: Any) -> Any:
        calls.append(unlabeled)
        return model, []

    def fit_network(problem: Problem, rows: Any, _val: Any) -> FittedMethod:
        recipe = make_recipe("network", problem.model, len(rows), 0, 1)
        return FittedMethod(torch.nn.Identity(), recipe, [], 1.0)  # type: ignore[arg-type]

    monkeypatch.setattr(fitting, "self_train", self_train)
    monkeypatch.setattr(fitting, "_fit_network", fit_network)
    monkeypatch.setattr(fitting, "with_head", lambda *_: torch.nn.Identity())
    return calls


def test_a_stack_that_is_held_out_is_not_learned_from(problem: Problem, learned_from: list[NDArray[np.uint8]]) -> None:
    assert problem.groups is not None
    for train, held_out in problem.folds.splits():
        fit_method(problem, "self-training", train, problem.train)
        others = {4, 5, 6, 7} - {int(name[1:]) for name in problem.groups[held_out]}
        assert set(np.unique(learned_from[-1])) == others
        assert len(learned_from[-1]) == 6
    fit_method(problem, "self-training", np.arange(24), problem.train)
    assert set(np.unique(learned_from[-1])) == {4, 5, 6, 7}  # K8 is validation's


def test_folds_by_image_use_all_stacks_and_unknown_groups_are_used_and_counted(
    problem: Problem, learned_from: list[NDArray[np.uint8]]
) -> None:
    assert (problem.n_unknown_groups, problem.unlabeled_groups is None) == (0, False)
    by_image = make_folds(problem.train.labels, ("a", "b"), None, 4, 0)
    ungrouped = dataclasses.replace(problem, groups=None, folds=by_image, reserved_groups=frozenset())
    fit_method(ungrouped, "self-training", by_image.splits()[0][0], problem.train)
    assert len(learned_from[-1]) == 10
    assert ungrouped.n_unknown_groups == 0
    some_unknown = dataclasses.replace(problem, unlabeled_groups=np.array(["K4"] * 7 + [""] * 3))
    train = next(train for train, held_out in problem.folds.splits() if held_out[0] == 0)
    assert some_unknown.usable_unlabeled(train).tolist() == [7, 8, 9]
    assert some_unknown.n_unknown_groups == 3
    assert dataclasses.replace(problem, unlabeled_groups=None).n_unknown_groups == 10


def test_where_all_are_held_out_the_first_round_is_kept(
    problem: Problem, learned_from: list[NDArray[np.uint8]]
) -> None:
    one_stack = dataclasses.replace(problem, unlabeled_groups=np.array(["K4"] * 10))
    train = next(train for train, held_out in problem.folds.splits() if held_out[0] == 0)
    fitted = fit_method(one_stack, "self-training", train, problem.train)
    assert learned_from == []
    assert fitted.recipe.name == "finetune-self-training"


def _write_stacks(path: Path, stacks_without_labels: tuple[int, ...]) -> Path:
    """Write 24 labeled images of each of six stacks, and four without a label of some."""
    images, labels = square_images(144 + 4 * len(stacks_without_labels), 2, seed=0)
    names = np.array(["round", "long"])[labels]
    names[144:] = ""
    stacks = [*np.repeat(np.arange(6), 24), *np.repeat(stacks_without_labels, 4)]
    np.savez(path, images=images, labels=names, stack=np.array([f"S{i}" for i in stacks]))
    return path


def test_an_npz_file_names_the_groups_of_its_unlabeled_images(tmp_path: Path) -> None:
    dataset = nephros.load_dataset(_write_stacks(tmp_path / "cells.npz", (0, 3)))
    assert dataset.unlabeled_groups is not None
    assert dataset.unlabeled_groups.tolist() == ["S0"] * 4 + ["S3"] * 4
    assert nephros.load_dataset(tmp_path / "cells.npz", groups="none").unlabeled_groups is None
    train = set() if dataset.train.groups is None else set(dataset.train.groups.tolist())
    assert reserved_groups(dataset) == {f"S{i}" for i in range(6)} - train != frozenset()
    plain = squares_dataset(n=60)
    assert (reserved_groups(plain), plain.unlabeled_groups) == (frozenset(), None)


def test_unlabeled_images_of_validation_alone_are_refused(tmp_path: Path, run_folder: RunFolder) -> None:
    every_stack = nephros.load_dataset(_write_stacks(tmp_path / "cells.npz", tuple(range(6))), draw_test=False)
    (val,) = reserved_groups(every_stack)
    data = _write_stacks(tmp_path / "val.npz", (int(val[1:]),))
    with pytest.raises(InvalidArgument, match="validation or test holds out"):
        finetune(data, init=run_folder.root, methods="network,self-training", out=tmp_path / "run")


@pytest.mark.slow
def test_unknown_groups_are_said(
    tmp_path: Path, run_folder: RunFolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nephros.finetuning.network.STEPS", 5)
    monkeypatch.setattr("nephros.finetuning.self_training.STEPS", 5)
    data, more = _write_stacks(tmp_path / "cells.npz", (0, 1, 2)), square_images(9, 2, seed=3)[0]
    arguments: dict[str, Any] = {"init": run_folder.root, "methods": "self-training", "folds": 2}
    known = finetune(data, out=tmp_path / "known", **arguments).run.info()
    assert "groups of" not in caplog.text
    assert not any("without a label are unknown" in warning for warning in known.warnings)
    unknown = finetune(data, unlabeled=more, out=tmp_path / "unknown", **arguments).run.info()
    assert any("groups of 9 images without a label are unknown" in warning for warning in unknown.warnings)
    assert "groups of 9 images without a label are unknown" in caplog.text

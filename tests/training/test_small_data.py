"""Small data: enough steps, statistics that have settled, and a word where the images are few."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.data.split import Split
from nephros.evaluation.scoring import evaluate_model
from nephros.models.norm_statistics import batch_norms
from nephros.presets import RECIPES
from nephros.recipe import ModelConfig, OptimizerConfig, Recipe
from nephros.training.model_init import init_model, input_spec
from nephros.training.progress import NullCallback
from nephros.training.small_data import (
    ADAPTABLE_FIELDS,
    MIN_STEPS,
    TARGET_STEPS,
    adapt_recipe,
    few_images_warnings,
    optimizer_steps,
    preset_values,
)
from nephros.training.trainer import MIN_STEPS_PER_EPOCH, Trainer
from tests.conftest import squares_dataset

FAST = RECIPES["nephros-fast"]


@pytest.mark.parametrize("n_images", [1, 7, 40, 137, 300, 1000, 2500])
@pytest.mark.parametrize("epochs", [1, 5, 12])
def test_small_data_get_enough_steps(n_images: int, epochs: int) -> None:
    recipe = dataclasses.replace(FAST, epochs=epochs)
    adapted, sentence = adapt_recipe(recipe, n_images, ADAPTABLE_FIELDS)
    if optimizer_steps(recipe, n_images) >= MIN_STEPS:
        assert (adapted, sentence) == (recipe, "")
        return
    assert TARGET_STEPS <= optimizer_steps(adapted, n_images) <= 2 * TARGET_STEPS + epochs
    assert adapted.epochs == epochs
    assert 16 <= adapted.batch_size <= recipe.batch_size
    assert all(f"`{name}`" in sentence for name in ADAPTABLE_FIELDS if getattr(adapted, name) != getattr(recipe, name))
    # Images are whole: fewer than one pass would leave some out.
    assert adapted.passes_per_epoch >= 1


@pytest.mark.parametrize("recipe", ["course-1", "poster", "medmnist-resnet18", "nephros"])
def test_full_data_change_nothing(recipe: str) -> None:
    assert adapt_recipe(RECIPES[recipe], 165_466, ADAPTABLE_FIELDS) == (RECIPES[recipe], "")


def test_the_reference_run_of_20000_images_changes_nothing() -> None:
    recipe = dataclasses.replace(RECIPES["course-1"], epochs=2)
    assert adapt_recipe(recipe, 20_000, ADAPTABLE_FIELDS) == (recipe, "")


@pytest.mark.parametrize("n_images", [100, 1000, 10_000])
def test_the_values_of_a_preset_that_small_data_changed_are_known_again(n_images: int) -> None:
    preset = RECIPES["nephros-fast"]
    adapted, sentence = adapt_recipe(dataclasses.replace(preset, epochs=3), n_images, ADAPTABLE_FIELDS)
    values = preset_values(adapted, n_images)
    assert dataclasses.replace(adapted, **values) == dataclasses.replace(preset, epochs=3)
    assert bool(values) == bool(sentence)
    assert preset_values(dataclasses.replace(adapted, batch_size=77), n_images) == {}
    assert preset_values(dataclasses.replace(adapted, name="mine"), n_images) == {}


def test_fixed_values_stand_with_a_warning() -> None:
    unchanged, sentence = adapt_recipe(FAST, 137, ())
    assert unchanged == FAST
    assert "137" in sentence
    assert "`passes_per_epoch`" in sentence
    same_batch, _ = adapt_recipe(FAST, 137, ["passes_per_epoch"])
    assert same_batch.batch_size == FAST.batch_size
    assert optimizer_steps(same_batch, 137) >= TARGET_STEPS
    same_passes, sentence = adapt_recipe(FAST, 137, ["batch_size"])
    assert same_passes.passes_per_epoch == 1
    assert same_passes.batch_size == 32
    assert "still few" in sentence
    assert adapt_recipe(RECIPES["knn"], 137, ADAPTABLE_FIELDS) == (RECIPES["knn"], "")


def _counts_dataset(train: list[int], val: list[int]) -> Dataset:
    def split(counts: list[int]) -> Split:
        labels = np.repeat(np.arange(len(counts)), counts)
        return Split(np.zeros((len(labels), 28, 28), dtype=np.uint8), labels)

    return dataclasses.replace(squares_dataset(n=48, classes=3), train=split(train), val=split(val))


@pytest.mark.parametrize(
    ("train", "val", "names"),
    [
        ([10, 10, 10], [5, 5, 5], []),
        ([9, 10, 10], [5, 5, 5], [["kind 0 (9)"]]),
        ([10, 3, 1], [4, 5, 5], [["kind 1 (3)", "kind 2 (1)"], ["kind 0 (4)"]]),
        ([10, 10, 0], [0, 5, 5], []),
    ],
)
def test_few_images_of_a_class_are_named(train: list[int], val: list[int], names: list[list[str]]) -> None:
    warnings = few_images_warnings(_counts_dataset(train, val))
    assert len(warnings) == len(names)
    for warning, expected in zip(warnings, names, strict=True):
        assert all(name in warning for name in expected)


def _trainer(recipe: Recipe, dataset: Dataset, freeze: tuple[str, ...] = ()) -> Trainer:
    model = init_model(recipe, dataset.train, input_spec(dataset))
    train, val = (BatchLoader(dataset.split(name), torch.device("cpu")) for name in ("train", "val"))
    return Trainer(recipe, model, train, val, dataset.class_names, freeze=freeze)


SMALL = Recipe(
    model=ModelConfig(network="equivariant", base_channels=8),
    optimizer=OptimizerConfig(name="sgd", lr=0.05),
    epochs=1,
    batch_size=48,
    last_batch="balanced",
    normalize="dataset",
)


@pytest.mark.parametrize("ema_decay", [0.0, 0.5])
def test_statistics_settle_within_an_epoch_of_few_steps(ema_decay: float) -> None:
    dataset = squares_dataset(n=96)
    trainer = _trainer(dataclasses.replace(SMALL, ema_decay=ema_decay), dataset)
    assert trainer.steps_per_epoch < MIN_STEPS_PER_EPOCH
    trainer.run(None, NullCallback())
    weights, _ = trainer.final_weights()
    trainer.model.load_state_dict(weights)
    again = evaluate_model(trainer.model, trainer.val_batches, dataset.class_names)
    assert again.metrics.loss == pytest.approx(trainer.history[-1].val_loss, rel=1e-6)
    # The first normalization sees the train split as it is: its statistics are those of the whole split.
    norm, inputs = batch_norms(trainer.model)[0], []
    norm.register_forward_pre_hook(lambda _layer, args: inputs.append(args[0].detach()))
    images = torch.from_numpy(dataset.train.images)[:, None]
    trainer.model.eval()(images)
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, inputs[0].mean((0, 2, 3)), rtol=1e-3, atol=1e-4)


def test_statistics_keep_their_running_averages_in_epochs_of_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nephros.training.trainer.estimate_batch_norm", lambda *_: pytest.fail("estimated"))
    recipe = dataclasses.replace(SMALL, batch_size=2)
    trainer = _trainer(recipe, squares_dataset(n=2 * MIN_STEPS_PER_EPOCH))
    trainer.run(None, NullCallback())
    assert len(trainer.history) == 1


def test_frozen_statistics_are_not_estimated() -> None:
    trainer = _trainer(SMALL, squares_dataset(n=96), freeze=("stem",))
    before = [(norm.running_mean, norm.running_var) for norm in batch_norms(trainer.model)]
    copies = [tuple(statistic.clone() for statistic in pair if statistic is not None) for pair in before]
    trainer.run(None, NullCallback())
    same = [
        all(torch.equal(old, new) for old, new in zip(pair, (norm.running_mean, norm.running_var), strict=True))  # type: ignore[arg-type]
        for pair, norm in zip(copies, batch_norms(trainer.model), strict=True)
    ]
    assert same == [True] + [False] * (len(same) - 1)

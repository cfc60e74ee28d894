"""Replicas of a network in one process: they train as one network does, reproducibly, and resume bit for bit."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.distributed import DistributedContext
from nephros.evaluation.scoring import Evaluation, evaluate_model
from nephros.models.norm_statistics import batch_norms
from nephros.presets import RECIPES
from nephros.recipe import AugmentConfig, ModelConfig, OptimizerConfig, Recipe
from nephros.training import checkpoint
from nephros.training.model_init import init_model, input_spec
from nephros.training.optimizer_step import OptimizerStep
from nephros.training.progress import NullCallback
from nephros.training.replicas import MIN_IMAGES, count_replicas, usable_replicas
from nephros.training.trainer import Trainer
from tests.conftest import squares_dataset

CPU = torch.device("cpu")
COURSE = Recipe(
    model=ModelConfig(network="course", base_channels=2, depth=1, hidden=(8,)),
    optimizer=OptimizerConfig(name="sgd", lr=0.05, momentum=0.9),
    augment=AugmentConfig(flips="dihedral", shift=2),
    epochs=2,
    batch_size=130,
    class_weights="max-ratio",
    label_smoothing=0.1,
)
NORMALIZED = dataclasses.replace(
    COURSE, model=ModelConfig(network="poster", base_channels=2, dropout=0.3), checkpoint="best"
)
MUON = dataclasses.replace(
    COURSE,
    model=ModelConfig(network="equivariant", base_channels=8, depth=1),
    optimizer=OptimizerConfig(name="muon", lr=0.02, momentum=0.9, weight_decay=5e-4, decay_norm_and_bias=False),
    batch_size=128,
    last_batch="balanced",
    ema_decay=0.9,
    amp="bf16",
)
RESUMED = {"dropout and a short last batch": NORMALIZED, "muon, averaged weights and bf16": MUON}


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    previous = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(previous)


@functools.cache
def _dataset() -> Dataset:
    return squares_dataset(n=280)


def _trainer(
    recipe: Recipe, replicas: int, dtype: torch.dtype = torch.float32, freeze: tuple[str, ...] = ()
) -> Trainer:
    dataset = _dataset()
    model = init_model(recipe, dataset.train, input_spec(dataset)).to(dtype)
    n_classes = dataset.n_classes
    soft_targets = torch.full((len(dataset.train), n_classes), 1 / n_classes, dtype=dtype)
    trainer = Trainer(
        recipe,
        model,
        BatchLoader(dataset.train, CPU),
        BatchLoader(dataset.val, CPU),
        dataset.class_names,
        soft_targets if recipe.distillation_weight else None,
        freeze,
        replicas,
    )
    trainer.step.loss_fn.to(dtype)
    return trainer


def _bits(trainer: Trainer) -> bytes:
    return b"".join(value.numpy().tobytes() for value in trainer.final_weights()[0].values())


@pytest.mark.parametrize(("replicas", "distillation_weight"), [(2, 0.0), (3, 0.4)])
def test_without_batch_statistics_replicas_train_as_one_network(replicas: int, distillation_weight: float) -> None:
    recipe = dataclasses.replace(COURSE, distillation_weight=distillation_weight)
    trainers = [_trainer(recipe, n, torch.float64) for n in (1, replicas)]
    for trainer in trainers:
        trainer.run(None, NullCallback())
    one, several = trainers
    for name, weights in one.model.state_dict().items():
        torch.testing.assert_close(several.model.state_dict()[name], weights, rtol=0, atol=1e-12, msg=name)
    assert [row.train_accuracy for row in several.history] == [row.train_accuracy for row in one.history]
    assert np.allclose([row.train_loss for row in several.history], [row.train_loss for row in one.history], atol=1e-12)
    assert torch.get_num_threads() == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", RESUMED)
def test_equal_numbers_of_replicas_give_equal_bits_also_when_resumed(name: str, tmp_path: Path) -> None:
    uninterrupted, again, interrupted, resumed = (_trainer(RESUMED[name], 2) for _ in range(4))
    for trainer in (uninterrupted, again):
        trainer.run(None, NullCallback())
    assert _bits(uninterrupted) == _bits(again)
    path = tmp_path / "checkpoint.pt"
    interrupted.run(lambda state: checkpoint.save(path, state), NullCallback(), stop_epoch=1)
    resumed.load_state_dict(checkpoint.load(path))
    resumed.run(None, NullCallback())
    assert _bits(resumed) == _bits(uninterrupted)


def test_running_statistics_are_means_over_the_parts() -> None:
    trainer = _trainer(dataclasses.replace(NORMALIZED, batch_size=128), 2)
    assert trainer.step.replicas is not None
    trainer.model.train()
    trainer.step.replicas.begin_epoch(0, 0)
    rows, images, labels = next(trainer.train_batches.iter_batches(128))
    expected = []
    for part in (slice(0, 64), slice(64, 128)):
        model = init_model(trainer.recipe, _dataset().train, input_spec(_dataset())).train()
        model(images[part])
        expected.append(batch_norms(model)[0].get_buffer("running_var"))
    trainer.step.take(images, labels, 0.0)
    trainer.step.replicas.merge_statistics()
    assert rows == slice(0, 128)
    torch.testing.assert_close(batch_norms(trainer.model)[0].get_buffer("running_var"), torch.stack(expected).mean(0))
    assert batch_norms(trainer.model)[0].num_batches_tracked == 1


def test_frozen_stages_stay_as_they_are() -> None:
    trainer = _trainer(dataclasses.replace(NORMALIZED, epochs=1), 3, freeze=("stem",))
    before = {name: value.clone() for name, value in trainer.model.network.state_dict().items()}
    trainer.run(None, NullCallback())
    same = {name for name, value in trainer.model.network.state_dict().items() if torch.equal(value, before[name])}
    stem = {name for name in before if name.startswith("features.0.") or name.startswith("features.1.")}
    assert stem <= same
    assert len(same) < len(before)


def test_an_error_in_one_part_reaches_the_caller() -> None:
    trainer = _trainer(COURSE, 2)
    trainer.model.train()
    _, images, labels = next(trainer.train_batches.iter_batches(130))
    with pytest.raises(IndexError):
        trainer.step.take(images, torch.where(torch.arange(130) > 100, 99, labels), 0.1)
    loss, n_correct = trainer.step.take(images, labels, 0.1)
    assert loss.isfinite()
    assert 0 <= n_correct <= 130


def test_a_gpu_and_several_processes_have_no_replicas() -> None:
    assert usable_replicas(2, CPU, 1) == 2
    assert usable_replicas(2, CPU, 2) == 1
    assert usable_replicas(2, torch.device("cuda"), 1) == 1
    model = init_model(COURSE, _dataset().train, input_spec(_dataset()))
    with pytest.raises(AssertionError):
        OptimizerStep(COURSE, model, torch.nn.CrossEntropyLoss(), CPU, DistributedContext(0, 2), replicas=2)


def test_validation_uses_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def evaluate(model: torch.nn.Module, batches: BatchLoader, class_names: tuple[str, ...]) -> Evaluation:
        threads.append(torch.get_num_threads())
        return evaluate_model(model, batches, class_names)

    monkeypatch.setattr("nephros.training.trainer.evaluate_model", evaluate)
    _trainer(dataclasses.replace(COURSE, epochs=1), 2).run(None, NullCallback())
    assert threads == [2]


def test_large_steps_have_a_replica_per_thread() -> None:
    fast = RECIPES["nephros-fast"]
    assert count_replicas(fast, 165_466, 16_000_000, CPU) == 2
    assert count_replicas(dataclasses.replace(fast, batch_size=MIN_IMAGES * 2 - 1), 165_466, 16_000_000, CPU) == 1
    assert count_replicas(fast, 2 * MIN_IMAGES - 1, 16_000_000, CPU) == 1
    assert count_replicas(fast, 165_466, 1000, CPU) == 1
    assert count_replicas(fast, 165_466, 16_000_000, torch.device("cuda")) == 1
    assert count_replicas(fast, 165_466, 16_000_000, CPU, world_size=2) == 1
    assert count_replicas(dataclasses.replace(fast, compile=True), 165_466, 16_000_000, CPU) == 1
    assert count_replicas(RECIPES["knn"], 165_466, 16_000_000, CPU) == 1
    torch.set_num_threads(16)
    assert count_replicas(fast, 165_466, 16_000_000, CPU) == 256 // MIN_IMAGES
    torch.set_num_threads(1)
    assert count_replicas(fast, 165_466, 16_000_000, CPU) == 1
    assert count_replicas(fast, 165_466, 16_000_000, CPU, max_replicas=2) == 2

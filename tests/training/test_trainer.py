"""The training loop: it learns, is reproducible, resumes bit for bit, and keeps the weights that the recipe chooses."""

from __future__ import annotations

import dataclasses
import functools
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.errors import DivergedError
from nephros.models import build_network
from nephros.models.classifier import Classifier, InputSpec
from nephros.recipe import AugmentConfig, LRScheduleConfig, ModelConfig, OptimizerConfig, Recipe
from nephros.training import checkpoint
from nephros.training.history import EpochMetrics
from nephros.training.trainer import Trainer
from tests.conftest import squares_dataset

CPU = torch.device("cpu")
POSTER = Recipe(
    name="small poster",
    model=ModelConfig(network="poster", base_channels=4, dropout=0.3),
    optimizer=OptimizerConfig(name="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    schedule=LRScheduleConfig(name="plateau", patience=0, factor=0.5),
    augment=AugmentConfig(flips="dihedral", shift=1, rotate=5),
    epochs=4,
    batch_size=50,
)

RESUMED = {
    "sgd": {},
    "ema": {"ema_decay": 0.9},
    "muon": {
        "model": ModelConfig(network="equivariant", base_channels=8, depth=1),
        "optimizer": OptimizerConfig(name="muon", lr=0.02, momentum=0.9, weight_decay=5e-4, decay_norm_and_bias=False),
        "augment": AugmentConfig(shift=2),
        "last_batch": "balanced",
    },
    "muon without momentum": {
        "model": ModelConfig(network="equivariant", base_channels=8, depth=1),
        "optimizer": OptimizerConfig(name="muon", lr=0.02, momentum=0.0, decay_norm_and_bias=False),
    },
    "best": {"checkpoint": "best", "metric": "val_loss"},
    "adam": {"optimizer": OptimizerConfig(name="adam", lr=1e-3)},
    "adamw": {"optimizer": OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.1, decay_norm_and_bias=False)},
    "linear": {"schedule": LRScheduleConfig(name="linear", warmup=0.3)},
    "bf16": {"amp": "bf16"},
}
"""Changes to POSTER whose state a checkpoint must hold."""


@pytest.fixture
def tiny_dataset() -> Dataset:
    return squares_dataset(n=120)


class CountingCallback:
    """Counts images, keeps the history, and interrupts the run after an epoch."""

    def __init__(self, stop_after: int = 0) -> None:
        self.n_images, self.stop_after = 0, stop_after
        self.history: list[EpochMetrics] = []

    def on_step_end(self, epoch: int, n_images: int, loss: Tensor) -> None:
        self.n_images += n_images

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        self.history = history
        if self.stop_after == epoch.epoch:
            raise KeyboardInterrupt


def make_trainer(recipe: Recipe, dataset: Dataset) -> Trainer:
    torch.manual_seed(recipe.seed)
    spec = InputSpec(dataset.channels, *dataset.image_size, dataset.n_classes)
    model = Classifier(build_network(recipe.model, spec), [0.5] * spec.channels, [0.5] * spec.channels)
    return Trainer(recipe, model, BatchLoader(dataset.train, CPU), BatchLoader(dataset.val, CPU), dataset.class_names)


def _run(recipe: Recipe, dataset: Dataset) -> Trainer:
    trainer = make_trainer(recipe, dataset)
    trainer.run(None, CountingCallback())
    return trainer


def _equal_weights(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_training_lowers_the_loss_and_reports_every_image() -> None:
    dataset, callback = squares_dataset(n=240), CountingCallback()
    trainer = make_trainer(dataclasses.replace(POSTER, epochs=8), dataset)
    trainer.run(None, callback)
    assert callback.n_images == 8 * len(dataset.train)
    assert callback.history[-1].train_loss < 0.6 * callback.history[0].train_loss
    assert callback.history[-1].val_accuracy > 0.6


@functools.cache
def _uninterrupted(name: str) -> Trainer:
    return _run(dataclasses.replace(POSTER, batch_size=16, **RESUMED[name]), squares_dataset(n=56))  # type: ignore[arg-type]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(name: str, stop: int, tmp_path: Path) -> None:
    uninterrupted, dataset = _uninterrupted(name), squares_dataset(n=56)
    recipe = uninterrupted.recipe
    file = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        make_trainer(recipe, dataset).run(partial(checkpoint.save, file), CountingCallback(stop_after=stop))
    torch.manual_seed(12345)  # as another process may have done
    resumed = make_trainer(recipe, dataset)
    resumed.load_state_dict(checkpoint.load(file))
    assert len(resumed.history) == stop
    resumed.run(partial(checkpoint.save, file), CountingCallback())
    assert _equal_weights(resumed.model.state_dict(), uninterrupted.model.state_dict())
    assert _equal_weights(resumed.final_weights()[0], uninterrupted.final_weights()[0])
    assert resumed.final_weights()[1] == uninterrupted.final_weights()[1]
    timeless = [dataclasses.replace(row, seconds=0, images_per_second=0) for row in resumed.history]
    assert timeless == [dataclasses.replace(row, seconds=0, images_per_second=0) for row in uninterrupted.history]


def test_the_seed_determines_the_weights(tiny_dataset: Dataset) -> None:
    recipe = dataclasses.replace(POSTER, epochs=2)
    first, second = _run(recipe, tiny_dataset), _run(recipe, tiny_dataset)
    other = _run(dataclasses.replace(recipe, seed=1), tiny_dataset)
    assert _equal_weights(first.model.state_dict(), second.model.state_dict())
    assert not _equal_weights(first.model.state_dict(), other.model.state_dict())


def test_training_in_chunks_gives_the_same_weights(tiny_dataset: Dataset) -> None:
    recipe = dataclasses.replace(POSTER, epochs=2)
    resident = _run(recipe, tiny_dataset)
    chunked = make_trainer(recipe, tiny_dataset)
    chunked.train_batches = BatchLoader(tiny_dataset.train, CPU, max_resident_bytes=1)
    chunked.run(None, CountingCallback())
    assert _equal_weights(resident.model.state_dict(), chunked.model.state_dict())


def test_best_keeps_the_best_epoch_and_early_stopping_ends_the_run(tiny_dataset: Dataset) -> None:
    recipe = dataclasses.replace(
        POSTER, epochs=40, batch_size=25, checkpoint="best", metric="val_loss", early_stopping_patience=2
    )
    trainer = _run(recipe, tiny_dataset)
    losses = [row.val_loss for row in trainer.history]
    best = int(np.argmin(losses)) + 1
    weights, epoch = trainer.final_weights()
    assert epoch == best
    assert len(losses) < 40
    assert len(losses) == best + 2
    restored = make_trainer(recipe, tiny_dataset)
    restored.model.load_state_dict(weights)
    assert restored._validate(best, 0.0, 0.0, 0.0, 1.0).val_loss == pytest.approx(losses[best - 1], abs=1e-6)


def test_the_last_epochs_take_images_as_they_are(tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of the last epochs consist of the images, and those before do not."""
    augment = AugmentConfig(rotate=90, unaugmented_epochs=2)
    trainer = make_trainer(dataclasses.replace(POSTER, augment=augment, epochs=3), tiny_dataset)
    known, as_they_are = {image.tobytes() for image in tiny_dataset.train.images}, []
    take_step = trainer.step.take

    def record(images: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        as_they_are.append(all(image.to(torch.uint8).numpy().tobytes() in known for image in images))
        return take_step(images, *args)

    monkeypatch.setattr(trainer.step, "take", record)
    trainer.run(None, CountingCallback())
    n_steps = trainer.steps_per_epoch
    assert not any(as_they_are[:n_steps])
    assert as_they_are[n_steps:] == [True] * 2 * n_steps


def test_last_keeps_the_last_epoch(tiny_dataset: Dataset) -> None:
    trainer = _run(dataclasses.replace(POSTER, epochs=3), tiny_dataset)
    weights, epoch = trainer.final_weights()
    assert epoch == 3
    assert _equal_weights(weights, trainer.model.state_dict())


def test_a_short_last_batch_counts_by_its_images() -> None:
    dataset = squares_dataset(n=10, classes=2)
    no_learning = OptimizerConfig(name="sgd", lr=1e-30)
    recipe = Recipe(
        model=ModelConfig(network="course", base_channels=4, depth=1), optimizer=no_learning, batch_size=7, epochs=1
    )
    trainer = _run(recipe, dataset)
    other = _run(dataclasses.replace(recipe, batch_size=10), dataset)
    assert trainer.history[0].train_loss == pytest.approx(other.history[0].train_loss, abs=1e-6)


def test_a_loss_that_is_not_finite_stops_the_run(tiny_dataset: Dataset) -> None:
    recipe = dataclasses.replace(
        POSTER,
        model=ModelConfig(network="course", base_channels=4, depth=1),
        optimizer=OptimizerConfig(name="sgd", lr=1e12),
    )
    with pytest.raises(DivergedError, match=r"epoch \d.*`optimizer\.lr`"):
        _run(recipe, tiny_dataset)


@pytest.mark.slow
@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_follows_full_precision(amp: str) -> None:
    dataset = squares_dataset(n=120)
    recipe = dataclasses.replace(POSTER, model=dataclasses.replace(POSTER.model, dropout=0.0), epochs=2)
    full = _run(recipe, dataset)
    mixed = _run(dataclasses.replace(recipe, amp=amp), dataset)  # type: ignore[arg-type]
    assert mixed.step.amp_dtype in (torch.bfloat16, torch.float16)
    assert all(value.dtype != mixed.step.amp_dtype for value in mixed.model.state_dict().values())
    assert mixed.history[0].train_loss == pytest.approx(full.history[0].train_loss, rel=0.05)
    assert not _equal_weights(full.model.state_dict(), mixed.model.state_dict())
    assert mixed.step.grad_scaler.is_enabled() == (amp == "fp16")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_compiled_network_trains_like_an_uncompiled_one(tiny_dataset: Dataset) -> None:
    recipe = Recipe(
        model=ModelConfig(network="course", base_channels=4, depth=1),
        optimizer=OptimizerConfig(lr=0.05),
        epochs=2,
        batch_size=60,
    )
    plain = _run(recipe, tiny_dataset)
    compiled = _run(dataclasses.replace(recipe, compile=True), tiny_dataset)
    assert compiled.history[-1].train_loss == pytest.approx(plain.history[-1].train_loss, rel=1e-3)
    assert set(compiled.final_weights()[0]) == set(plain.final_weights()[0])


def test_averaged_weights_are_evaluated_and_kept(tiny_dataset: Dataset) -> None:
    trainer = _run(dataclasses.replace(POSTER, ema_decay=0.9, epochs=2), tiny_dataset)
    weights, _ = trainer.final_weights()
    assert trainer.step.ema is not None
    assert _equal_weights(weights, trainer.step.ema.weights)
    assert not _equal_weights(weights, trainer.model.state_dict())

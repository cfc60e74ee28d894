"""On a GPU: the same numbers as on the CPU, within what its order of summation changes. Skipped where torch sees none."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

import nephros
from nephros.data.augment import apply_augmentations, sample_augmentations
from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.data.synthetic import make_synthetic
from nephros.evaluation.scoring import evaluate_model
from nephros.exporters.pretrained import open_pretrained
from nephros.finetuning.features import extract_features
from nephros.models import default_input_spec
from nephros.models.classifier import InputSpec
from nephros.presets import NETWORK_RECIPES, RECIPES
from nephros.recipe import AugmentConfig, Recipe
from nephros.runs import RunFolder
from nephros.training.classical.grid_search import grid_search
from nephros.training.model_init import init_model
from nephros.training.trainer import Trainer
from nephros.training.warm_start import recenter
from tests.conftest import squares_dataset, write_npz
from tests.training.test_trainer import CountingCallback

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]
CPU, GPU = torch.device("cpu"), torch.device("cuda")
FLAT_RECIPES = [name for name, recipe in NETWORK_RECIPES.items() if default_input_spec(recipe.model).depth is None]


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    """Leave out TF32, whose products have 10 bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def _trainer(recipe: Recipe, dataset: Dataset, device: torch.device) -> Trainer:
    train, val = (BatchLoader(dataset.split(split), device) for split in ("train", "val"))
    model = init_model(recipe, dataset.train, InputSpec(1, 28, 28, dataset.n_classes))
    return Trainer(recipe, model, train, val, dataset.class_names)


def _train(recipe: Recipe, dataset: Dataset, device: torch.device) -> Trainer:
    trainer = _trainer(recipe, dataset, device)
    trainer.run(None, CountingCallback())
    return trainer


def _narrow(name: str, **changes: object) -> Recipe:
    recipe = RECIPES[name]
    model = dataclasses.replace(recipe.model, base_channels=max(4, recipe.model.base_channels // 8), dropout=0.0)
    return dataclasses.replace(recipe, model=model, epochs=1, batch_size=60, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FLAT_RECIPES)
def test_an_epoch_has_the_losses_of_the_cpu(name: str, tiny_dataset: Dataset) -> None:
    recipe = _narrow(name, amp="off", optimizer=dataclasses.replace(RECIPES[name].optimizer, lr=1e-3, aux_lr=1e-3))
    recipe = dataclasses.replace(recipe, distillation_weight=0.0)
    (on_cpu,), (on_gpu,) = (_train(recipe, tiny_dataset, device).history for device in (CPU, GPU))
    assert on_gpu.train_loss == pytest.approx(on_cpu.train_loss, rel=2e-3)
    assert on_gpu.val_loss == pytest.approx(on_cpu.val_loss, rel=2e-2)


@pytest.mark.parametrize("name", FLAT_RECIPES)
def test_recorded_steps_have_the_losses_of_others(name: str, tiny_dataset: Dataset) -> None:
    recipe = _narrow(name, amp="off", optimizer=dataclasses.replace(RECIPES[name].optimizer, lr=1e-3, aux_lr=1e-3))
    recipe = dataclasses.replace(recipe, distillation_weight=0.0, compile=False, epochs=4, batch_size=16)
    recorded, usual = (_trainer(recipe, tiny_dataset, GPU) for _ in range(2))
    usual.step.graphs = None
    for trainer in (recorded, usual):
        trainer.run(None, CountingCallback())
    assert recorded.step.graphs is not None
    assert len(recorded.step.graphs) > 0
    for epoch, (row, expected) in enumerate(zip(recorded.history, usual.history, strict=True)):
        # Adam amplifies rounding: with fifty layers, two runs alike differ by a tenth after some epochs.
        tolerance = 0.2 if epoch and name == "medmnist-resnet50" else 2e-2
        assert row.train_loss == pytest.approx(expected.train_loss, rel=tolerance)


@pytest.mark.parametrize("amp", ["bf16", "fp16", "native"])
@pytest.mark.parametrize("name", ["poster", "nephros"])
def test_training_in_mixed_precision_lowers_the_loss(
    name: str, amp: Literal["bf16", "fp16", "native"], tiny_dataset: Dataset
) -> None:
    trainer = _train(dataclasses.replace(_narrow(name, amp=amp), epochs=6), tiny_dataset, GPU)
    assert trainer.step.amp_dtype == (torch.float16 if amp == "fp16" else torch.bfloat16)
    assert trainer.step.grad_scaler.is_enabled() == (amp == "fp16")
    assert trainer.history[-1].train_loss < trainer.history[0].train_loss


@pytest.mark.parametrize(
    "settings",
    [
        AugmentConfig(flips="dihedral", shift=2),
        AugmentConfig(flips="horizontal", shift=2, rotate=15.0),
        AugmentConfig(rotate=180.0, scale=0.1, interpolation="bilinear"),
    ],
)
def test_images_are_augmented_as_on_the_cpu(settings: AugmentConfig, tiny_dataset: Dataset) -> None:
    images = torch.from_numpy(tiny_dataset.train.images)[:, None]
    params = sample_augmentations(len(images), settings, torch.Generator().manual_seed(0))
    on_cpu, on_gpu = (apply_augmentations(images.to(d), params.to(d), settings).cpu() for d in (CPU, GPU))
    difference = (on_cpu.float() - on_gpu.float()).abs()
    assert (difference > 1).float().mean() < 1e-3  # nearest pixels may differ where two are equally near
    assert difference.median() <= 1


def test_bundled_models_predict_and_extract_features_as_on_the_cpu() -> None:
    dataset = squares_dataset(n=64, classes=8)
    pretrained = open_pretrained("nephros-distilled")
    on_cpu, on_gpu = (
        evaluate_model(pretrained.classifier.to(d).eval(), BatchLoader(dataset.val, d), dataset.class_names)
        for d in (CPU, GPU)
    )
    np.testing.assert_allclose(on_gpu.probabilities, on_cpu.probabilities, atol=2e-4)
    features = [extract_features(pretrained.classifier, dataset.val.images, 1, d) for d in (CPU, GPU)]
    np.testing.assert_allclose(features[1], features[0], atol=1e-3 * np.abs(features[0]).max())


@pytest.mark.parametrize("name", ["knn", "svm-linear"])
def test_classical_baselines_are_those_of_the_cpu(name: str) -> None:
    dataset = make_synthetic(
        n_train=240, n_val=60, n_test=8
    )  # without equal images, whose order is a matter of rounding
    on_cpu, on_gpu = (grid_search(RECIPES[name], dataset, device).results for device in (CPU, GPU))
    assert [row.description for row in on_gpu] == [row.description for row in on_cpu]
    gpu_accuracies, cpu_accuracies = ([row.val_accuracy for row in rows] for rows in (on_gpu, on_cpu))
    np.testing.assert_allclose(gpu_accuracies, cpu_accuracies, atol=2 / len(dataset.val))


def test_folded_weights_get_their_statistics_on_the_gpu() -> None:
    cells = make_synthetic(n_train=64, n_val=8, n_test=8).train
    classifiers = [open_pretrained("nephros-fast").classifier.to(device) for device in (CPU, GPU)]
    for classifier in classifiers:
        recenter(classifier, cells, seed=0)
    on_cpu, on_gpu = (classifier.cpu().state_dict() for classifier in classifiers)
    for name, expected in on_cpu.items():
        torch.testing.assert_close(on_gpu[name], expected, rtol=1e-3, atol=1e-3)


def test_a_run_that_was_cut_is_resumed_and_fine_tuned(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "squares.npz", squares_dataset(n=240, classes=3))
    recipe = dataclasses.replace(_narrow("nephros"), epochs=2)

    class Cut(Exception):
        pass

    class CutAfterAnEpoch:
        def on_epoch_end(self, *_: object) -> None:
            raise Cut

        def on_train_end(self, _: object) -> None: ...

    with pytest.raises(Cut):
        nephros.train(recipe, data, out=tmp_path / "run", device=GPU.type, callbacks=[CutAfterAnEpoch()])
    nephros.resume(tmp_path / "run")
    info = RunFolder.open(tmp_path / "run").info()
    assert (info.status, info.device_type, info.chosen_epoch) == ("complete", GPU.type, 2)
    methods = ("head", "last-stage")
    nephros.finetune(
        data, init=tmp_path / "run", methods=methods, folds=2, out=tmp_path / "tuned", device=GPU.type, subset=60
    )
    assert RunFolder.open(tmp_path / "tuned").info().status == "complete"
